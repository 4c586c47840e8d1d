"""Occlusion and RISE beside plain loops, and on linear models, whose maps are known exactly."""

import functools
import itertools
import tracemalloc

import keras
import numpy as np
import pytest
from keras import layers as L
from scipy.signal import convolve2d

from tests.helpers import (
    F,
    average,
    chain,
    close,
    conv,
    dense,
    images,
    kernel_and_bias,
    noise,
    sequential,
    shared_cnn,
    slow_masks,
    slow_occlusion,
    small_cnn,
)
from utils.attributions import occlusion, rise
from utils.perturbation import random_masks

TARGET = np.array([2, 0, 1])


@functools.cache
def net(kind):
    """A network of that kind of input, and three inputs."""
    if kind == "image":
        return shared_cnn(None, "float64"), images(3)
    if kind == "series":
        layers = [L.Conv1D(4, 3, activation="relu", **F), L.GlobalAveragePooling1D(**F), dense(3)]
        return chain((9, 2), *layers), noise(3, 9, 2)
    if kind == "volume":
        layers = [L.Conv3D(3, 2, activation="relu", **F), L.Flatten(**F), dense(3)]
        return chain((4, 3, 5, 2), *layers), noise(3, 4, 3, 5, 2)
    return chain((7,), dense(5, "relu"), dense(3)), noise(3, 7)


@functools.cache
def linear(shape=(6, 5, 2), seed=0):
    return chain(shape, L.Flatten(**F), dense(3), seed=seed)


@functools.cache
def of_any_size():
    return sequential((None, None, 3), conv(4), average(), dense(3))


def weights_and_bias(target, shape=(6, 5, 2)):
    W, b = kernel_and_bias(linear(shape))
    return W[target].reshape(-1, *shape), b[target]


def start_of(baseline, x):
    """In the shape of x."""
    return np.zeros_like(x) + (0 if baseline is None else baseline)


BASELINES = {
    "zero": lambda x: None,
    "number": lambda x: 0.3,
    "channels": lambda x: np.array([0.1, 0.9]),
    "image": lambda x: noise(*x.shape[1:], seed=3),
    "each": lambda x: noise(*x.shape, seed=4),
}


# --- beside plain loops


@pytest.mark.parametrize(
    ("kind", "window", "stride"),
    [
        ("image", 1, 1),
        ("image", 3, 1),
        ("image", 4, 2),
        ("image", (4, 3), (3, 2)),  # both cut off
        ("image", (8, 7), (1, 1)),  # all at once
        ("image", (2, 5), 2),
        ("series", 4, 3),
        ("series", (3,), (3,)),
        ("row", 3, 2),
        ("row", 1, 1),
        ("volume", (2, 3, 2), (1, 2, 2)),
    ],
)
def test_occlusion_is_a_loop_over_windows(kind, window, stride):
    model, x = net(kind)
    axes = max(1, x.ndim - 2)
    start = noise(*x.shape, seed=3)
    expected = slow_occlusion(
        model, x, TARGET, *(np.broadcast_to(one, axes).tolist() for one in (window, stride)), start
    )
    for batch_size in (None, 1, 7):
        close(occlusion(model, x, TARGET, window, stride, start, batch_size=batch_size), expected)


@pytest.mark.parametrize("baseline", BASELINES)
def test_occlusion_from_each_baseline(baseline):
    model, x = net("image")
    baseline = BASELINES[baseline](x)
    expected = slow_occlusion(model, x, TARGET, (4, 3), (3, 2), start_of(baseline, x))
    close(occlusion(model, x, TARGET, (4, 3), (3, 2), baseline), expected)


def test_the_channels_of_a_place_share_a_value():
    model, x = net("image")
    for R in (occlusion(model, x, 1), rise(model, x, 1, 20)):
        assert np.array_equal(R[..., 0], R[..., 1])


@pytest.mark.parametrize(
    ("size", "cells"), [((8, 7), 3), ((12, 12), 5), ((28, 28), 7), ((9,), 4), ((4, 3, 5), 2), ((4, 3), 6), ((5, 5), 1)]
)
def test_the_masks_are_enlarged_grids(size, cells):
    ours = random_masks(size, cells, 0.4, seed=3)(8)
    close(ours, np.stack(list(slow_masks(size, cells, 0.4, 3, 8))), 1e-12)
    draw = random_masks(size, cells, 0.4, seed=3)
    assert np.array_equal(np.concatenate([draw(k) for k in (1, 5, 2)]), ours)


@pytest.mark.parametrize("p", [0.2, 0.5])
def test_a_pixel_can_be_seen_with_probability_p(p):
    masks = random_masks((9, 7), 4, p)(4000)
    assert masks.min() == 0 and masks.max() == 1
    assert np.abs((masks.mean(0) - p) / masks.std(0)).max() < 4 / np.sqrt(4000)
    assert abs(masks.mean() - p) < 0.01


@pytest.mark.parametrize(
    ("kind", "baseline"),
    [*itertools.product(("image", "series"), BASELINES), ("row", "each"), ("volume", "image")],
)
def test_rise_is_a_mean_over_masks(kind, baseline):
    model, x = net(kind)
    start, p, many = start_of(baseline := BASELINES[baseline](x), x), 0.4, 30
    masks = np.stack(list(slow_masks(x.shape[1:2] if kind == "row" else x.shape[1:-1], 3, p, 5, many)))
    seen = np.broadcast_to((masks if kind == "row" else masks[..., None])[:, None], (many, *x.shape))
    scores = model((start + seen * (x - start)).reshape(-1, *x.shape[1:])).numpy().reshape(many, 3, -1)
    samples = scores[:, range(3), TARGET].reshape(many, 3, *[1] * (x.ndim - 1)) * seen / p
    for batch_size in (None, 1, 7):
        R, error = rise(model, x, TARGET, many, 3, p, 5, baseline, batch_size=batch_size, return_standard_error=True)
        close(R, np.mean(samples, 0))
        close(error, np.std(samples, 0, ddof=1) / np.sqrt(many), 1e-8)
    assert np.array_equal(rise(model, x, TARGET, many, 3, p, 5, baseline, batch_size=7), R)


# --- linear models


@pytest.mark.parametrize("baseline", BASELINES)
def test_occlusion_of_a_linear_model_pixel_by_pixel(baseline):
    x = noise(3, 6, 5, 2)
    baseline = BASELINES[baseline](x)
    w, _ = weights_and_bias(TARGET)
    each = (w * (x - start_of(baseline, x))).sum(-1, keepdims=True)
    close(occlusion(linear(), x, TARGET, 1, 1, baseline), np.repeat(each, 2, -1))


@pytest.mark.parametrize("window", [(2, 2), (3, 1), (4, 5)])
def test_occlusion_of_a_linear_model_is_a_mean_of_sums(window):
    x = noise(3, 6, 5, 2)
    w, _ = weights_and_bias(TARGET)
    R, ones = occlusion(linear(), x, TARGET, window, 1), np.ones(window)
    for n, each in enumerate((w * x).sum(-1)):
        sums = convolve2d(each, ones, "valid")
        close(R[n, ..., 0], convolve2d(sums, ones) / convolve2d(np.ones_like(sums), ones))


def test_one_window_over_all_is_the_whole_difference():
    model, x = net("image")
    R = occlusion(model, x, TARGET, (8, 7), 1, 0.2)
    drop = (model(x) - model(np.full_like(x, 0.2))).numpy()[range(3), TARGET]
    close(R, np.broadcast_to(drop[:, None, None, None], x.shape))


def expected_rise(x, start, target, cells, p):
    """Of a linear model: all pairs of pixels, over all shifts of the grid."""
    size = x.shape[1:3]
    w, b = weights_and_bias(target)
    seen, cell = [], [-(-length // cells) for length in size]
    for shift in np.ndindex(*cell):  # each cell by itself: what a pixel has of it
        grids = np.eye(cells**2).reshape(-1, cells, cells)
        large = [keras.ops.image.resize(g[..., None], [(cells + 1) * c for c in cell], "bilinear") for g in grids]
        seen.append([np.array(g)[shift[0] :, shift[1] :, 0][: size[0], : size[1]].ravel() for g in large])
    seen = np.array(seen)  # [shifts, cells^2, pixels]
    pairs = p**2 + p * (1 - p) * np.einsum("sci,scj->ij", seen, seen) / len(seen)
    way = (w * (x - start)).sum(-1).reshape(len(x), -1)
    R = b[:, None] + (w * start).sum((1, 2, 3))[:, None] + way @ pairs / p
    return np.repeat(R.reshape(len(x), *size, 1), x.shape[-1], -1)


@pytest.mark.parametrize("p", [0.3, 0.5])
def test_rise_of_a_linear_model_is_within_its_standard_error(p):
    x, start = noise(3, 6, 5, 2), noise(6, 5, 2, seed=3)
    expected = expected_rise(x, start_of(start, x), TARGET, 3, p)
    R, error = rise(linear(), x, TARGET, 20_000, 3, p, 1, start, return_standard_error=True)
    assert np.abs((R - expected) / error).max() < 4
    assert error.max() < 0.05 * np.ptp(expected)


def test_the_standard_error_of_rise_covers_as_often_as_it_should():
    """At each pixel by itself; those of a map vary together, so that few seeds would say little."""
    x, seeds = noise(3, 6, 5, 2), 100
    expected = expected_rise(x, np.zeros_like(x), TARGET, 3, 0.5)
    found = [rise(linear(), x, TARGET, 200, 3, seed=seed, return_standard_error=True) for seed in range(seeds)]
    z = np.array([(R - expected) / error for R, error in found])[..., 0]
    assert 0.92 < (np.abs(z) < 1.96).mean() < 0.98
    assert 0.9 < z.std() < 1.1
    # the means of 100 maps, four of their own standard deviations at most
    assert np.abs(z.mean(0)).max() < 4 / np.sqrt(seeds)


def test_four_times_the_masks_halve_the_standard_error():
    model, x = net("image")
    errors = [rise(model, x, 1, masks, return_standard_error=True)[1] for masks in (250, 1000, 4000)]
    for more, less in zip(errors, errors[1:]):
        assert 1.7 < (more / less).mean() < 2.3


# --- images and masks do not mix


def test_all_images_get_the_same_masks():
    model, x = net("image")
    assert np.array_equal(rise(model, x, 1, 40, seed=3), rise(model, x, 1, 40, seed=3))
    assert not np.allclose(rise(model, x, 1, 40, seed=3), rise(model, x, 1, 40, seed=4))
    twice = rise(model, np.concatenate([x, x[::-1]]), 1, 40)
    close(twice[3:][::-1], twice[:3], 1e-12)
    close(rise(model, x[1:2], 1, 40), twice[1:2], 1e-12)


@pytest.mark.parametrize("method", [occlusion, functools.partial(rise, masks=20)], ids=["occlusion", "rise"])
@pytest.mark.parametrize("batch_size", [3, 64, None])  # a part of an image's masks, those of several, all
def test_each_image_goes_with_its_target_and_baseline(method, batch_size):
    model, x = shared_cnn(None, "float32"), images(9, dtype="float32")
    target, baseline = np.arange(9) % 4, images(9, seed=2, dtype="float32")
    together = method(model, x, target, baseline=baseline, batch_size=batch_size)
    for k in (0, 5, 8):
        alone = method(model, x[k : k + 1], target[k], baseline=baseline[k])
        assert np.abs(together[k] - alone[0]).max() < 1e-6 * max(1, np.abs(alone).max())


@pytest.mark.parametrize("method", ["occlusion", "rise"])
def test_memory_does_not_grow_with_masks(method):
    model, x, peaks = sequential((2000,), dense(2, dtype="float32"), dtype="float32"), np.ones((1, 2000), "float32"), []
    for many in (200, 2000):
        how = {"masks": many} if method == "rise" else {"window": 10, "stride": 2000 // many}
        call = functools.partial({"occlusion": occlusion, "rise": rise}[method], model, x, 0, batch_size=32, **how)
        call()
        tracemalloc.start()
        call()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] + 100_000


# --- models


@pytest.mark.parametrize("lossy", [keras.ops.round, lambda z: keras.ops.one_hot(keras.ops.argmax(z, -1), 3)])
def test_models_without_a_gradient(lossy):
    x = keras.Input((6, 5, 2), **F)
    model = keras.Model(x, keras.ops.cast(lossy(5 * linear()(x)), "float64"))
    points = noise(3, 6, 5, 2)
    close(
        occlusion(model, points, TARGET, 3, 2, explain="output"),
        slow_occlusion(model, points, TARGET, (3, 3), (2, 2), np.zeros_like(points)),
    )
    assert np.ptp(rise(model, points, TARGET, 100, 3, explain="output")) > 0.1


def test_nested_models_and_heads():
    inner, x = shared_cnn(None, "float64"), images(3)
    outer = keras.Sequential([keras.Input((8, 7, 2), **F), inner, L.Softmax(**F)])
    for method in (occlusion, functools.partial(rise, masks=30)):
        close(method(outer, x, TARGET), method(inner, x, TARGET))
    close(
        occlusion(outer, x, TARGET, explain="output"),
        slow_occlusion(outer, x, TARGET, (4, 4), (2, 2), np.zeros_like(x)),
    )


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 2e-2), ("float32", 1e-5)])
def test_models_in_lower_precision(dtype, tolerance):
    model, exact, x = small_cnn(dtype=dtype), shared_cnn(None, "float64"), images(3).astype("float16").astype(dtype)
    model.set_weights(exact.get_weights())
    for method in (occlusion, functools.partial(rise, masks=30)):
        R = method(model, x, TARGET, baseline=0.5)
        assert R.dtype == dtype
        close(R, method(exact, x.astype("float64"), TARGET, baseline=0.5), tolerance)


def test_images_of_any_size():
    for size in ((9, 6), (5, 12)):
        x = noise(3, *size, 3)
        start = np.zeros_like(x)
        close(occlusion(of_any_size(), x, TARGET), slow_occlusion(of_any_size(), x, TARGET, (4, 4), (2, 2), start))
        assert rise(of_any_size(), x, TARGET, 30).shape == x.shape


def test_no_images():
    model, x = net("image")
    assert occlusion(model, x[:0]).shape == x[:0].shape
    assert [R.shape for R in rise(model, x[:0], masks=3, return_standard_error=True)] == [x[:0].shape] * 2


def test_a_pixel_that_does_not_matter():
    """Occlusion has 0 there; RISE the mean score, so that only its differences speak."""
    x = keras.Input((6, 5, 2), **F)
    model = keras.Model(x, linear((3, 5, 2))(L.Cropping2D(((0, 3), (0, 0)), **F)(x)))
    points = noise(3, 6, 5, 2)
    R = np.abs(occlusion(model, points, TARGET, 1, 1))
    assert R[:, 3:].max() < 1e-12 < 0.1 < R.max()
    R, error = rise(model, points, TARGET, 20_000, 6, return_standard_error=True)
    w, b = weights_and_bias(TARGET, (3, 5, 2))
    mean = b + 0.5 * (w * points[:, :3]).sum((1, 2, 3))
    far = (slice(None), 5)  # further than a cell from what matters
    assert np.abs((R - mean[:, None, None, None]) / error)[far].max() < 4
