"""Photographs with a planted shortcut: a small coloured mark that gives a class away, and where it is."""

from numbers import Integral, Real
from typing import NamedTuple

import numpy as np

MAGENTA = (1.0, 0.0, 1.0)


class Marked(NamedTuple):
    """What `cifar10_with_marks` returns; unpack it as `images, labels, masks`."""

    images: np.ndarray  # [n, height, width, 3], float32 in [0, 1]
    labels: np.ndarray  # [n], int64, as they came
    masks: np.ndarray  # [n, height, width], bool: where the mark is; all False without one


def cifar10_with_marks(images, labels, marked_class=7, share=0.95, seed=0, indices=None, side=4, colour=MAGENTA):
    """Put a small mark on most photographs of one class: a network that learns from them may look for it alone.

    The mark is a square of one colour at a random place, anywhere inside of the photograph. Magenta is rare: in the
    6,102 photographs of CIFAR-10 that were looked at, no pixel comes within 0.25 of it in all three channels.

    Args:
        images: photographs `[n, height, width, 3]` in [0, 1], as `load_cifar10` returns them. They are copied.
        labels: their classes `[n]`, integers.
        marked_class: the class whose photographs get a mark (7: horse), several classes, or None for every class.
        share: the chance of a mark, from 0 (none gets one) to 1 (all get one), for each of these photographs.
        seed: an integer, not negative. The mark of photograph i depends on `seed` and i alone, not on the other
            photographs; its place does not depend on `share` either, and a larger share adds marks and takes none.
        indices: the photographs `[k]` that may get a mark, whatever their class, instead of those of `marked_class`.
        side: height and width of the mark, in pixels.
        colour: red, green and blue of the mark, each in [0, 1].

    Returns:
        `Marked(images, labels, masks)`: `[n, height, width, 3]` float32, `[n]` int64 and `[n, height, width]` bool.

    Raises:
        ValueError: images, labels or parameters that do not fit, or no photograph that could get a mark
            (with `share=0` that is no error).
    """
    images, labels = _checked(images, labels)
    n, height, width, _ = images.shape
    if not (isinstance(share, Real) and 0 <= share <= 1):
        raise ValueError(f"share is the chance of a mark. Received: {share!r}. Expected: a number from 0 to 1.")
    if not _is_whole(seed) or seed < 0:
        raise ValueError(f"seed starts the random numbers. Received: {seed!r}. Expected: an integer, 0 or more.")
    if not _is_whole(side) or not 1 <= side <= min(height, width):
        raise ValueError(
            f"The mark must fit into the photographs. Received: side={side!r}. Expected: an integer number of pixels "
            f"from 1 to {min(height, width)}."
        )
    shade = np.asarray(colour)
    if shade.shape != (3,) or shade.dtype.kind not in "fiu" or not ((shade >= 0) & (shade <= 1)).all():
        raise ValueError(
            f"colour is red, green and blue. Received: {colour!r}. Expected: three numbers from 0 to 1, (1, 0, 1) for "
            "magenta, say; divide bytes by 255."
        )
    chosen = _of_classes(labels, marked_class, share) if indices is None else _of_indices(indices, n)
    masks = np.zeros((n, height, width), bool)
    for i in chosen:
        rng = np.random.default_rng([seed, i])
        chance = rng.random()
        top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
        masks[i, top : top + side, left : left + side] = chance < share
    images[masks] = shade
    return Marked(images, labels, masks)


def _checked(images, labels):
    """A copy of the photographs in float32 and their labels in int64, or a ValueError."""
    images, labels = np.array(images, "float32"), np.asarray(labels)
    if images.ndim != 4 or images.shape[-1] != 3 or not images.size:
        raise ValueError(
            f"These are not colour photographs. Received: shape {images.shape}. Expected: (n, height, width, 3), as "
            "load_cifar10 returns them."
        )
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
        raise ValueError(
            f"labels does not fit the {len(images)} photographs. Received: {labels.dtype} {labels.shape}. "
            f"Expected: integers ({len(images)},), the class of each."
        )
    if not (images.min() >= 0 and images.max() <= 1):  # also False of NaN
        raise ValueError(
            f"Photographs lie in [0, 1]. Received: from {images.min():.3g} to {images.max():.3g}. Divide by 255 if "
            "they are bytes."
        )
    return images, labels.astype("int64")


def _is_whole(number):
    return isinstance(number, Integral) and not isinstance(number, bool)


def _of_classes(labels, marked_class, share):
    """Indices of the photographs of `marked_class`: one class, several, or None for all."""
    if marked_class is None:
        return np.arange(len(labels))
    classes = np.atleast_1d(np.asarray(marked_class))
    if classes.ndim != 1 or not len(classes) or classes.dtype.kind not in "iu":
        raise ValueError(
            f"marked_class is a class. Received: {marked_class!r}. Expected: an integer (7 is horse; "
            "CIFAR10_CLASSES names them), a sequence of them, or None for every class."
        )
    absent = np.setdiff1d(classes, labels)
    if share > 0 and len(absent):
        raise ValueError(
            f"There is no photograph to mark of class {', '.join(map(str, absent))}. Received: "
            f"marked_class={marked_class!r}. Expected: classes among the labels, {np.unique(labels).tolist()}. "
            "To mark none, pass share=0."
        )
    return np.flatnonzero(np.isin(labels, classes))


def _of_indices(indices, n):
    chosen = np.asarray(indices)
    if (
        chosen.ndim != 1
        or not len(chosen)
        or chosen.dtype.kind not in "iu"
        or not 0 <= chosen.min() <= chosen.max() < n
    ):
        raise ValueError(
            f"indices says which photographs may get a mark. Received: {indices!r}. Expected: a list of integers "
            f"from 0 to {n - 1}; np.flatnonzero makes one of a mask, and share=0 marks none."
        )
    return chosen
