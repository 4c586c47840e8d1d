"""The three sources of CIFAR-10, the order of its classes, and the time limits of a download."""

import http.server
import pathlib
import socket
import threading
import time

import numpy as np
import pytest

from utils import data
from utils.data import cifar10, sources

REAL = data.has_real_cifar10()  # before the fixture below hides it


@pytest.fixture
def no_sources(monkeypatch, tmp_path):
    """No folder, no cache and no network."""
    monkeypatch.delenv("NN_DATA", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(cifar10, "CIFAR10", cifar10.CIFAR10._replace(url="http://127.0.0.1:9/cifar10.tar.gz"))


def tiny_cifar10(**changes):
    rng = np.random.default_rng(0)
    arrays = {
        "x_train": rng.integers(0, 256, (6, 32, 32, 3), "uint8"),
        "y_train": np.arange(6, dtype="uint8"),
        "x_test": rng.integers(0, 256, (4, 32, 32, 3), "uint8"),
        "y_test": np.arange(6, 10, dtype="uint8"),
    }
    return {key: value for key, value in (arrays | changes).items() if value is not None}


def check(splits):
    for x, y in splits:
        assert x.dtype == "float32" and x.shape[1:] == (32, 32, 3) and x.min() >= 0 and x.max() <= 1
        assert y.dtype == "int64" and y.shape == x.shape[:1]


def test_the_classes_stand_in_the_official_order():
    assert data.CIFAR10_CLASSES == tuple("airplane automobile bird cat deer dog frog horse ship truck".split())


@pytest.mark.skipif(not REAL, reason="needs the real CIFAR-10 at hand")
def test_the_official_images_in_the_official_order():
    (x_train, y_train), (x_test, y_test) = splits = data.load_cifar10()
    check(splits)
    assert (len(x_train), len(x_test)) == (50000, 10000)
    assert y_train[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]
    assert y_test[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]
    assert np.bincount(y_train).tolist() == [5000] * 10 and np.bincount(y_test).tolist() == [1000] * 10
    assert np.rint(255 * x_test[0, 0, 0]).tolist() == [158, 112, 49]  # red, green, blue of the first pixel
    means = x_train[:2000].mean((0, 1, 2), dtype="float64")
    assert np.allclose(means, [0.4914, 0.4822, 0.4465], atol=0.02)  # of all images, as everybody subtracts them


@pytest.mark.parametrize("column", [False, True], ids=["labels [n]", "labels [n, 1]"])
def test_the_folder_comes_first(no_sources, monkeypatch, tmp_path, capsys, column):
    arrays = tiny_cifar10()
    shape = (-1, 1) if column else (-1,)  # keras.datasets returns a column
    np.savez(tmp_path / "cifar10.npz", **{k: v.reshape(shape) if k[0] == "y" else v for k, v in arrays.items()})
    monkeypatch.setenv("NN_DATA", str(tmp_path))
    (x_train, y_train), (_, y_test) = splits = data.load_cifar10()
    check(splits)
    assert np.array_equal(np.rint(x_train * 255), arrays["x_train"])
    assert np.array_equal(y_train, arrays["y_train"]) and np.array_equal(y_test, arrays["y_test"])
    assert capsys.readouterr().out == "CIFAR-10, from the folder that NN_DATA names: 6 training and 4 test images.\n"
    assert data.has_real_cifar10()


def test_keras_comes_second(no_sources, monkeypatch, tmp_path, capsys):
    arrays = tiny_cifar10()
    monkeypatch.setattr(sources, "_reachable", lambda url: True)
    monkeypatch.setattr(
        "keras.datasets.cifar10.load_data",
        lambda: tuple((arrays[f"x_{split}"], arrays[f"y_{split}"][:, None]) for split in ("train", "test")),
    )
    check(data.load_cifar10())
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "Downloading CIFAR-10 (170 MB) for at most 180 seconds.",
        "CIFAR-10, from Keras: 6 training and 4 test images.",
    ]
    assert not data.has_real_cifar10()
    (tmp_path / "keras/datasets").mkdir(parents=True)
    (tmp_path / "keras/datasets/cifar-10-batches-py-target_archive").touch()  # the name that keras.datasets gives it
    assert data.has_real_cifar10()
    check(data.load_cifar10())
    assert capsys.readouterr().out == "CIFAR-10, from Keras: 6 training and 4 test images.\n"


def test_without_folder_cache_and_network_the_photographs_come(no_sources, capsys):
    start = time.monotonic()
    check(data.load_cifar10())
    assert time.monotonic() - start < data.PATIENCE + 3
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "scikit-image" in said and "not within reach" in said
    assert not data.has_real_cifar10()


@pytest.fixture
def slow_server():
    """A server on this machine that sends 8 KB every 20 ms: it always answers, and takes its time."""

    class Slow(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b"x" * 8192)
                    time.sleep(0.02)
            except OSError:  # nobody listens any more
                pass

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/cifar10.tar.gz"
    server.shutdown()
    server.server_close()


def test_a_download_that_goes_on_and_on_is_given_up(no_sources, slow_server, monkeypatch, tmp_path, capsys):
    import keras

    monkeypatch.setattr(cifar10, "CIFAR10", cifar10.CIFAR10._replace(url=slow_server))
    monkeypatch.setattr(sources, "DOWNLOAD", 0.5)

    def load_data():  # with the function that Keras downloads with
        return keras.utils.get_file("part", slow_server, cache_dir=str(tmp_path))

    monkeypatch.setattr("keras.datasets.cifar10.load_data", load_data)
    before, start = socket.getdefaulttimeout(), time.monotonic()
    check(data.load_cifar10())
    assert 0.4 < time.monotonic() - start < 1.9  # all of it would take 2.4 seconds
    assert socket.getdefaulttimeout() == before  # other connections are left alone
    said = capsys.readouterr().out
    assert "it took longer than 0.5 seconds" in said and said.endswith("test images.\n")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]  # nothing incomplete is left to be found


@pytest.mark.parametrize("kind", ["garbage", "empty", "truncated", "bit flipped"])
def test_a_damaged_file_is_named_and_not_used(no_sources, monkeypatch, tmp_path, kind):
    path = tmp_path / "cifar10.npz"
    np.savez_compressed(path, **tiny_cifar10())
    content = bytearray(path.read_bytes())
    if kind == "bit flipped":
        content[len(content) // 3] ^= 1
    else:
        content = {"garbage": b"no archive", "empty": b"", "truncated": content[: len(content) // 2]}[kind]
    path.write_bytes(content)
    monkeypatch.setenv("NN_DATA", str(tmp_path))
    message = "cifar10.npz cannot be read.*Expected.*Copy cifar10.npz again, or unset NN_DATA"
    with pytest.raises(ValueError, match=message):
        data.load_cifar10()


@pytest.mark.parametrize(
    "changes",
    [
        {"x_test": np.zeros((4, 28, 28, 3), "uint8")},
        {"x_test": np.zeros((4, 3, 32, 32), "uint8")},  # channels first
        {"x_train": np.zeros((6, 32, 32, 3), "float32")},
        {"x_train": np.zeros((0, 32, 32, 3), "uint8"), "y_train": np.zeros(0, "uint8")},
        {"y_test": np.zeros(3, "uint8")},
        {"y_test": np.zeros((4, 10), "uint8")},  # one-hot
        {"y_test": np.full(4, 10, "uint8")},
        {"y_train": np.full(6, -1)},
        {"y_train": np.zeros(6)},
        {"y_train": None},
    ],
    ids=["size", "order", "type", "none", "fewer", "one-hot", "classes", "negative", "fractions", "missing"],
)
def test_a_file_with_other_arrays_is_refused(no_sources, monkeypatch, tmp_path, changes):
    np.savez(tmp_path / "cifar10.npz", **tiny_cifar10(**changes))
    monkeypatch.setenv("NN_DATA", str(tmp_path))
    with pytest.raises(ValueError, match="cifar10.npz .*Expected.*unset NN_DATA"):
        data.load_cifar10()


def test_mnist_in_the_place_of_cifar10_is_refused(no_sources, monkeypatch, tmp_path):
    changes = {"x_train": np.zeros((6, 28, 28), "uint8"), "x_test": np.zeros((4, 28, 28), "uint8")}
    np.savez(tmp_path / "cifar10.npz", **tiny_cifar10(**changes))
    monkeypatch.setenv("NN_DATA", str(tmp_path))
    with pytest.raises(
        ValueError, match=r"does not hold CIFAR-10.*\(6, 28, 28\).*Expected: uint8 images \(n, 32, 32, 3\)"
    ):
        data.load_cifar10()


def test_embedded_photographs_are_pieces_of_the_pictures():
    import skimage.data

    (x, y), (x_test, y_test) = splits = data.embedded_photographs()
    check(splits)
    assert len(x) >= 48 and len(x_test) >= 48
    for labels in (y, y_test):
        assert set(labels) == {-1, 3, 7} and min(np.bincount(labels + 1)[[0, 4, 8]]) >= 8
    assert y[:6].tolist() == [3, -1, 7, -1, -1, -1]  # one of each picture comes first
    everything = np.concatenate([x, x_test])
    apart = np.abs(everything[:, None] - everything[None]).mean((2, 3, 4))
    np.fill_diagonal(apart, 1)
    assert apart.min() > 0.004  # no piece comes twice
    # an independent way to the first piece: the means of squares of the cat's left side, 300 / 32 pixels wide
    cat = skimage.data.chelsea()[:, :300].astype(float)
    weights = np.clip(np.minimum(np.arange(1, 301), np.arange(1, 33)[:, None] * 300 / 32), 0, None)
    weights = np.clip(weights - np.maximum(np.arange(300), np.arange(32)[:, None] * 300 / 32), 0, 1) * 32 / 300
    means = np.einsum("ih,jw,hwc->ijc", weights, weights, cat) / 255
    assert np.abs(means - x[0]).max() < 0.025  # Pillow takes whole pixels
    horse = x[2].mean(-1)
    assert (horse < 0.1).mean() > 0.2 and (horse > 0.9).mean() > 0.4  # black on white, not on black


def test_the_photographs_need_no_download(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a download")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("urllib.request.urlopen", refuse)
    check(data.embedded_photographs())


def test_a_scikit_image_without_pictures_is_named(monkeypatch, tmp_path):
    import skimage.data

    monkeypatch.setattr(skimage.data, "__file__", str(pathlib.Path(tmp_path) / "__init__.py"))
    with pytest.raises(FileNotFoundError, match="comes without its pictures.*pip install"):
        data.embedded_photographs()
