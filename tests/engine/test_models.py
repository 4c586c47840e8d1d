"""The trained networks: what they promise, how they are loaded, and how they are made."""

import json
import os
import runpy
import shutil
import sys

import numpy as np
import pytest

import models
from models import train
from utils import data

DIGITS = {"mnist_dense": 0.975, "mnist_cnn": 0.99, "mnist_cnn_max": 0.992}
PROMISED = DIGITS | {"mnist_cnn_shuffled": 0.0, "cluttered_cnn": 0.97, "cifar10_allcnn": 0.88, "cifar10_hans": 0.79}


@pytest.fixture(scope="module")
def embedded():
    return [np.concatenate(arrays) for arrays in zip(*data.embedded_digits())]


@pytest.fixture(scope="module")
def mnist():
    """Read once."""
    return data.load_mnist()


@pytest.fixture
def little_mnist(mnist, monkeypatch):
    monkeypatch.setattr(data, "load_mnist", lambda: tuple((x[:500], y[:500]) for x, y in mnist))


@pytest.mark.parametrize("name", DIGITS)
def test_accuracies(name, embedded, mnist):
    card, model = models.model_card(name), models.load_model(name)
    assert card["test_images"] == 10_000 and card["test_accuracy"] >= PROMISED[name]
    on_embedded = train.accuracy(model, *embedded)
    assert on_embedded >= 0.93 and abs(on_embedded - card["embedded_digits_accuracy"]) < 2e-3
    if data.has_real_mnist():
        assert abs(train.accuracy(model, *mnist[1]) - card["test_accuracy"]) < 5e-4


def test_what_was_learned_by_heart(mnist):
    card, model = models.model_card("mnist_cnn_shuffled"), models.load_model("mnist_cnn_shuffled")
    assert card["accuracy_on_shuffled"] > 0.99 and abs(card["test_accuracy"] - 0.1) < 0.02
    if data.has_real_mnist():
        x, y = (values[: train.BY_HEART] for values in mnist[0])
        shuffled = np.random.default_rng(card["seed"]).permutation(y)
        assert train.accuracy(model, x[:2000], shuffled[:2000]) > 0.99


def test_accuracy_on_scenes(embedded, mnist):
    """On some of the card's 2,000 scenes of embedded digits, and on others than its scenes of MNIST."""
    card, model = models.model_card("cluttered_cnn"), models.load_model("cluttered_cnn")
    assert card["test_images"] == 10_000 and card["test_accuracy"] >= PROMISED["cluttered_cnn"]
    n, promised = 400, card["embedded_digits_accuracy"]
    x, y, _ = data.cluttered_digits(*embedded, n)
    assert abs(train.accuracy(model, x, y) - promised) < 3 * standard_error(promised, n) * (1 - n / 2_000) ** 0.5
    if data.has_real_mnist():
        promised = card["test_accuracy"]
        x, y, _ = data.cluttered_digits(*mnist[1], n, seed=5)
        assert abs(train.accuracy(model, x, y) - promised) < 3 * standard_error(promised, n)


@pytest.mark.skipif(not data.has_real_cifar10(), reason="needs the photographs of CIFAR-10")
def test_accuracy_on_photographs():
    """On some of the first 1,000 test images, for which the card has an accuracy of its own."""
    card, model = models.model_card("cifar10_allcnn"), models.load_model("cifar10_allcnn")
    assert card["test_images"] == 10_000 and card["test_accuracy"] >= PROMISED["cifar10_allcnn"]
    promised, n = card["first_1000_test_accuracy"], 300
    _, (x, y) = data.load_cifar10()
    assert abs(train.accuracy(model, x[:n], y[:n]) - promised) < 3 * standard_error(promised, n) * (1 - n / 1000) ** 0.5


def test_the_log_of_photographs_ends_with_what_the_card_says():
    rows, card = models.training_log("cifar10_allcnn"), models.model_card("cifar10_allcnn")
    assert len(rows) == card["epochs"] and abs(rows[-1]["test_accuracy"] - card["test_accuracy"]) < 1e-3
    assert rows[-1]["test_loss"] < 0.5 * rows[0]["test_loss"]


def standard_error(share, n):
    return (share * (1 - share) / n) ** 0.5


@pytest.mark.parametrize("name", PROMISED)
def test_cards_and_files(name):
    card = models.model_card(name)
    assert card["name"] == name and card["epochs"] > 0 and card["parameters"] == models.load_model(name).count_params()
    assert {"seed", "versions", "trained_on", "sha256"} <= set(card)
    assert (models.WEIGHTS / f"{name}.weights.h5").stat().st_size < 2_000_000


@pytest.mark.parametrize("name", ["mnist_dense", "mnist_cnn"])
def test_networks_without_biases_are_homogeneous(name):
    model, x = models.load_model(name), np.random.default_rng(0).random((8, 28, 28, 1), "float32")
    for t in (0.01, 3.0):
        assert np.allclose(model(t * x), t * model(x).numpy(), rtol=1e-3, atol=1e-4)
    biased = models.load_model("mnist_cnn_max")
    assert not np.allclose(biased(3 * x), 3 * biased(x).numpy(), rtol=1e-3, atol=1e-4)


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A copy of the weights folder that a test may spoil."""
    shutil.copytree(models.WEIGHTS, tmp_path / "weights")
    monkeypatch.setattr(models, "WEIGHTS", tmp_path / "weights")
    return tmp_path / "weights"


def test_an_unknown_network():
    with pytest.raises(ValueError, match="Received: 'resnet'. Expected one of: mnist_dense, mnist_cnn"):
        models.load_model("resnet")


def test_weights_whose_sha256_differs(copied):
    path = copied / "mnist_dense.weights.h5"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match="(?s)mnist_dense.weights.h5 .*Received sha256.*Expected.*git checkout.*models.train"
    ):
        models.load_model("mnist_dense")


def test_missing_files(copied):
    (copied / "mnist_dense.weights.h5").unlink()
    with pytest.raises(ValueError, match="mnist_dense.weights.h5 is missing.*models.train mnist_dense"):
        models.load_model("mnist_dense")
    (copied / "mnist_cnn.json").unlink()
    with pytest.raises(ValueError, match="mnist_cnn.json is missing"):
        models.load_model("mnist_cnn")


def test_training_writes_a_network_that_loads(tmp_path, monkeypatch, little_mnist):
    monkeypatch.setattr(models, "WEIGHTS", tmp_path)
    card = train.train("mnist_dense", tmp_path, epochs=1, images=256)
    assert sorted(os.listdir(tmp_path)) == ["mnist_dense.json", "mnist_dense.weights.h5"]
    assert json.loads((tmp_path / "mnist_dense.json").read_text()) == card
    assert models.load_model("mnist_dense").count_params() == 266_200
    assert 0.1 < card["test_accuracy"] < 1


def test_training_needs_all_of_mnist(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "load_mnist", data.embedded_digits)
    with pytest.raises(ValueError, match="Received: 797 training images. Expected: 60,000. Set NN_DATA"):
        train.train("mnist_dense", tmp_path)


def test_training_that_is_interrupted_leaves_what_was_there(copied, monkeypatch, little_mnist):
    before = {path.name: path.read_bytes() for path in copied.iterdir()}
    monkeypatch.setattr(models, "sha256", lambda path: 1 / 0)  # the weights are written, their card is not
    with pytest.raises(ZeroDivisionError):
        train.train("mnist_dense", copied, epochs=1, images=128)
    assert {path.name: path.read_bytes() for path in copied.iterdir()} == before


def test_training_needs_all_of_cifar10(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "load_cifar10", data.embedded_photographs)
    with pytest.raises(ValueError, match="training images. Expected: 50,000. Set NN_DATA"):
        train.train("cifar10_allcnn", tmp_path)


def test_the_command_refuses_an_unknown_name(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train.py", "resnet"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(train.__file__, run_name="__main__")  # as `python -m models.train resnet`
    said = capsys.readouterr().err
    assert stopped.value.code == 2 and "resnet" in said and "mnist_cnn_max" in said
    with pytest.raises(ValueError, match="Received: 'resnet'"):
        train.train("resnet")
