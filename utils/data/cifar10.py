"""Small photographs: CIFAR-10 where it can be had, and pieces of scikit-image's photographs where it cannot."""

import itertools
import pathlib

import numpy as np

from .sources import Collection, at_hand, load

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
CAT, HORSE, NO_CLASS = 3, 7, -1
# colour pictures inside of scikit-image's own files (nothing is downloaded), and the class of CIFAR-10 that they show
PICTURES = {
    "chelsea.png": CAT,
    "astronaut.png": NO_CLASS,
    "horse.png": HORSE,  # not a photograph, but a black silhouette on white
    "coffee.png": NO_CLASS,
    "motorcycle_left.png": NO_CLASS,
    "rocket.jpg": NO_CLASS,
}
SCALES = 1, 0.8, 0.64  # the side of a piece, as a share of the picture's shorter side


def load_cifar10():
    """Return CIFAR-10, from the first of three sources that has it, and print one line that says which.

    1. the folder named by the environment variable `NN_DATA`, if it holds `cifar10.npz`;
    2. Keras's cache (`~/.keras/datasets`) or download (170 MB, given up after three minutes), if there is a network;
    3. pieces of the photographs that come with scikit-image: see `embedded_photographs`.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: images `[n, 32, 32, 3]`, float32 in [0, 1], and labels `[n]`, int64,
        which index `CIFAR10_CLASSES`. Labels are -1 for those embedded photographs that show none of the ten classes.

    Raises:
        ValueError: `cifar10.npz` in `NN_DATA` cannot be read or does not hold CIFAR-10's arrays.
    """
    return load(CIFAR10)


def has_real_cifar10():
    """Whether `load_cifar10` has the real CIFAR-10 at hand, without asking the network."""
    return at_hand(CIFAR10)


def embedded_photographs():
    """Pieces, 32 x 32 pixels, of the pictures that come with scikit-image: enough to run with, not to train on.

    A cat (the only photograph of a class of CIFAR-10), an astronaut, a cup of coffee, a motorcycle, a rocket, and
    the silhouette of a horse are cut at three scales and up to nine places. Training and test pieces take turns, so
    they show the same pictures and overlap.

    Returns:
        As `load_cifar10`. A label is 3 for the cat, 7 for the horse and -1 for the others.

    Raises:
        FileNotFoundError: a scikit-image whose files hold none of these pictures.
    """
    import skimage.data
    from PIL import Image

    folder = pathlib.Path(skimage.data.__file__).parent
    found = [name for name in PICTURES if (folder / name).is_file()]
    if not found:
        raise FileNotFoundError(
            f"scikit-image comes without its pictures. Received: none of {', '.join(PICTURES)} in {folder}. "
            "Expected: the files of the wheel on PyPI; run `pip install --force-reinstall scikit-image`."
        )
    pieces = [[], []]  # of training, of test
    for name in found:
        with Image.open(folder / name) as file:
            picture = file.convert("RGB")
        for k, box in enumerate(_boxes(*picture.size)):
            piece = picture.resize((32, 32), Image.Resampling.BOX, box=box)
            pieces[k % 2].append((k, list(PICTURES).index(name), np.asarray(piece), PICTURES[name]))
    splits = []
    for split in pieces:
        split.sort(key=lambda piece: piece[:2])  # one of each picture, then the next of each
        images, labels = np.stack([piece[2] for piece in split]), np.array([piece[3] for piece in split])
        splits.append((np.divide(images, np.float32(255), dtype="float32"), labels.astype("int64")))
    return tuple(splits)


def _boxes(width, height):
    """Squares `(left, top, right, bottom)` in a picture: whole, then smaller, at the ends and in the middle."""
    for scale in SCALES:
        side = round(scale * min(width, height))
        places = [sorted({0, (length - side) // 2, length - side}) for length in (width, height)]
        for left, top in itertools.product(*places):
            yield left, top, left + side, top + side


CIFAR10 = Collection(
    name="cifar10",
    title="CIFAR-10",
    shape=(32, 32, 3),
    url=CIFAR10_URL,
    cached="cifar-10-batches-py-target_archive",
    size="170 MB",
    stand_in=embedded_photographs,
    stand_in_words="scikit-image's photographs in place of CIFAR-10, which is not within reach",
)
