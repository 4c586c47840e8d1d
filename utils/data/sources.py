"""Where a data set comes from: a folder of the reader's, Keras's cache or download, or a stand-in from PyPI."""

import contextlib
import io
import os
import pathlib
import socket
import threading
import time
import urllib.request
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

PATIENCE = 3  # seconds to wait for a network that may not be there
DOWNLOAD = 180  # seconds that a whole download may take


class Collection(NamedTuple):
    """A data set of `keras.datasets`: how its files look, and what takes its place."""

    name: str  # its name in keras.datasets; the file is name.npz
    title: str
    shape: tuple  # of an image, in the file
    url: str  # where Keras downloads it from
    cached: str  # the file that Keras keeps in its folder `datasets`
    size: str  # of the download
    stand_in: Callable  # () -> as `load`
    stand_in_words: str  # what the stand-in is


def load(collection):
    """The arrays of `collection` from the first source that has them, and one printed line that says which.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: images `[n, height, width, channels]`, float32 in [0, 1], and
        labels `[n]`, int64.

    Raises:
        ValueError: the file in the folder `NN_DATA` cannot be read or holds something else.
    """
    title = collection.title
    for find, words in (
        (_from_folder, f"{title}, from the folder that NN_DATA names"),
        (_from_keras, f"{title}, from Keras"),
        (lambda _: collection.stand_in(), collection.stand_in_words),
    ):
        splits = find(collection)
        if splits is not None:
            (x_train, _), (x_test, _) = splits
            print(f"{words}: {len(x_train):,} training and {len(x_test):,} test images.")
            return splits


def at_hand(collection):
    """Whether `load` has the real images of `collection` without asking the network."""
    folder = os.environ.get("NN_DATA")
    in_folder = bool(folder) and (pathlib.Path(folder).expanduser() / f"{collection.name}.npz").is_file()
    return in_folder or _cache(collection).is_file()


def _from_folder(collection):
    """The arrays from the folder `NN_DATA`; None, with a word, if the folder has no such file."""
    folder = os.environ.get("NN_DATA")
    if not folder:
        return None
    path = pathlib.Path(folder).expanduser() / f"{collection.name}.npz"
    if path.is_file():
        return _read(path, collection)
    state = f"does not hold {path.name}" if path.parent.is_dir() else "does not exist"
    print(
        f"The folder that NN_DATA names {state}. Received: NN_DATA={folder!r}. Expected: a folder "
        f"with {path.name} in the layout of keras.datasets (x_train, y_train, x_test, y_test). "
        "Put the file there or unset NN_DATA; meanwhile the next source is tried."
    )
    return None


def _cache(collection):
    home = os.environ.get("KERAS_HOME") or os.path.join(os.path.expanduser("~"), ".keras")
    return pathlib.Path(home) / "datasets" / collection.cached


def _from_keras(collection):
    """The arrays from Keras's cache or download; None if they are in neither."""
    import keras

    title, cache = collection.title, _cache(collection)
    if not cache.is_file():
        if not _reachable(collection.url):
            return None
        print(f"Downloading {title} ({collection.size}) for at most {DOWNLOAD} seconds.")
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)  # Keras sets no time limit for its download
    try:
        with contextlib.redirect_stdout(_Clock(DOWNLOAD)):
            (x_train, y_train), (x_test, y_test) = getattr(keras.datasets, collection.name).load_data()
    except Exception as error:  # whatever the network does, the notebook goes on
        print(
            f"Keras could not give {title} ({error}). If {cache} exists, delete it: "
            "it may be damaged. Meanwhile the next source is used."
        )
        return None
    finally:
        socket.setdefaulttimeout(before)
    return as_arrays(x_train, y_train), as_arrays(x_test, y_test)


class _Clock(io.StringIO):
    """Takes the place of stdout during a download: swallows Keras's progress bar, and ends it when the time is up.

    An error raised where the bar is drawn stops the download, and Keras then deletes the incomplete file.
    """

    def __init__(self, seconds):
        super().__init__()
        self.seconds, self.end = seconds, time.monotonic() + seconds

    def write(self, text):
        if time.monotonic() > self.end:
            raise TimeoutError(f"it took longer than {self.seconds} seconds")
        return len(text)


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


def _read(path, collection):
    """Read and check an `.npz`; a file that is damaged is named and not used."""
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
        labels_fit = y.shape in (x.shape[:1], (*x.shape[:1], 1)) and y.dtype.kind in "iu"
        if (
            x.dtype != np.uint8
            or x.shape[1:] != collection.shape
            or not len(x)
            or not labels_fit
            or not 0 <= y.min() <= y.max() <= 9
        ):
            shape = ", ".join(map(str, collection.shape))
            raise ValueError(
                f"{path} does not hold {collection.title}. Received: x_{split} {x.dtype} {x.shape}, y_{split} "
                f"{y.dtype} {y.shape}. Expected: uint8 images (n, {shape}) and as many whole labels "
                f"from 0 to 9. {advice}"
            )
    return tuple(as_arrays(arrays[f"x_{split}"], arrays[f"y_{split}"]) for split in ("train", "test"))


def as_arrays(x, y):
    """Bytes `[n, height, width]`, with channels or without, and labels -> float32 in [0, 1] with channels, int64."""
    images = np.divide(x, np.float32(255), dtype="float32")
    return images if images.ndim == 4 else images[..., None], y.reshape(-1).astype("int64")
