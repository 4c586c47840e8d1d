"""Trained networks that all notebooks share: `load_model(name)`."""

import hashlib
import json
import pathlib

import utils  # noqa: F401  (first: it starts TensorFlow without its log lines)

# isort: split
import keras
import numpy as np

from models import code_space, photographs
from models.architectures import ARCHITECTURES
from models.boltzmann import RBM
from models.photographs import read_log

WEIGHTS = pathlib.Path(__file__).resolve().parent / "weights"


def load_model(name):
    """Return a trained network of the series, ready to be explained.

    Args:
        name: one of `mnist_dense`, `mnist_cnn`, `mnist_cnn_max`, `mnist_cnn_shuffled`, `cluttered_cnn`,
            `cifar10_allcnn`, `cifar10_hans`, or of `mnist_generator`, `mnist_discriminator`, `mnist_denoiser`;
            `models.architectures` and `models.generators` say what each is.

    Returns:
        Of the first seven, a built `keras.Sequential` that maps images `[n, 28, 28, 1]` (`cluttered_cnn`: scenes
        `[n, 60, 60, 1]`, the last two: photographs `[n, 32, 32, 3]`) in [0, 1] to logits `[n, 10]`. The generator maps
        codes `[n, 256]` to images, the discriminator images to logits `[n, 1]`, the denoiser images to images.

    Raises:
        ValueError: there is no such network, its weights are missing, or they are not the weights
            that `NAME.json` describes (their sha256 differs).
    """
    if name not in ARCHITECTURES:
        hint = " (`models.load_rbm()` loads the Boltzmann machine)" if name == "mnist_rbm" else ""
        raise ValueError(
            f"There is no such network{hint}. Received: {name!r}. Expected one of: {', '.join(ARCHITECTURES)}."
        )
    path = verified(name, "weights.h5")
    model = ARCHITECTURES[name]()
    model.load_weights(path)
    return model


def load_rbm():
    """Return the restricted Boltzmann machine `mnist_rbm`, of 784 pixels and 500 hidden units.

    Returns:
        `models.boltzmann.RBM`, a named tuple of arrays, float32: `weights` `[784, 500]`, `visible_bias` `[784]`,
        `hidden_bias` `[500]`. `models.boltzmann` has its free energy and draws from it.

    Raises:
        ValueError: its file is missing, or is not the one that `mnist_rbm.json` describes (its sha256 differs).
    """
    return RBM(**load_arrays("mnist_rbm"))


def load_arrays(name, of=None):
    """Return the arrays that are kept with a network, a dictionary.

    Args:
        name, of: `"mnist_generator", "codes"`: `mean` and `std` `[256]` of the codes of the training digits, and
            `class_means` `[10, 256]`; `"mnist_generator", "snapshots"`: `steps` `[k]` of the training and `images`
            `[k, 10, 28, 28]`, uint8, ten test digits as they were reconstructed then; `"mnist_rbm"`: its parameters.

    Raises:
        ValueError: there is no such file, or it is not the one that `NAME.json` describes (its sha256 differs).
    """
    with np.load(verified(name, f"{of}.npz" if of else "npz"), allow_pickle=False) as arrays:
        return dict(arrays)


def verified(name, end):
    """The path of the file `NAME.END`, if it is there and is the one that `NAME.json` describes."""
    path = WEIGHTS / f"{name}.{end}"
    advice = f"Restore it with `git checkout models/weights`, or train it again with `python -m models.train {name}`."
    if not path.is_file():
        raise ValueError(f"The weights file {path.name} is missing from models/weights. {advice}")
    of = end.rpartition(".")[0]
    key = "sha256" if of in ("", "weights") else f"{of}_sha256"
    expected, received = model_card(name).get(key), sha256(path)
    if received != expected:
        raise ValueError(
            f"{path.name} is not the file that {name}.json describes. Received sha256: {received}. "
            f"Expected: {expected}. The download or the copy may be damaged. {advice}"
        )
    return path


def untrained_model(name):
    """Return a network as it was before its training: the initial weights come back from the seed on its card.

    For photographs they are the same on every machine (see `models.initial`); those of the digits' networks are drawn
    by TensorFlow, of which another version may draw others.
    """
    keras.utils.set_random_seed(model_card(name)["seed"])
    return ARCHITECTURES[name]()


def training_log(name):
    """Return what `NAME.log.csv` says of the training of a network for photographs, or of the generator, by epochs.

    Returns:
        A list of dictionaries: `epoch`; `accuracy` and `loss`, means over the epoch in training; `test_accuracy` and
        `test_loss` after it; `minutes`. Of `mnist_generator`: `epoch`; `image_loss`, `code_loss`, `adversarial_loss`
        and `discriminator_accuracy` in training; `test_image_loss` and `test_code_loss` after it; `minutes`.

    Raises:
        ValueError: there is no log, or it is not the one that belongs to the weights (its sha256 differs).
    """
    path = WEIGHTS / f"{name}.log.csv"
    columns = code_space.LOG if name == "mnist_generator" else photographs.LOG
    rows, expected = read_log(path, columns), model_card(name).get("log_sha256")
    if sha256(path) != expected:
        raise ValueError(
            f"{path.name} is not the log of {name}.weights.h5. Received sha256: {sha256(path)}. Expected: {expected}. "
            f"Restore both with `git checkout models/weights`, or train again with `python -m models.train {name}`."
        )
    return rows


def model_card(name):
    """Return what `NAME.json` says of a network: how it was trained, its accuracies, versions, sha256."""
    path = WEIGHTS / f"{name}.json"
    if not path.is_file():
        raise ValueError(
            f"{path.name} is missing from models/weights. Restore it with `git checkout models/weights`, "
            f"or train the network again with `python -m models.train {name}`."
        )
    return json.loads(path.read_text())


def sha256(path):
    """Return the sha256 of a file, in hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
