"""The three sources of MNIST: which is used, what is said, and what is refused."""

import time

import numpy as np
import pytest

from utils import data
from utils.data import mnist, sources


@pytest.fixture(autouse=True)
def no_sources(monkeypatch, tmp_path):
    """No folder, no cache and no network, unless a test makes one."""
    monkeypatch.delenv("NN_DATA", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(mnist, "MNIST", mnist.MNIST._replace(url="http://127.0.0.1:9/mnist.npz"))


def tiny_mnist(path, **changes):
    rng = np.random.default_rng(0)
    arrays = {
        "x_train": rng.integers(0, 256, (6, 28, 28), "uint8"),
        "y_train": np.arange(6, dtype="uint8"),
        "x_test": rng.integers(0, 256, (4, 28, 28), "uint8"),
        "y_test": np.arange(4, dtype="uint8"),
    }
    arrays = {key: value for key, value in (arrays | changes).items() if value is not None}
    np.savez_compressed(path, **arrays)
    return arrays


def check(splits):
    for x, y in splits:
        assert x.dtype == "float32" and x.shape[1:] == (28, 28, 1) and y.dtype == "int64" and len(x) == len(y)
        assert x.min() >= 0 and x.max() <= 1


def test_the_folder_comes_first(monkeypatch, tmp_path, capsys):
    arrays = tiny_mnist(tmp_path / "mnist.npz")
    monkeypatch.setenv("NN_DATA", str(tmp_path))
    (x_train, y_train), (x_test, y_test) = splits = data.load_mnist()
    check(splits)
    assert np.array_equal(np.rint(x_train[..., 0] * 255), arrays["x_train"])
    assert np.array_equal(y_test, arrays["y_test"])
    assert capsys.readouterr().out == "MNIST, from the folder that NN_DATA names: 6 training and 4 test images.\n"
    assert data.has_real_mnist()


def test_without_folder_cache_and_network_the_embedded_digits_come(capsys):
    start = time.monotonic()
    (x_train, _), (x_test, _) = splits = data.load_mnist()
    assert time.monotonic() - start < data.PATIENCE + 5
    check(splits)
    assert (len(x_train), len(x_test)) == (797, 1000)
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "scikit-learn" in said and "not within reach" in said
    assert not data.has_real_mnist()


def test_a_network_that_does_not_answer_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(sources, "PATIENCE", 0.2)
    monkeypatch.setattr(sources.urllib.request, "urlopen", lambda *a, **k: time.sleep(3600))
    start = time.monotonic()
    data.load_mnist()
    assert time.monotonic() - start < 5


def test_a_download_that_fails_is_reported(monkeypatch, capsys):
    monkeypatch.setattr(sources, "_reachable", lambda url: True)

    def fails():
        raise OSError("connection lost")

    monkeypatch.setattr("keras.datasets.mnist.load_data", fails)
    check(data.load_mnist())
    said = capsys.readouterr().out
    assert "connection lost" in said and "delete it" in said and "scikit-learn" in said


def test_keras_comes_second(monkeypatch, tmp_path, capsys):
    arrays = tiny_mnist(tmp_path / "mnist.npz")
    monkeypatch.setattr(sources, "_reachable", lambda url: True)
    monkeypatch.setattr(
        "keras.datasets.mnist.load_data",
        lambda: tuple((arrays[f"x_{split}"], arrays[f"y_{split}"]) for split in ("train", "test")),
    )
    check(data.load_mnist())
    assert "\nMNIST, from Keras: 6 training" in capsys.readouterr().out


@pytest.mark.parametrize("exists", [True, False])
def test_a_folder_without_the_file(monkeypatch, tmp_path, capsys, exists):
    folder = tmp_path if exists else tmp_path / "nowhere"
    monkeypatch.setenv("NN_DATA", str(folder))
    check(data.load_mnist())
    said = capsys.readouterr().out
    assert str(folder) in said and ("does not hold mnist.npz" if exists else "does not exist") in said
    assert "Expected: a folder with mnist.npz" in said and "unset NN_DATA" in said and "scikit-learn" in said


def damage(kind, path):
    if kind == "garbage":
        path.write_bytes(b"this is no archive")
    elif kind == "empty":
        path.write_bytes(b"")
    else:
        tiny_mnist(path)
        content = bytearray(path.read_bytes())
        if kind == "truncated":
            content = content[: len(content) // 2]
        else:  # one bit in the middle of the compressed images
            content[len(content) // 3] ^= 1
        path.write_bytes(content)


@pytest.mark.parametrize("kind", ["garbage", "empty", "truncated", "bit flipped"])
def test_a_damaged_file_is_named_and_not_used(monkeypatch, tmp_path, kind):
    damage(kind, tmp_path / "mnist.npz")
    monkeypatch.setenv("NN_DATA", str(tmp_path))
    with pytest.raises(ValueError, match="mnist.npz cannot be read.*Expected.*Copy mnist.npz again, or unset NN_DATA"):
        data.load_mnist()


@pytest.mark.parametrize(
    "changes",
    [
        {"x_test": np.zeros((4, 32, 32), "uint8")},
        {"x_test": np.zeros((4, 28, 28), "float32")},
        {"y_test": np.zeros(3, "uint8")},
        {"y_test": np.full(4, 11, "uint8")},
        {"y_train": None},
    ],
    ids=["size", "type", "labels", "classes", "missing"],
)
def test_a_file_with_other_arrays_is_refused(monkeypatch, tmp_path, changes):
    tiny_mnist(tmp_path / "mnist.npz", **changes)
    monkeypatch.setenv("NN_DATA", str(tmp_path))
    with pytest.raises(ValueError, match="mnist.npz .*Expected"):
        data.load_mnist()


def test_embedded_digits_look_like_mnist():
    (x, y), (x_test, y_test) = data.embedded_digits()
    images = np.concatenate([x, x_test])[..., 0]
    assert len(images) == 1797 and set(y) == set(y_test) == set(range(10))
    assert 0.1 < images.mean() < 0.17  # MNIST: 0.13
    rows = np.arange(28)
    centres = (images.sum(2) * rows).sum(1) / images.sum((1, 2)), (images.sum(1) * rows).sum(1) / images.sum((1, 2))
    assert np.abs(np.array(centres) - 13.5).max() < 1.5
    height = [np.ptp(np.flatnonzero(image.max(1) > 0.05)) + 1 for image in images]
    assert 18 <= np.median(height) <= 20
