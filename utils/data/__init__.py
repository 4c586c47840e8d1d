"""Images for the notebooks: real where they can be had, and a stand-in from PyPI where they cannot."""

from .cifar10 import CIFAR10_CLASSES, embedded_photographs, has_real_cifar10, load_cifar10
from .marks import MAGENTA, Marked, cifar10_with_marks
from .mnist import MNIST_URL, embedded_digits, has_real_mnist, load_mnist
from .scenes import Scenes, cluttered_digits
from .sources import PATIENCE

__all__ = [
    "load_mnist",
    "load_cifar10",
    "has_real_mnist",
    "has_real_cifar10",
    "embedded_digits",
    "embedded_photographs",
    "cluttered_digits",
    "Scenes",
    "cifar10_with_marks",
    "Marked",
    "MAGENTA",
    "CIFAR10_CLASSES",
    "MNIST_URL",
    "PATIENCE",
]
