"""Localisation: does the relevance lie on what the label means?

All take `maps`, `[n, height, width]` or `[n, height, width, channels]` (the channels are summed), and `masks`,
`[n, height, width]`, bool: where the object is. What counts in a map is what speaks for the class, its positive part.
All return `[n]`, a score from 0 to 1 for each map, 1 for the best; a map without positive values finds nothing and has
0. `mean_and_interval` makes one number of them, with its confidence interval.

A map that knows nothing gets about the share of the picture that the mask covers (uniform maps exactly that).
"""

import numpy as np


def pointing_game(maps, masks):
    """Pointing game: whether the largest value of the map lies on the mask; of several largest, the share that does.

    Zhang et al. (2016, arXiv:1608.00507), section 4.1, without a tolerance around the mask.
    """
    maps, masks = _checked(maps, masks)
    largest = (maps == maps.max((1, 2), keepdims=True)) & (maps > 0)
    return _share(largest, largest & masks)


def relevance_mass(maps, masks):
    """Relevance mass accuracy: the share of the positive relevance that lies on the mask.

    Arras, Osman and Samek (2022, doi:10.1016/j.inffus.2021.11.008), section 3.2.
    """
    maps, masks = _checked(maps, masks)
    return _share(maps, maps * masks)


def relevance_rank(maps, masks):
    """Relevance rank accuracy: of the K largest values of the map, the share on the mask, K being the mask's pixels.

    Arras, Osman and Samek (2022), section 3.2. Of equal values at the K-th place, each counts for the share of them
    that still fits in: what a random order gives on average. Zeros count for nothing.
    """
    maps, masks = _checked(maps, masks)
    scores = np.zeros(len(maps))
    for i, (values, mask) in enumerate(zip(maps, masks)):
        K = mask.sum()
        last = np.partition(values.ravel(), -K)[-K]
        above, at = values > last, (values == last) & (values > 0)
        hits = (above & mask).sum()
        if at.any():
            hits = hits + (at & mask).sum() * (K - above.sum()) / at.sum()
        scores[i] = hits / K
    return scores


def intersection_over_union(maps, masks, threshold=0.5):
    """Intersection over union of the mask and of what is at least `threshold` times the largest value of the map.

    The measure of Zhou et al. (2016, arXiv:1512.04150, section 3.2), who take the box around that region.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold is a share of the largest value, above 0 and at most 1. Received: {threshold!r}.")
    maps, masks = _checked(maps, masks)
    region = (maps >= threshold * maps.max((1, 2), keepdims=True)) & (maps > 0)
    return _share(region | masks, region & masks)


MEASURES = {
    "pointing game": pointing_game,
    "relevance mass": relevance_mass,
    "relevance rank": relevance_rank,
    "IoU": intersection_over_union,
}


def _share(of, part):
    """sum(part) / sum(of) for each image, 0 where there is nothing."""
    of, part = (values.sum((1, 2), dtype="float64") for values in (of, part))
    return np.divide(part, of, out=np.zeros(len(of)), where=of > 0)


def _checked(maps, masks):
    """The positive parts of the maps, and the masks as bool, both `[n, height, width]`."""
    maps, masks = np.asarray(maps), np.asarray(masks)
    maps = maps.sum(-1) if maps.ndim == 4 else maps
    if maps.ndim != 3 or maps.shape != masks.shape:
        raise ValueError(
            f"Maps and masks do not fit. Received: maps {maps.shape}, masks {masks.shape}. Expected: both "
            "[n, height, width]; of class activation maps, take upsample=True."
        )
    if not np.isfinite(maps).all():
        raise ValueError("The maps hold numbers that are not finite.")
    if masks.dtype != bool and not np.isin(masks, (0, 1)).all():
        raise ValueError(f"Masks are True on the object and False elsewhere. Received: {masks.dtype} values.")
    masks = masks.astype(bool)
    if not masks.any((1, 2)).all():
        empty = int(np.flatnonzero(~masks.any((1, 2)))[0])
        raise ValueError(f"Mask {empty} is empty: there is nothing to find. Leave that image out.")
    return np.maximum(maps, 0), masks
