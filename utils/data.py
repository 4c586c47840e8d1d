"""Images for the notebooks: real where they can be had, and a stand-in from PyPI where they cannot."""

import contextlib
import io
import os
import pathlib
import socket
import threading
import urllib.request

import numpy as np

MNIST_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
PATIENCE = 3  # seconds to wait for a network that may not be there


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
    for source in (_from_folder, _from_keras, embedded_digits):
        found = source()
        if found is not None:
            (x_train, _), (x_test, _) = splits = found
            names = {
                _from_folder: "MNIST, from the folder that NN_DATA names",
                _from_keras: "MNIST, from Keras",
                embedded_digits: "scikit-learn's digits in place of MNIST, which is not within reach",
            }
            print(f"{names[source]}: {len(x_train):,} training and {len(x_test):,} test images.")
            return splits


def has_real_mnist():
    """Whether `load_mnist` has the real MNIST at hand, without asking the network."""
    folder = os.environ.get("NN_DATA")
    return bool(folder and (pathlib.Path(folder).expanduser() / "mnist.npz").is_file()) or _keras_cache().is_file()


def _from_folder():
    """MNIST from the folder `NN_DATA`; None, with a word, if the folder has no such file."""
    folder = os.environ.get("NN_DATA")
    if not folder:
        return None
    path = pathlib.Path(folder).expanduser() / "mnist.npz"
    if path.is_file():
        return _read(path)
    state = "does not hold mnist.npz" if path.parent.is_dir() else "does not exist"
    print(
        f"The folder that NN_DATA names {state}. Received: NN_DATA={folder!r}. Expected: a folder "
        "with mnist.npz in the layout of keras.datasets (x_train, y_train, x_test, y_test). "
        "Put the file there or unset NN_DATA; meanwhile the next source is tried."
    )
    return None


def _keras_cache():
    home = os.environ.get("KERAS_HOME") or os.path.join(os.path.expanduser("~"), ".keras")
    return pathlib.Path(home) / "datasets" / "mnist.npz"


def _from_keras():
    """MNIST from Keras's cache or download; None if it is in neither."""
    import keras

    if not (_keras_cache().is_file() or _reachable(MNIST_URL)):
        return None
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)  # the download has no time limit of its own
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # its progress bar
            (x_train, y_train), (x_test, y_test) = keras.datasets.mnist.load_data()
    except Exception as error:  # whatever the network does, the notebook goes on
        print(
            f"Keras could not give MNIST ({error}). If {_keras_cache()} exists, delete it: "
            "it may be damaged. Meanwhile the next source is used."
        )
        return None
    finally:
        socket.setdefaulttimeout(before)
    return _as_images(x_train, y_train), _as_images(x_test, y_test)


def _reachable(url):
    """Whether `url` answers within `PATIENCE` seconds, the look-up of its name included."""
    answers = []

    def ask():
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            answers.append(answer.status)

    thread = threading.Thread(target=ask, daemon=True)  # a name look-up cannot be given a limit
    thread.start()
    thread.join(PATIENCE)
    return answers == [200]


def _read(path):
    """Read and check a `mnist.npz`; a file that is damaged is named and not used."""
    advice = f"Copy {path.name} again, or unset NN_DATA to use another source."
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in ("x_train", "y_train", "x_test", "y_test")}
    except Exception as error:  # a damaged archive raises errors of many types
        raise ValueError(
            f"{path} cannot be read: {error}. Expected: an .npz file with the arrays x_train, "
            f"y_train, x_test and y_test. {advice}"
        ) from error
    for split in ("train", "test"):
        x, y = arrays[f"x_{split}"], arrays[f"y_{split}"]
        labels_fit = y.shape == x.shape[:1] and y.dtype.kind in "iu"
        if (
            x.dtype != np.uint8
            or x.shape[1:] != (28, 28)
            or not len(x)
            or not labels_fit
            or not 0 <= y.min() <= y.max() <= 9
        ):
            raise ValueError(
                f"{path} does not hold MNIST. Received: x_{split} {x.dtype} {x.shape}, y_{split} "
                f"{y.dtype} {y.shape}. Expected: uint8 images (n, 28, 28) and as many whole labels "
                f"from 0 to 9. {advice}"
            )
    return tuple(_as_images(arrays[f"x_{split}"], arrays[f"y_{split}"]) for split in ("train", "test"))


def _as_images(x, y):
    """`[n, 28, 28]` of 0 to 255 and labels -> `[n, 28, 28, 1]` float32 in [0, 1] and int64."""
    return (x[..., None] / np.float32(255)).astype("float32"), y.astype("int64")


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
