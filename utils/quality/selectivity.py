"""Selectivity: how fast does the score fall when what is most relevant is taken away?"""

import numpy as np

from ..checks import as_array, integer, one_of
from ..scores import checked
from .fills import fill_of

ORDERS = "most", "least", "random"


def pixel_flipping(
    model,
    x,
    maps,
    target=None,
    patch=4,
    steps=None,
    order="most",
    fill=0.0,
    *,
    method=None,
    seed=0,
    explain="logit",
    batch_size=None,
):
    """Pixel flipping: the score while the patches of an image are removed, the most relevant ones first.

    Samek et al. (2017, arXiv:1509.06321), section III, and Montavon, Samek and Müller (2018, arXiv:1706.07979), section
    7.2. The relevance of a patch is the sum of the map over it. Patches of equal relevance are removed in a random
    order, so a map that says nothing is removed like "random".

    Args:
        maps: `[n, height, width]` or `[n, height, width, channels]`, of which the channels are summed; None with
            `method` or for a random order.
        patch: side of the patches in pixels; those at the lower and right edge are smaller if it does not divide the
            side of the image.
        steps: how many patches are removed; None for all.
        order: "most" relevant first, "least" relevant first, or "random".
        fill: what stands in place of removed pixels: a number, one for each channel, an image, or one for each of x;
            "blur" for the blurred image (an eighth of its side), "inpaint" for what OpenCV draws from the edge of the
            hole; or a function of images and masks `[n, height, width]`, True where removed, `linear_imputation()`
            for example.
        method: instead of `maps`, a function (model, x, target) that returns them: the map is made anew of what is left
            of the image after each step.
        seed: of the random order, another for each image, which also depends on its place among them.

    Returns:
        Scores `[steps + 1, n]`, the first of them those of the whole images.
    """
    f, x, target, fill = _checked(model, x, target, fill, explain, batch_size)
    patches = _patches(x, patch)
    steps = _steps(steps, patches)
    if method is None:
        ranks = _ranks(_relevance(maps, x, patches, order), order, seed)
        removed = [(ranks < k)[:, patches] for k in range(steps + 1)]
        return np.stack([f(fill(x, gone), target, batch_size) for gone in removed])
    if maps is not None or one_of(order, "order", ORDERS) == "random":
        raise ValueError(
            "method makes the maps anew after each step. Received: maps or order='random' beside it. Expected: "
            "maps=None, and order='most' or 'least'."
        )
    left, gone, scores = x, np.zeros((len(x), patches.max() + 1), bool), [f(x, target, batch_size)]
    for _ in range(steps):
        relevance = _relevance(method(model, left, target), x, patches, order)
        relevance[gone] = -np.inf if order == "most" else np.inf
        gone[_ranks(relevance, order, seed) == 0] = True
        left = fill(x, gone[:, patches])
        scores.append(f(left, target, batch_size))
    return np.stack(scores)


def insertion(
    model,
    x,
    maps,
    target=None,
    patch=4,
    steps=None,
    order="most",
    fill=0.0,
    *,
    seed=0,
    explain="logit",
    batch_size=None,
):
    """Insertion: the score while the patches of an image are put back, the most relevant ones first.

    The insertion metric of Petsiuk, Das and Saenko (2018, arXiv:1806.07421); theirs starts at a blur, `fill="blur"`.
    Arguments and scores `[steps + 1, n]` as of `pixel_flipping`; the first scores are those without any patch.
    """
    f, x, target, fill = _checked(model, x, target, fill, explain, batch_size)
    patches = _patches(x, patch)
    steps = _steps(steps, patches)
    ranks = _ranks(_relevance(maps, x, patches, order), order, seed)
    return np.stack([f(fill(x, (ranks >= k)[:, patches]), target, batch_size) for k in range(steps + 1)])


def area_under_curve(scores):
    """The mean height `[n]` of curves `[steps + 1, n]`, by the trapezoid rule: the area under them over [0, 1].

    In the unit of the score. For `pixel_flipping` in the order "most", and for `insertion` in the order "least", the
    smaller the better; otherwise the larger.
    """
    scores = np.asarray(scores, "float64")
    if scores.ndim != 2 or len(scores) < 2 or not np.isfinite(scores).all():
        raise ValueError(f"Expected: finite scores [steps + 1, n], of at least one step. Received: {scores.shape}.")
    return (scores[:-1] + scores[1:]).mean(0) / 2


def _checked(model, x, target, fill, explain, batch_size):
    f, x, target = checked(model, x, target, explain, batch_size)
    if x.ndim != 4:
        raise ValueError(f"Expected: images [n, height, width, channels]. Received: shape {x.shape}.")
    return f, x, target, fill_of(fill, x, f.images)


def _patches(x, patch):
    """The number of the patch that each pixel belongs to, `[height, width]`."""
    patch = integer(patch, "patch")
    down, right = (np.arange(length) // patch for length in x.shape[1:3])
    return down[:, None] * (right[-1] + 1) + right


def _steps(steps, patches):
    steps, many = patches.max() + 1 if steps is None else integer(steps, "steps"), patches.max() + 1
    if steps > many:
        raise ValueError(f"There are not so many patches to remove. Received: steps={steps}. Expected: at most {many}.")
    return steps


def _relevance(maps, x, patches, order):
    """The relevance of each patch, `[n, patches]`."""
    if one_of(order, "order", ORDERS) == "random" and maps is None:
        return np.zeros((len(x), patches.max() + 1))
    maps = as_array(maps, "maps")
    if maps.shape not in (x.shape, x.shape[:-1]):
        raise ValueError(
            f"maps do not fit x. Received: shape {maps.shape}. Expected: {x.shape[:-1]}, one value for each pixel, or "
            f"{x.shape}; of class activation maps, take upsample=True."
        )
    maps = maps.astype("float64")
    if not np.isfinite(maps).all():
        raise ValueError("The maps hold numbers that are not finite.")
    maps = maps.sum(-1) if maps.ndim == 4 else maps
    sums = [np.bincount(patches.ravel(), one.ravel()) for one in maps]
    return np.array(sums).reshape(len(x), patches.max() + 1)  # a shape even for no images


def _ranks(relevance, order, seed):
    """The place of each patch in the order in which they are removed, from 0, `[n, patches]`."""
    draw = np.random.default_rng(integer(seed, "seed", least=0)).random(relevance.shape)
    first = {"most": -relevance, "least": relevance, "random": np.zeros_like(relevance)}[order]
    return np.lexsort((draw, first), axis=1).argsort(1)
