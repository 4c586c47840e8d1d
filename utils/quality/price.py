"""Does a map add up, and what does it cost?"""

import time

import numpy as np

from ..checks import integer
from ..scores import checked


def completeness_error(maps, model, x, target=None, baseline=None, *, explain="logit", batch_size=None):
    """How far the sum of a map is from f_c(x) - f_c(x'), relative to the latter, `[n]`.

    Sundararajan, Taly and Yan (2017, arXiv:1703.01365), proposition 1. NaN where the difference is 0.

    Args:
        maps: `[n, ...]`.
        baseline: x', in any form that `integrated_gradients` takes.
    """
    f, x, target = checked(model, x, target, explain, batch_size)
    maps = np.asarray(maps, "float64")
    if maps.shape[:1] != x.shape[:1] or not np.isfinite(maps).all():
        raise ValueError(f"Expected: a finite map for each of {len(x)} images. Received: shape {maps.shape}.")
    gain = f(x, target, batch_size).astype("float64") - f(f.baselines(baseline, x), target, batch_size)
    error = np.abs(maps.sum(tuple(range(1, maps.ndim))) - gain)
    return np.divide(error, np.abs(gain), out=np.full(len(x), np.nan), where=gain != 0)


def time_over_gradient(method, model, x, target=None, repeats=5):
    """The time that a method takes over that of the gradient, both on the same images: medians of several runs.

    Args:
        method: a function (model, x, target) that returns maps. Both are called once before the clock starts.
    """
    repeats = integer(repeats, "repeats")
    f, x, target = checked(model, x, target, "logit", None)
    found = {"method": [], "gradient": []}
    calls = {"method": lambda: method(model, x, target), "gradient": lambda: f.gradient(x, target)}
    for call in calls.values():
        call()
    for _ in range(repeats):
        for name, call in calls.items():  # in turns, for the machine's speed varies
            start = time.perf_counter()
            call()
            found[name].append(time.perf_counter() - start)
    return float(np.median(found["method"]) / np.median(found["gradient"]))
