"""Handwritten digits: MNIST where it can be had, and scikit-learn's digits where it cannot."""

import numpy as np

from .sources import Collection, at_hand, load

MNIST_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"


def load_mnist():
    """Return MNIST, from the first of three sources that has it, and print one line that says which.

    1. the folder named by the environment variable `NN_DATA`, if it holds `mnist.npz`;
    2. Keras's cache (`~/.keras/datasets`) or download, if there is a network;
    3. scikit-learn's 1,797 handwritten digits, made to look like MNIST: see `embedded_digits`.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: images `[n, 28, 28, 1]`, float32 in [0, 1] (0 is
        background), and labels `[n]`, int64.

    Raises:
        ValueError: `mnist.npz` in `NN_DATA` cannot be read or does not hold MNIST's arrays.
    """
    return load(MNIST)


def has_real_mnist():
    """Whether `load_mnist` has the real MNIST at hand, without asking the network."""
    return at_hand(MNIST)


def embedded_digits():
    """scikit-learn's handwritten digits (8 x 8, 1,797 of them), made to look like MNIST.

    Each is cropped, enlarged to 20 pixels on its longer side, sharpened, and placed with its centre
    of mass in the middle of 28 x 28 pixels: what MNIST's makers did with their larger originals.
    The first 797 stand for the training images and the last 1,000 for the test images.

    Returns:
        As `load_mnist`.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.stack([_as_mnist(image / 16) for image in digits.images])[..., None]
    labels = digits.target.astype("int64")
    return (images[:797], labels[:797]), (images[797:], labels[797:])


def _as_mnist(image):
    """One digit `[8, 8]` in [0, 1] as MNIST would have it: `[28, 28]` float32 in [0, 1]."""
    from skimage.transform import resize

    rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
    image = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = 20 / max(image.shape)
    shape = [max(1, round(scale * side)) for side in image.shape]
    image = resize(image, shape, order=3, mode="constant")
    image = np.clip((image - 0.25) / 0.6, 0, 1)  # a blurred edge becomes a sharp one
    mass = image.sum()
    top, left = (int(round(13.5 - (image.sum(1 - axis) * np.arange(shape[axis])).sum() / mass)) for axis in (0, 1))
    top, left = np.clip(top, 0, 28 - shape[0]), np.clip(left, 0, 28 - shape[1])
    canvas = np.zeros((28, 28), "float32")
    canvas[top : top + shape[0], left : left + shape[1]] = image
    return canvas


MNIST = Collection(
    name="mnist",
    title="MNIST",
    shape=(28, 28),
    url=MNIST_URL,
    cached="mnist.npz",
    size="11 MB",
    stand_in=embedded_digits,
    stand_in_words="scikit-learn's digits in place of MNIST, which is not within reach",
)
