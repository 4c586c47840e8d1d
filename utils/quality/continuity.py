"""Continuity: do images that are nearly the same get maps that are nearly the same?"""

import numpy as np
from scipy import ndimage

from ..checks import as_array, integer, number
from ..scores import checked


def continuity(method, model, x, target, moves, unit_mass=False, *, explain="logit"):
    """Continuity: the largest change of the map, relative to that of the image, over neighbours of the image.

        max over x' of norm_1(R(x) - R(x')) / norm_2(x - x')

    Montavon, Samek and Müller (2018, arXiv:1706.07979), section 7.1, where x' runs over all images; here over those
    that are given, so it is a lower bound. The smaller the better, but a map that is small, or always the same, has a
    small one as well: compare with a constant map, and with `unit_mass`.

    Args:
        method: a function (model, x, target) that returns maps.
        target: as for the methods; None for the class predicted of x, which is kept for its neighbours.
        moves: the neighbours, `[k, n, ...]`, for example from `shifts` or `noisy_copies`, or a list of arrays in the
            shape of x.
        unit_mass: scale the absolute values of each map to the sum 1 first, so that only its form counts; NaN for an
            image of which one of the maps is zero everywhere.

    Returns:
        `[n]`.
    """
    f, x, target = checked(model, x, target, explain, None)
    neighbours = [f.images(one, f"moves[{k}]") for k, one in enumerate(moves)]
    if not neighbours or any(one.shape != x.shape for one in neighbours):
        raise ValueError(
            f"moves must hold neighbours of each image, [k, {', '.join(map(str, x.shape))}]. Received: "
            f"{[one.shape for one in neighbours][:3]}."
        )

    def maps(images):
        R = np.asarray(method(model, images, target), "float64")
        if R.shape[:1] != x.shape[:1] or not np.isfinite(R).all():
            raise ValueError(f"method must return a finite map for each image. Received: shape {R.shape}.")
        if unit_mass:
            with np.errstate(invalid="ignore"):
                R = R / _sums(np.abs(R)).reshape(-1, *[1] * (R.ndim - 1))
        return R

    here, largest = maps(x), np.zeros(len(x))
    for k, one in enumerate(neighbours):
        way = np.sqrt(_sums(np.square(one - x, dtype="float64")))
        if not way.all():
            raise ValueError(
                f"moves[{k}] leaves image {int(np.flatnonzero(way == 0)[0])} where it is, so there is no change to "
                "divide by. Leave that move or that image out."
            )
        largest = np.maximum(largest, _sums(np.abs(here - maps(one))) / way)  # NaN stays NaN
    return largest


def _sums(values):
    return values.sum(tuple(range(1, values.ndim)))


def shifted(x, right=0.0, down=0.0, fill=0.0):
    """Images `[n, height, width, channels]`, moved by so many pixels, also parts of one: linear between pixels.

    By SciPy: before its version 5, OpenCV's `warpAffine` rounds to 1/32 of a pixel.

    Args:
        fill: the value of what comes in at the edge, a number.
    """
    x = as_array(x, "x")
    if x.ndim != 4 or x.dtype.kind != "f":
        raise ValueError(f"Expected: images [n, height, width, channels] of floats. Received: {x.dtype} {x.shape}.")
    right, down, fill = number(right, "right"), number(down, "down"), number(fill, "fill")
    wide = x.astype(np.promote_types(x.dtype, "float32"))  # SciPy has no halves
    moved = np.empty_like(wide)
    for image, result in zip(wide, moved):
        for k in range(x.shape[3]):
            ndimage.shift(image[..., k], (down, right), result[..., k], order=1, mode="grid-constant", cval=fill)
    return moved.astype(x.dtype)


def shifts(x, pixels=1.0, fill=0.0):
    """Neighbours of images: moved by so many pixels to the right, left, down and up, `[4, n, ...]`; see `shifted`."""
    ways = (1, 0), (-1, 0), (0, 1), (0, -1)
    return np.stack([shifted(x, pixels * right, pixels * down, fill) for right, down in ways])


def noisy_copies(x, sigma=0.02, copies=4, seed=0):
    """Neighbours of images: with normal noise of the deviation sigma, `[copies, n, ...]`; the same for each image."""
    x, sigma = as_array(x, "x"), number(sigma, "sigma", 0)
    if x.dtype.kind != "f":
        raise ValueError(f"Expected: images of floats. Received: {x.dtype}.")
    drawn = np.random.default_rng(integer(seed, "seed", least=0)).standard_normal(
        (integer(copies, "copies"), 1, *x.shape[1:])
    )
    return (x + sigma * drawn).astype(x.dtype)
