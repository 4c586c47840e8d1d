"""Images for the notebooks: real where they can be had, and a stand-in from PyPI where they cannot."""

import contextlib
import io
import os
import pathlib
import socket
import threading
import urllib.request
from typing import NamedTuple

import numpy as np
import scipy.ndimage

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


class Scenes(NamedTuple):
    """What `cluttered_digits` returns; unpack it as `scenes, labels, masks`."""

    images: np.ndarray  # [n, size, size, 1], float32 in [0, 1]
    labels: np.ndarray  # [n], int64; with several digits a scene [n, digits]
    masks: np.ndarray  # [n, size, size], bool: where the digit has ink; with several [n, digits, size, size]


def cluttered_digits(images, labels, n, size=60, seed=0, fragments=8, digits=1, same_class=False):
    """Make scenes of whole digits among fragments of others, with the digits' masks: ground truth for a heat map.

    A digit is drawn at a random place, 0.8 to 1.2 times its size. A fragment is a window of 8 x 8
    pixels, as much enlarged, cut from a digit of another class than the whole ones, where that has
    ink. The boxes around the whole digits overlap neither each other nor a fragment, so on its mask
    a scene shows the digit and nothing else.

    Args:
        images, labels: the digits to draw from, `[m, 28, 28, 1]` (or without the last axis) in
            [0, 1] and `[m]`, as `load_mnist` returns them.
        n: how many scenes.
        size: height and width of a scene in pixels.
        seed: a whole number. Scene i depends on `seed` and i alone: the first 10 of 1,000 scenes
            are the same as 10 scenes.
        fragments: how many fragments a scene holds.
        digits: how many whole digits.
        same_class: with several digits, whether they are different pictures of one class; otherwise
            no two of them have the same class.

    Returns:
        `Scenes(images, labels, masks)`: `[n, size, size, 1]` float32, `[n]` int64 and
        `[n, size, size]` bool; with `digits` > 1, labels `[n, digits]` and masks
        `[n, digits, size, size]`.

    Raises:
        ValueError: images and labels that do not fit, too few classes to draw from, or scenes too
            small to hold the digits and fragments.
    """
    images, labels = _check_digits(images, labels, n, digits, same_class)
    scenes = np.zeros((n, size, size, 1), "float32")
    chosen = np.zeros((n, digits), "int64")
    masks = np.zeros((n, digits, size, size), bool)
    for i in range(n):
        rng = np.random.default_rng([seed, i])
        picks = _pick(labels, digits, same_class, rng)
        drawings = [_drawing(_ink(images[pick]), rng) for pick in picks]
        boxes = _places([drawing.shape for drawing in drawings], size, rng)
        others = np.flatnonzero(~np.isin(labels, labels[picks]))
        for pick in rng.choice(others, fragments):
            piece = _drawing(_window(images[pick], rng), rng)
            top, left = _places([piece.shape], size, rng, boxes)[0][:2]
            part = scenes[i, top : top + piece.shape[0], left : left + piece.shape[1], 0]
            np.maximum(part, piece, out=part)
        for digit, (drawing, (top, left, bottom, right)) in enumerate(zip(drawings, boxes)):
            scenes[i, top:bottom, left:right, 0] = drawing
            masks[i, digit, top:bottom, left:right] = drawing > 0
        chosen[i] = labels[picks]
    return Scenes(scenes, chosen, masks) if digits > 1 else Scenes(scenes, chosen[:, 0], masks[:, 0])


def _check_digits(images, labels, n, digits, same_class):
    """The digits as `[m, height, width]` and their labels, or a ValueError."""
    images, labels = np.asarray(images, "float32"), np.asarray(labels)
    if images.ndim == 4 and images.shape[-1] == 1:
        images = images[..., 0]
    if images.ndim != 3 or labels.shape != images.shape[:1] or not len(images):
        raise ValueError(
            f"These are not digits and their labels. Received: images {images.shape}, labels {labels.shape}. "
            "Expected: images (m, height, width, 1) and labels (m,), as load_mnist returns them."
        )
    if not (np.isfinite(images).all() and images.min() >= 0 and images.max() <= 1):
        raise ValueError(
            f"Images lie in [0, 1], 0 being background. Received: from {images.min()} to {images.max()}. "
            "Divide by 255 if they are bytes."
        )
    if not images.any((1, 2)).all():
        raise ValueError("Each digit needs some ink. Received: an image that is 0 everywhere. Leave it out.")
    if n < 0 or digits < 1:
        raise ValueError(f"Expected: n >= 0 scenes of digits >= 1. Received: n={n}, digits={digits}.")
    classes, counts = np.unique(labels, return_counts=True)
    needed = 2 if same_class else digits + 1
    if len(classes) < needed or (same_class and counts.min() < digits):
        raise ValueError(
            f"Too few digits to draw from: {digits} whole ones and fragments of other classes need at least {needed} "
            f"classes{f' of {digits} images' if same_class else ''}. Received: {dict(zip(classes.tolist(), counts))}."
        )
    return images, labels


def _pick(labels, digits, same_class, rng):
    """Indices of the whole digits of a scene: pictures of one class, or no two of the same class."""
    first = rng.integers(len(labels))
    if same_class:
        alike = np.flatnonzero(labels == labels[first])
        return np.append(first, rng.choice(alike[alike != first], digits - 1, replace=False))
    picks = [first]
    while len(picks) < digits:
        picks.append(rng.choice(np.flatnonzero(~np.isin(labels, labels[picks]))))
    return np.array(picks)


def _ink(image):
    """An image without its empty margins."""
    rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
    return image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _window(image, rng, side=8):
    """A window of `side` pixels around a random pixel that has ink."""
    ink = np.argwhere(image > 0.5) if (image > 0.5).any() else np.argwhere(image > 0)
    top, left = rng.choice(ink) - side // 2
    return np.pad(image, side)[top + side : top + 2 * side, left + side : left + 2 * side]


def _drawing(image, rng, scales=(0.8, 1.2)):
    """`image` at a random scale."""
    scale = rng.uniform(*scales)
    factors = [max(1, round(scale * side)) / side for side in image.shape]
    return np.clip(scipy.ndimage.zoom(image, factors, order=1, mode="nearest", grid_mode=True), 0, 1)


def _places(shapes, size, rng, taken=(), trials=2000):
    """Boxes `(top, left, bottom, right)` of these shapes in a scene, clear of each other and of those `taken`."""
    for _ in range(trials):
        boxes = list(taken)
        for height, width in shapes:
            if max(height, width) > size:
                break
            top, left = rng.integers(size - height + 1), rng.integers(size - width + 1)
            box = (top, left, top + height, left + width)
            if any(top < b[2] and b[0] < box[2] and left < b[3] and b[1] < box[3] for b in boxes):
                break
            boxes.append(box)
        else:
            return boxes[len(taken) :]
    raise ValueError(
        f"The digits and fragments do not fit into a scene without overlap. Received: size={size}. "
        "Expected: more pixels, fewer digits (60 pixels hold two), or fewer fragments."
    )
