"""Explanations by covering parts of the image: how does the score change?

Nothing but scores is asked for, so any model will do, also one without gradients or backward rules. What is covered is
covered in all channels, so all channels of a place have the same value.
"""

import math

import numpy as np

from .checks import integer, number
from .progress import progress_bar
from .scores import checked


def occlusion(
    model,
    x,
    target=None,
    window=4,
    stride=2,
    baseline=None,
    *,
    explain="logit",
    batch_size=None,
    progress=False,
):
    """Occlusion: how much the score drops when a window of the image is covered.

        R_i = mean of f_c(x) - f_c(x with window w at the baseline), over the windows w that cover pixel i

    Zeiler and Fergus (2014, arXiv:1311.2901, section 4.2), who show the score for each place of the window. In the
    unit of the score. Its price is one forward pass for each window: ((28 - 4) / 2 + 1)^2 = 169 for a digit.

    Args:
        window: side of the window in pixels, a number, or one for each axis (height, width).
        stride: from one window to the next, likewise; at most `window`, so that each pixel is covered. A last window
            that does not fit is cut off at the edge.
        baseline: what stands in the window, in any form that `integrated_gradients` takes for its baseline.
        progress: show a progress bar.
    """
    f, x, target = checked(model, x, target, explain, batch_size)
    baseline = f.baselines(baseline, x)
    size = spatial(x)
    window, stride = one_per_axis(window, "window", size), one_per_axis(stride, "stride", size)
    if any(w > length for w, length in zip(window, size)) or any(s > w for s, w in zip(stride, window)):
        raise ValueError(
            f"window must fit into the image, and stride into the window, so that each pixel is covered. Received: "
            f"window {window}, stride {stride}, image {size}."
        )
    starts = [np.arange(0, length - w + s, s) for length, w, s in zip(size, window, stride)]

    def windows(some):
        axes = []
        for first, place, w, length in zip(starts, np.unravel_index(some, [*map(len, starts)]), window, size):
            pixels = np.arange(length) - first[place][:, None]
            axes.append(((0 <= pixels) & (pixels < w)).astype(x.dtype))
        return outer(axes)

    full, covered = f(x, target, batch_size), np.zeros(math.prod(size))
    drops = np.zeros((len(x), math.prod(size)))
    many = math.prod(map(len, starts))
    for images, hidden, scores in _scores(f, x, target, baseline, windows, many, batch_size, progress):
        drops[images] += (full[images, None] - scores).astype("float64") @ hidden
        if images.start == 0:
            covered += hidden.sum(0)
    return on_all_channels(drops / covered, x)


def rise(
    model,
    x,
    target=None,
    masks=2000,
    cells=7,
    p=0.5,
    seed=0,
    baseline=None,
    *,
    explain="logit",
    batch_size=None,
    return_standard_error=False,
    progress=False,
):
    """RISE, randomized input sampling: the mean score of masked images in which a pixel can be seen.

        R_i = 1 / (p N) sum_k f_c(x * M_k) M_ki

    Petsiuk, Das and Saenko (2018, arXiv:1806.07421), equation 6. A mask is a coarse grid of zeros and ones, enlarged
    to more than the image (bilinear, half-pixel centres) and cut out at a random place. In the unit of the score: a
    pixel that does not matter has the mean score of all masked images, not 0. The authors take the probability for
    the score: `explain="output"` of a model that ends in a softmax.

    Args:
        masks: their number N. Memory does not depend on it; the standard error falls with its square root.
        cells: of the grid, along each axis.
        p: the probability that a cell can be seen, between 0 and 1.
        seed: an integer. All images get the same masks, so the map of an image does not depend on those beside it.
        baseline: what is seen where a mask is 0, x' + M (x - x'), in any form that `integrated_gradients` takes.
        return_standard_error: also return the standard error of R, in its shape: how far R varies with the seed.
        progress: show a progress bar.
    """
    masks = integer(masks, "masks", least=2 if return_standard_error else 1)
    f, x, target = checked(model, x, target, explain, batch_size)
    baseline = f.baselines(baseline, x)
    size = spatial(x)
    draw = random_masks(size, cells, p, seed)
    total, squares = np.zeros((2, len(x), math.prod(size)))

    def hide(some):
        return 1 - draw(len(some)).astype(x.dtype)

    for images, hidden, scores in _scores(f, x, target, baseline, hide, masks, batch_size, progress):
        seen, score = 1 - hidden, scores.astype("float64") / p
        total[images] += score @ seen
        if return_standard_error:
            squares[images] += np.square(score) @ np.square(seen)
    mean = total / masks
    if not return_standard_error:
        return on_all_channels(mean, x)
    variance = np.maximum(squares / masks - np.square(mean), 0)
    return on_all_channels(mean, x), on_all_channels(np.sqrt(variance / (masks - 1)), x)


def random_masks(size, cells, p, seed=0):
    """The masks of RISE, drawn on: a function of a number k that returns the next k, `[k, *size]`, from 0 to 1.

    Args:
        size: of the image, (height, width).
        cells, p, seed: as in `rise`.
    """
    size, cells = [integer(length, "size") for length in size], integer(cells, "cells")
    if not 0 < number(p, "p", 0, 1) < 1:
        raise ValueError(f"p must lie between 0 and 1: at either, all masks are the same. Received: {p!r}.")
    seed = integer(seed, "seed", least=0)
    generator = np.random.default_rng(seed)
    cell = [math.ceil(length / cells) for length in size]
    enlarge = []  # for each axis [pixels, cells]: linear between the middles of the cells, held beyond the last ones
    for length in cell:
        middles = (np.arange((cells + 1) * length) + 0.5) * cells / ((cells + 1) * length) - 0.5
        enlarge.append(np.stack([np.interp(middles, np.arange(cells), one) for one in np.eye(cells)], 1))

    def draw(k):
        # one row of numbers for each mask, so that masks do not depend on how many are drawn at a time
        drawn = generator.random((k, len(size) + cells ** len(size)))
        shifts, made = drawn[:, : len(size)], drawn[:, len(size) :] < p
        made = made.reshape(k, *[cells] * len(size)).astype(float)
        for axis, (length, rows) in enumerate(zip(size, enlarge)):
            first = (shifts[:, axis] * cell[axis]).astype(int)
            own = rows[first[:, None] + np.arange(length)]  # [k, pixels, cells]
            moved = np.moveaxis(made, axis + 1, 1)
            moved = (own @ moved.reshape(k, cells, -1)).reshape(k, length, *moved.shape[2:])
            made = np.moveaxis(moved, 1, axis + 1)
        return made

    return draw


def _scores(f, x, target, baseline, hide, many, batch_size, progress):
    """Scores of images with parts of them at the baseline.

    Args:
        hide: function of the numbers `[k]` of masks that returns them `[k, *size]`, 1 where the baseline stands;
            called once for each mask, in order.
        many: number of masks.

    Yields:
        A slice of images, masks `[k, pixels]`, and the scores `[images, k]`.
    """
    size = f.batch_size(batch_size, x)
    length = min(many, size)
    group = max(1, size // length)
    advance = progress_bar(progress, len(x) * many, "forward pass")
    way = baseline - x
    for start in range(0, many, length):
        hidden = hide(np.arange(start, min(start + length, many)))
        on_channels = hidden if x.ndim == 2 else hidden[..., None]
        for first in range(0, len(x), group):
            images = slice(first, min(first + group, len(x)))
            covered = x[images, None] + on_channels * way[images, None]  # [images, k, ...]
            shape = covered.shape[:2]
            labels = np.repeat(target[images], shape[1])
            scores = f(covered.reshape(-1, *x.shape[1:]), labels, len(labels))
            yield images, hidden.reshape(len(hidden), -1), scores.reshape(shape)
            advance(scores.size)


def spatial(x):
    """The axes of an image without its channels, (height, width); all of a row of numbers."""
    return x.shape[1:] if x.ndim == 2 else x.shape[1:-1]


def one_per_axis(value, name, size):
    """A whole number for each axis, from one for all or one for each, or a ValueError."""
    values = [value] * len(size) if np.ndim(value) == 0 else list(value)
    if len(values) != len(size):
        raise ValueError(f"{name} must be a number, or one for each of {len(size)} axes. Received: {value!r}.")
    return tuple(integer(one, name) for one in values)


def outer(axes):
    """From `[k, length]` for each axis the products `[k, *lengths]`."""
    product = axes[0]
    for axis in axes[1:]:
        product = product[..., None] * axis.reshape(len(axis), *[1] * (product.ndim - 1), -1)
    return product


def on_all_channels(maps, x):
    """Maps `[n, pixels]` in the shape and type of x."""
    maps = maps.reshape(len(x), *spatial(x)).astype(x.dtype)
    return maps if x.ndim == 2 else np.repeat(maps[..., None], x.shape[-1], -1)
