"""Known defects of occlusion and RISE, put back on purpose: each must make a check fail.

As in test_rule_mutations.py, a check raises an AssertionError; it runs as things are, and then with the defect. Here a
defect is an exchange in the text of utils/perturbation.py.
"""

import inspect
import types

import numpy as np
import pytest
from keras import layers as L

from tests.helpers import F, chain, close, dense, images, kernel_and_bias, noise, shared_cnn, slow_masks, slow_occlusion
from utils import perturbation

X, START, TARGET = images(3), noise(8, 7, 2), np.array([2, 0, 1])
SAMPLES = {"masks": 20, "cells": 3, "p": 0.3, "seed": 1}


# --- the checks, each on a module


def check_occlusion_is_a_mean_over_windows(module):
    model, start = shared_cnn(None, "float64"), np.zeros_like(X) + START
    for window, stride in (((4, 3), (3, 2)), ((2, 2), (1, 1))):
        expected = slow_occlusion(model, X, TARGET, window, stride, start)
        close(module.occlusion(model, X, TARGET, window, stride, START), expected)


def check_occlusion_of_a_linear_model(module):
    model = chain((8, 7, 2), L.Flatten(**F), dense(3))
    W, _ = kernel_and_bias(model)
    each = (W[TARGET].reshape(X.shape) * (X - START)).sum(-1, keepdims=True)
    close(module.occlusion(model, X, TARGET, 1, 1, START), np.repeat(each, 2, -1))


def check_rise_is_a_mean_over_masks(module):
    model = shared_cnn(None, "float64")
    seen = module.random_masks((8, 7), 3, 0.3, 1)(20)[:, None, ..., None]
    scores = model((START + seen * (X - START)).reshape(-1, 8, 7, 2)).numpy().reshape(20, 3, -1)
    samples = scores[:, range(3), TARGET].reshape(20, 3, 1, 1, 1) * seen / 0.3 * np.ones_like(X)
    R, error = module.rise(model, X, TARGET, baseline=START, return_standard_error=True, **SAMPLES)
    close(R, samples.mean(0))
    close(error, samples.std(0, ddof=1) / np.sqrt(20), 1e-8)


def check_the_masks(module):
    close(module.random_masks((8, 7), 3, 0.3, 1)(20), np.stack(list(slow_masks((8, 7), 3, 0.3, 1, 20))))


def check_the_masks_vary_everywhere_alike(module):
    """Whatever random numbers they are made of: no pixel is always in the middle of a cell, none always between two."""
    masks = module.random_masks((12, 12), 3, 0.3)(4000)
    assert np.abs(masks.mean(0) - 0.3).max() < 4 * masks.std(0).max() / np.sqrt(4000)
    inner = masks[:, 3:-3, 3:-3].var(0)
    assert inner.max() < 1.6 * inner.min()


def check_images_do_not_influence_each_other(module):
    model = shared_cnn(None, "float64")
    whole = module.rise(model, X, TARGET, batch_size=20, **SAMPLES)
    for k in range(3):
        close(module.rise(model, X[k : k + 1], TARGET[k], batch_size=20, **SAMPLES), whole[k : k + 1])


def check_the_batch_does_not_matter(module):
    model = shared_cnn(None, "float64")
    whole = module.rise(model, X, TARGET, **SAMPLES)
    for size in (1, 7, 64):
        close(module.rise(model, X, TARGET, batch_size=size, **SAMPLES), whole)


# --- the defects: name -> what stands in the module, what is put there, and the checks that notice

MEAN, RISE, MASKS = check_occlusion_is_a_mean_over_windows, check_rise_is_a_mean_over_masks, check_the_masks
PER_IMAGE = "covered = x[images, None] + on_channels * way[images, None]"
DEFECTS = {
    "windows are summed": ("drops / covered", "drops", MEAN),
    "divided by all windows": ("drops / covered", "drops / many", MEAN),
    "the last window is moved back": (
        "np.arange(0, length - w + s, s)",
        "np.minimum(np.arange(0, length - w + s, s), length - w)",
        MEAN,
    ),
    "the last window is left out": ("np.arange(0, length - w + s, s)", "np.arange(0, length - w + 1, s)", MEAN),
    "a window is a pixel too large": ("(pixels < w)", "(pixels <= w)", MEAN),
    "the sign": ("full[images, None] - scores", "scores - full[images, None]", check_occlusion_of_a_linear_model),
    "no baseline": ("way = baseline - x", "way = -x", check_occlusion_of_a_linear_model),
    "no baseline in RISE": ("way = baseline - x", "way = -x", RISE),
    "targets in another order": (
        "np.repeat(target[images], shape[1])",
        "np.tile(target[images], shape[1])",
        MEAN,
    ),
    "not divided by p": ('scores.astype("float64") / p', 'scores.astype("float64")', RISE),
    "divided by 1 - p": (
        'scores.astype("float64") / p',
        'scores.astype("float64") / (1 - p)',
        RISE,
    ),
    "what is hidden counts": ("score @ seen", "score @ hidden", RISE),
    "seen and hidden exchanged": (
        "return 1 - draw(len(some)).astype(x.dtype)",
        "return draw(len(some)).astype(x.dtype)",
        RISE,
    ),
    "a deviation for the error": ("np.sqrt(variance / (masks - 1))", "np.sqrt(variance)", RISE),
    "cells are seen with 1 - p": ("len(size) :] < p", "len(size) :] >= p", MASKS),
    "1 - p, by the mean": ("len(size) :] < p", "len(size) :] >= p", check_the_masks_vary_everywhere_alike),
    "from corner to corner": (
        "(np.arange((cells + 1) * length) + 0.5) * cells / ((cells + 1) * length) - 0.5",
        "np.linspace(0, cells - 1, (cells + 1) * length)",
        MASKS,
    ),
    "no random place": ("(shifts[:, axis] * cell[axis]).astype(int)", "np.zeros(k, int)", MASKS),
    "no random place, by the variance": (
        "(shifts[:, axis] * cell[axis]).astype(int)",
        "np.zeros(k, int)",
        check_the_masks_vary_everywhere_alike,
    ),
    "masks of each image": (
        PER_IMAGE,
        f"hidden = hide(np.arange(len(hidden))); on_channels = hidden[..., None]; {PER_IMAGE}",
        check_images_do_not_influence_each_other,
    ),
    "masks that depend on the batch": (
        "drawn = generator.random((k, len(size) + cells ** len(size)))",
        "drawn = generator.random((len(size) + cells ** len(size), k)).T",
        check_the_batch_does_not_matter,
    ),
}


def with_defect(old, new):
    source = inspect.getsource(perturbation)
    assert source.count(old) == 1
    module = types.ModuleType(perturbation.__name__)
    module.__package__ = perturbation.__package__
    exec(source.replace(old, new), vars(module))
    return module


@pytest.mark.filterwarnings("ignore:invalid value")  # pixels that no window covers
@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_is_noticed(defect):
    old, new, check = DEFECTS[defect]
    check(perturbation)
    with pytest.raises(AssertionError):
        check(with_defect(old, new))
