"""Trained networks that all notebooks share: `load_model(name)`."""

import hashlib
import json
import pathlib

import utils  # noqa: F401  (first: it starts TensorFlow without its log lines)

# isort: split
import keras

from models.architectures import ARCHITECTURES
from models.photographs import read_log

WEIGHTS = pathlib.Path(__file__).resolve().parent / "weights"


def load_model(name):
    """Return a trained network of the series, ready to be explained.

    Args:
        name: one of `mnist_dense`, `mnist_cnn`, `mnist_cnn_max`, `cluttered_cnn`, `cifar10_allcnn`, `cifar10_hans`;
            `models.architectures` says what each is.

    Returns:
        A built `keras.Sequential` that maps images `[n, 28, 28, 1]` (`cluttered_cnn`: scenes `[n, 60, 60, 1]`, the
        last two: photographs `[n, 32, 32, 3]`) in [0, 1] to logits `[n, 10]`.

    Raises:
        ValueError: there is no such network, its weights are missing, or they are not the weights
            that `NAME.json` describes (their sha256 differs).
    """
    if name not in ARCHITECTURES:
        raise ValueError(f"There is no such network. Received: {name!r}. Expected one of: {', '.join(ARCHITECTURES)}.")
    path = WEIGHTS / f"{name}.weights.h5"
    advice = f"Restore it with `git checkout models/weights`, or train it again with `python -m models.train {name}`."
    if not path.is_file():
        raise ValueError(f"The weights file {path.name} is missing from models/weights. {advice}")
    expected, received = model_card(name)["sha256"], sha256(path)
    if received != expected:
        raise ValueError(
            f"{path.name} is not the file that {name}.json describes. Received sha256: {received}. "
            f"Expected: {expected}. The download or the copy may be damaged. {advice}"
        )
    model = ARCHITECTURES[name]()
    model.load_weights(path)
    return model


def untrained_model(name):
    """Return a network as it was before its training: the initial weights come back from the seed on its card.

    For photographs they are the same on every machine (see `models.initial`); those of the digits' networks are drawn
    by TensorFlow, of which another version may draw others.
    """
    keras.utils.set_random_seed(model_card(name)["seed"])
    return ARCHITECTURES[name]()


def training_log(name):
    """Return what `NAME.log.csv` says of the training of a network for photographs, epoch by epoch.

    Returns:
        A list of dictionaries: `epoch`; `accuracy` and `loss`, means over the epoch in training; `test_accuracy` and
        `test_loss` after it; `minutes`.

    Raises:
        ValueError: there is no log, or it is not the one that belongs to the weights (its sha256 differs).
    """
    path = WEIGHTS / f"{name}.log.csv"
    rows, expected = read_log(path), model_card(name).get("log_sha256")
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
