"""Scenes of whole digits among fragments of others: pictures of which it is known where the class is."""

from typing import NamedTuple

import numpy as np
import scipy.ndimage


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
        seed: an integer. Scene i depends on `seed` and i alone: the first 10 of 1,000 scenes
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
