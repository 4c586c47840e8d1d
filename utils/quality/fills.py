"""What stands where pixels have been removed. A fill is a function of images `[n, height, width, channels]` and of
masks `[n, height, width]`, True where a pixel has been removed, that returns images; `fill_of` makes it.
"""

import functools

import cv2
import numpy as np
import scipy.sparse
import scipy.sparse.linalg

from ..checks import checked_baseline, integer, number, one_of

NAMED = "blur", "inpaint"
# OpenCV's inpainting adds up to 1.5 to what it draws: little for grey levels up to 255, all of the range up to 1
LEVELS = np.float32(2**20)


def fill_of(fill, x, check):
    """The fill that `fill` stands for: a number, one number a channel, an image or one for each, a name, a function.

    Args:
        check: what checks images.
    """
    if callable(fill):

        def call(x, removed):
            filled = np.asarray(fill(x.copy(), removed.copy()))
            if filled.shape != x.shape:
                raise ValueError(
                    f"fill must return images of the shape that it was given, {x.shape}. Received: {filled.shape}."
                )
            return keep_the_rest(check(filled, "fill(x, removed)"), x, removed)

        return call
    if isinstance(fill, str):
        one_of(fill, "fill", NAMED)
        if fill == "inpaint":
            return inpainted
        others = blurred(x)
    else:
        others = checked_baseline(fill, x, check, "fill")
    return lambda x, removed: keep_the_rest(others, x, removed)


def keep_the_rest(filled, x, removed):
    """`filled` where pixels have been removed, `x` elsewhere."""
    return np.where(removed[..., None], filled, x)


def blurred(x):
    """Images behind a Gaussian blur whose deviation is an eighth of their shorter side, by OpenCV."""
    deviation = min(x.shape[1:3]) / 8
    wide = np.promote_types(x.dtype, "float32")  # OpenCV has no halves
    blur = [cv2.GaussianBlur(one, (0, 0), deviation).reshape(x.shape[1:]) for one in x.astype(wide)]
    return np.array(blur, x.dtype).reshape(x.shape)


def inpainted(x, removed):
    """What OpenCV's inpainting draws into the holes, from their edge inwards (Telea, 2004); 0 where nothing is left."""
    filled = x.copy()
    for image, hole in zip(filled, removed):
        if hole.all():
            image[:] = 0
        elif hole.any():
            for channel in range(x.shape[-1]):
                plane = np.ascontiguousarray(image[..., channel], "float32") * LEVELS
                drawn = cv2.inpaint(plane, hole.astype("uint8"), 3, cv2.INPAINT_TELEA)
                image[hole, channel] = drawn[hole] / LEVELS
    return filled


NEIGHBOURS = {(0, 1): 1 / 6, (1, 0): 1 / 6, (1, 1): 1 / 12, (1, -1): 1 / 12}  # and those opposite; the eight sum to 1


def linear_imputation(noise=0.01, seed=0):
    """Noisy linear imputation: a removed pixel is the weighted mean of its eight neighbours, and a little noise.

    Rong et al. (2022, arXiv:2202.00449), section 5.2: neighbours at a side have the weight 1/6, at a corner 1/12; of
    removed ones the imputed values count, so a sparse system of linear equations is solved for each image. At the edge
    of the image the weights that are there are scaled to 1.

    Args:
        noise: its deviation, in the unit of the image.
        seed: of the noise, the same for each image and at each call.

    Returns:
        A function for the argument `fill` of `pixel_flipping` and `insertion`.
    """
    noise, seed = number(noise, "noise", 0), integer(seed, "seed", least=0)
    means_of_neighbours = functools.cache(_means_of_neighbours)  # each step of a curve asks for the same

    def fill(x, removed):
        height, width = x.shape[1:3]
        if removed.all((1, 2)).any():  # nothing to take from
            x = np.where(removed.all((1, 2))[:, None, None, None], 0, x)
            removed = removed & ~removed.all((1, 2), keepdims=True)
        neighbours = means_of_neighbours(height, width)
        drawn = noise * np.random.default_rng(seed).standard_normal(x.shape[1:])
        filled = x.copy()
        for image, hole in zip(filled, removed):
            if not hole.any():
                continue
            inside = hole.ravel()
            pixels = image.reshape(-1, image.shape[-1])
            rows = neighbours[inside]
            matrix = scipy.sparse.eye_array(int(inside.sum()), format="csc") - rows[:, inside].tocsc()
            known = rows[:, ~inside] @ pixels[~inside].astype("float64")
            image[hole] = scipy.sparse.linalg.splu(matrix).solve(known) + drawn[hole]
        return filled

    return fill


def _means_of_neighbours(height, width):
    """The sparse matrix `[pixels, pixels]` that takes the weighted mean of the neighbours of each pixel."""
    index = np.arange(height * width).reshape(height, width)
    entries = []
    for (down, right), weight in NEIGHBOURS.items():
        left, over = max(0, -right), max(0, right)
        here, there = index[: height - down, left : width - over], index[down:, over : width - left]
        entries.append((here.ravel(), there.ravel(), np.full(here.size, weight)))
        entries.append((there.ravel(), here.ravel(), np.full(here.size, weight)))
    rows, columns, weights = map(np.concatenate, zip(*entries))
    matrix = scipy.sparse.csr_array((weights, (rows, columns)), shape=(height * width,) * 2)
    return scipy.sparse.csr_array(scipy.sparse.diags_array(1 / matrix.sum(1)) @ matrix)
