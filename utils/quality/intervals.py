"""Scores of many images as one number, with its confidence interval."""

import warnings

import numpy as np
from scipy import stats

from ..checks import integer, one_of


def mean_and_interval(scores, confidence=0.95, resamples=2000, seed=0):
    """The mean of `scores` `[n]`, and the lower and upper end of its confidence interval: a bootstrap over images.

    The interval is the percentile interval of Efron (1979, doi:10.1214/aos/1176344552): how far the mean would vary
    with other images of the same kind. It says nothing of another network.
    """
    scores = np.asarray(scores, float)
    if scores.ndim != 1 or len(scores) < 2 or not np.isfinite(scores).all():
        raise ValueError(f"Expected at least two finite scores [n]. Received: shape {scores.shape}.")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence lies between 0 and 1. Received: {confidence!r}.")
    found = stats.bootstrap(
        (scores,),
        np.mean,
        confidence_level=confidence,
        n_resamples=integer(resamples, "resamples"),
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return scores.mean(), *found.confidence_interval


def rank_intervals(values, better, confidence=0.95, resamples=1000, seed=0):
    """The ranks of methods by their means over images, 1 for the best, and the ends of their intervals.

    The bootstrap draws images, the same for all methods: what makes an image hard for all of them does not widen the
    intervals. Methods of equal means share the best of their ranks.

    Args:
        values: `[methods, images]`, NaN where a method has no value for an image; it is left out of the mean.
        better: "more" or "less", whichever is better.

    Returns:
        `[methods, 3]`: rank, lower end, upper end; NaN for a method without any value, which takes no rank.
    """
    values = np.asarray(values, float)
    if values.ndim != 2 or values.shape[1] < 2 or np.isinf(values).any():
        raise ValueError(f"Expected: values [methods, images], of at least two images. Received: {values.shape}.")
    sign = {"more": -1, "less": 1}[one_of(better, "direction", ("more", "less"))]
    draw, n = np.random.default_rng(seed), values.shape[1]
    ranked = np.isfinite(values).any(1)
    found = np.full((len(values), 3), np.nan)

    def ranks(images):
        some = sign * values[ranked][:, images]
        with warnings.catch_warnings():  # a method whose few values have not been drawn
            warnings.simplefilter("ignore", RuntimeWarning)
            return stats.rankdata(np.nanmean(some, 1), method="min", nan_policy="omit")

    found[ranked, 0] = ranks(slice(None))
    drawn = [ranks(draw.integers(0, n, n)) for _ in range(integer(resamples, "resamples"))]
    ends = (1 - confidence) / 2
    found[ranked, 1:] = np.nanquantile(drawn, [ends, 1 - ends], axis=0, method="inverted_cdf").T
    return found
