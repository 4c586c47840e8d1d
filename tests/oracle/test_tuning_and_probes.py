"""Tuning curves and probes: beside loops, closed forms, and what other libraries compute."""

import colorsys
import itertools
import math

import keras
import numpy as np
import pytest
import skimage.color
from keras import layers as L
from scipy import stats
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import r2_score

from tests.helpers import F, average, chain, close, conv, dense, noise, sequential
from utils.inside import (
    circular_tuning,
    colour_tuning,
    gratings,
    hue_circle,
    linear_probe,
    orientation_tuning,
    wilson_interval,
)


def tuned(kernel, activation="relu", shape=(32, 32, 3), bias=0.0, padding="valid"):
    """A model whose layer `map` has this kernel, `[height, width, c, channels]`."""
    kernel = np.asarray(kernel, float)
    how = {"activation": activation, "padding": padding, "name": "map"}
    model = sequential(shape, conv(kernel.shape[-1], kernel.shape[:2], **how), average(), dense(2))
    model.get_layer("map").set_weights([kernel, np.full(kernel.shape[-1], bias)])
    return model


# --- colours


@pytest.mark.parametrize("saturation, value", [(1, 1), (0.3, 0.9), (0, 0.5), (1, 0)])
def test_hues_beside_colorsys_and_skimage(saturation, value):
    images = hue_circle(24, saturation, value, (2, 3))
    assert images.shape == (24, 2, 3, 3) and images.dtype == "float32"
    for i, image in enumerate(images):
        expected = colorsys.hsv_to_rgb(i / 24, saturation, value)
        np.testing.assert_allclose(image, np.broadcast_to(expected, (2, 3, 3)), atol=1e-6)
    hsv = np.stack(np.broadcast_arrays(np.arange(24) / 24, float(saturation), float(value)), -1)
    np.testing.assert_allclose(images[:, 0, 0], skimage.color.hsv2rgb(hsv), atol=1e-6)


def test_preferred_hues_by_hand():
    """Channels that read red, green, blue, yellow and cyan; one that is 1 for each colour, and one that is silent."""
    channels = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, -1], [-1, 1, 1], [0, 0, 0], [-1, -1, -1]]
    model = tuned(np.transpose(channels)[None, None])
    found = colour_tuning(model, "map", 36)
    np.testing.assert_allclose(found.preferred[1:5], [120, 240, 60, 180], atol=1e-3)
    assert abs((found.preferred[0] + 180) % 360 - 180) < 1e-3
    assert np.isnan(found.preferred[5:]).all() and not found.selectivity[5:].any()
    np.testing.assert_array_equal(found.angles, np.arange(36) * 10)
    np.testing.assert_allclose(found.responses[:, 0], hue_circle(36)[:, 0, 0, 0], atol=1e-6)


def test_the_selectivity_of_red_in_closed_form():
    """Red is 1 within 60 degrees of red, and falls to 0 at 120: a trapezium, whose first harmonic is known."""
    found = colour_tuning(tuned(np.eye(3)[None, None]), "map", 3600)
    # of 1 up to a and a line to 0 at b: (cos a - cos b) / (b - a) / pi to the mean (a + b) / 2 pi
    a, b = math.pi / 3, 2 * math.pi / 3
    expected = (math.cos(a) - math.cos(b)) / (b - a) / ((a + b) / 2)
    np.testing.assert_allclose(found.selectivity, expected, rtol=1e-5)


def test_responses_to_colours_beside_the_layer_in_float64():
    model = chain((8, 7, 3), conv(5, activation="elu"), L.Identity(name="map", **F), average(), dense(2))
    for low, high in ((0, 1), (-1, 1)):
        found = colour_tuning(model, "map", 12, saturation=0.7, value=0.8, low=low, high=high)
        images = [
            np.broadcast_to(np.array(colorsys.hsv_to_rgb(i / 12, 0.7, 0.8)) * (high - low) + low, (8, 7, 3))
            for i in range(12)
        ]
        A = keras.Model(model.inputs[0], model.get_layer("map").output)(np.stack(images)).numpy()
        close(found.responses, A.mean((1, 2)), 1e-6)
        preferred, selectivity = tuning_by_loops(A.mean((1, 2)) - A.mean((1, 2)).min(0), found.angles, 360)
        np.testing.assert_allclose(found.preferred, preferred, atol=0.01)
        np.testing.assert_allclose(found.selectivity, selectivity, atol=1e-4)


def tuning_by_loops(strengths, angles, period):
    """With sines and cosines, one channel at a time."""
    preferred, selectivity = [], []
    for r in np.transpose(strengths):
        c = sum(a * math.cos(2 * math.pi * t / period) for a, t in zip(r, angles)) / sum(r)
        s = sum(a * math.sin(2 * math.pi * t / period) for a, t in zip(r, angles)) / sum(r)
        preferred.append(math.degrees(math.atan2(s, c)) * period / 360 % period)
        selectivity.append(math.hypot(c, s))
    return np.array(preferred), np.array(selectivity)


# --- circular statistics


def test_circular_tuning_beside_scipy_and_in_closed_form():
    angles = np.arange(0, 180, 7.5)
    generator = np.random.default_rng(0)
    counts = generator.integers(0, 5, (len(angles), 6))
    preferred, selectivity = circular_tuning(counts, angles, 180)
    for k in range(6):
        sample = np.repeat(angles, counts[:, k])
        np.testing.assert_allclose(preferred[k], stats.circmean(sample, high=180), rtol=1e-9)
        np.testing.assert_allclose(1 - selectivity[k], stats.circvar(sample, high=180), rtol=1e-9)
    theta = 2 * np.radians(angles - 30)
    for curve, expected in (
        (1 + np.cos(theta), 0.5),  # a cosine on its own mean
        (3 + np.cos(theta), 1 / 6),
        (np.eye(len(angles))[4], 1),  # 30 degrees alone
        (np.exp(2 * np.cos(theta)), 1.590636854637329 / 2.279585302336067),  # von Mises: I1(2) / I0(2)
    ):
        preferred, selectivity = circular_tuning(curve[:, None], angles, 180)
        np.testing.assert_allclose([preferred[0], selectivity[0]], [30, expected], rtol=1e-9)


def test_what_has_no_direction():
    angles = np.arange(0, 360, 30)
    flat, opposite, silent = np.ones(12), np.isin(angles, (60, 240)), np.zeros(12)
    preferred, selectivity = circular_tuning(np.stack([flat, opposite, silent], 1), angles, 360)
    assert np.isnan(preferred).all() and selectivity.max() < 1e-12
    preferred, _ = circular_tuning(opposite[:, None].astype(float), angles, 180)  # as an orientation, they agree
    np.testing.assert_allclose(preferred, 60)


# --- gratings


def test_gratings_by_loops():
    images = gratings(5, (0.1, 0.3), 4, (6, 7), 0.6, 2)
    assert images.shape == (5, 2, 4, 6, 7, 2) and images.dtype == "float32"
    for o, f, p, row, column in itertools.product(range(5), range(2), range(4), range(6), range(7)):
        theta, up, right = math.radians(36 * o), 2.5 - row, column - 3
        across = right * math.sin(theta) - up * math.cos(theta)
        expected = 0.5 + 0.3 * math.cos(2 * math.pi * (0.1, 0.3)[f] * across + math.pi / 2 * p)
        np.testing.assert_allclose(images[o, f, p, row, column], expected, atol=1e-6)


def test_stripes_turn_counter_clockwise_from_horizontal_ones():
    images = gratings(4, 0.125, 8)[:, 0, :, :, :, 0]
    np.testing.assert_allclose(images[0], np.broadcast_to(images[0, :, :, :1], (8, 32, 32)), atol=1e-5)
    np.testing.assert_allclose(images[2], np.broadcast_to(images[2, :, :1], (8, 32, 32)), atol=1e-5)
    # 45 degrees: the same one to the right and one up; not one to the right and one down
    np.testing.assert_allclose(images[1, :, 1:, :-1], images[1, :, :-1, 1:], atol=1e-5)
    assert np.abs(images[1, :, :-1, :-1] - images[1, :, 1:, 1:]).max() > 0.5
    np.testing.assert_allclose(images.mean(1), 0.5, atol=1e-6)
    assert images.min() < 0.01 and images.max() > 0.99


def gabor(degrees, size=9, frequency=1 / 8):
    """An even filter for stripes of this orientation, without a mean: what it responds to, by hand."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    across = x * np.sin(np.radians(degrees)) + y * np.cos(np.radians(degrees))
    window = np.exp(-(x**2 + y**2) / 8)
    wave = np.cos(2 * np.pi * frequency * across)
    return window * (wave - (window * wave).sum() / window.sum())


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_preferred_orientations_of_filters_made_by_hand(padding):
    sobel = np.array([[1, 2, 1], [0, 0, 0], [-1, -2, -1]])  # reads horizontal edges
    slash = np.array([[0, 1, 2], [-1, 0, 1], [-2, -1, 0]])  # edges from the upper left to the lower right: 135 degrees
    edges = np.stack([sobel, sobel.T, slash, slash[:, ::-1]], -1)[:, :, None]
    found = orientation_tuning(tuned(edges, shape=(32, 32, 1), padding=padding), "map")
    tolerance = 0.01 if padding == "valid" else 5  # the dark border is an edge too
    np.testing.assert_allclose(angle_between(found.preferred, [0, 90, 135, 45]), 0, atol=tolerance)
    assert (found.selectivity > 0.2).all() and (found.selectivity < 0.7).all()


def angle_between(one, other, period=180):
    return (np.subtract(one, other) + period / 2) % period - period / 2


def test_preferred_orientations_of_gabor_filters():
    degrees = [0, 20, 70, 95, 160]
    kernel = np.stack([gabor(d) for d in degrees], -1)[:, :, None]
    found = orientation_tuning(tuned(kernel, shape=(40, 40, 1)), "map", 12, (1 / 16, 1 / 8), 4)
    assert np.abs(angle_between(found.preferred, degrees)).max() < 1
    round_filter = gabor(0) + gabor(90) + gabor(45) + gabor(135)
    both = np.stack([gabor(0), round_filter], -1)[:, :, None]
    found = orientation_tuning(tuned(both, shape=(40, 40, 1)), "map", 12, (1 / 16, 1 / 8), 4)
    assert found.selectivity[0] > 0.5 and found.selectivity[1] < 0.1


def test_units_without_an_orientation():
    """One that is the brightness of a pixel itself, one that is always silent, and one that is always the same."""
    for activation, bias, weight in ((None, 0, 1.0), ("relu", -9, 1.0), ("relu", 3, 0.0)):
        found = orientation_tuning(tuned(np.full((1, 1, 1, 1), weight), activation, (32, 32, 1), bias), "map", 4, 1 / 8)
        assert np.isnan(found.preferred).all() and not found.selectivity.any()
        np.testing.assert_allclose(found.baseline, max(0.5 * weight + bias, 0), atol=1e-6)


def test_responses_to_gratings_by_loops():
    model = chain((16, 12, 3), conv(4, activation="elu"), L.Identity(name="map", **F), average(), dense(2))
    found = orientation_tuning(model, "map", 4, (0.1, 0.2), 5, contrast=0.8, low=-1, high=1)
    read = keras.Model(model.inputs[0], model.get_layer("map").output)
    images = 2 * gratings(4, (0.1, 0.2), 5, (16, 12), 0.8).astype(float) - 1
    expected = np.full((4, 4), -np.inf)
    for o, f in np.ndindex(4, 2):
        of_all_phases = [read(images[o, f, p][None]).numpy()[0].mean((0, 1)) for p in range(5)]
        expected[o] = np.maximum(expected[o], np.mean(of_all_phases, 0))
    close(found.responses, expected, 1e-6)
    grey = read(np.zeros((1, 16, 12, 3))).numpy()[0].mean((0, 1))
    np.testing.assert_allclose(found.baseline, grey, atol=1e-6)
    preferred, selectivity = tuning_by_loops(np.maximum(expected - grey, 0), [0, 45, 90, 135], 180)
    np.testing.assert_allclose(found.preferred, preferred, atol=0.05)
    np.testing.assert_allclose(found.selectivity, selectivity, atol=1e-4)


# --- intervals and probes


@pytest.mark.parametrize("successes, n", [(0, 10), (10, 10), (3, 7), (450, 1000), (1, 1)])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.99])
def test_wilson_beside_scipy(successes, n, confidence):
    expected = stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
    np.testing.assert_allclose(wilson_interval(successes, n, confidence), expected, rtol=1e-12, atol=1e-15)


def test_wilson_by_hand():
    """Of 10 without success, the upper end is z^2 / (n + z^2)."""
    low, high = wilson_interval(0, 10)
    assert low == 0 and math.isclose(high, 1.959963984540054**2 / (10 + 1.959963984540054**2), rel_tol=1e-12)


def data(n=400, d=6, seed=0):
    generator = np.random.default_rng(seed)
    return generator.standard_normal((n, d)), generator


def test_a_class_beside_the_model_of_the_known_strength():
    """Of the strengths that are tried, the probe does no worse than one of them, fitted without the pipeline."""
    X, generator = data()
    y = np.array(["cat", "dog", "frog"])[np.argmax(X[:, :3] + generator.standard_normal((400, 3)), 1)]
    found = linear_probe(5 * X[:250] + 3, y[:250], 5 * X[250:] + 3, y[250:])
    Z = (X - X[:250].mean(0)) / X[:250].std(0)
    scores = [
        LogisticRegression(C=C, max_iter=1000).fit(Z[:250], y[:250]).score(Z[250:], y[250:])
        for C in np.logspace(-4, 1, 6)
    ]
    assert any(math.isclose(found.score, score) for score in scores) and found.score >= max(scores) - 0.05
    expected = stats.binomtest(round(found.score * 150), 150).proportion_ci(method="wilson")
    np.testing.assert_allclose(found[1:3], expected)
    assert found.n == 150 and found.score > 0.55


def test_a_number_beside_ridge_and_the_least_squares():
    X, generator = data()
    y = X @ np.arange(6) + 2 * generator.standard_normal(400) + 100
    found = linear_probe(X[:250], y[:250], X[250:], y[250:], "number")
    Z = (X - X[:250].mean(0)) / X[:250].std(0)
    scores = [r2_score(y[250:], Ridge(a).fit(Z[:250], y[:250]).predict(Z[250:])) for a in np.logspace(5, -1, 7)]
    assert np.isclose(scores, found.score, rtol=1e-9).any() and found.score > max(scores) - 0.01
    assert found.low < found.score < found.high and found.high - found.low < 0.1


def test_an_angle_on_its_circle():
    """Sine and cosine among the features: the angle is read exactly, also across 0."""
    generator = np.random.default_rng(0)
    for period in (360, 180, 2 * np.pi):
        angle = generator.random(300) * period
        turn = 2 * np.pi * angle / period
        X = np.stack([np.cos(turn) + np.sin(turn), np.cos(turn) - 2 * np.sin(turn)], 1)
        found = linear_probe(X[:200], angle[:200], X[200:], angle[200:] + 5 * period, "angle", period=period)
        assert found.low <= found.score <= found.high < 1e-2 * period
        # of a feature that knows nothing, a quarter of the period
        blind = linear_probe(noise(200, 3), angle[:200], noise(100, 3, seed=2), angle[200:], "angle", period=period)
        assert blind.low < period / 4 < blind.high


@pytest.mark.parametrize("kind, chance, near", [("class", 0.5, 0.15), ("number", 0.0, 0.3), ("angle", 90.0, 25.0)])
def test_shuffled_targets_are_read_at_chance(kind, chance, near):
    """Of 400 images, a coefficient of 1 / sqrt(400) is chance, and R^2 of a feature itself then off by two of these."""
    X, _ = data(700, 6)
    y = {"class": X[:, 0] > 0, "number": X[:, 0], "angle": np.degrees(np.arctan2(X[:, 0], X[:, 1]))}[kind]
    for seed in range(2):
        arguments = (X[:400], y[:400], X[400:], y[400:], kind, seed)
        true, control = linear_probe(*arguments), linear_probe(*arguments, shuffled=True)
        assert abs(true.score - chance) > 2 * near
        assert abs(control.score - chance) < near


def test_the_interval_of_a_number_beside_a_loop():
    """Resampled test images, with scikit-learn's R^2."""
    X, generator = data(300, 2)
    y = X[:, 0] + generator.standard_normal(300)
    found = linear_probe(X[:200], y[:200], X[200:], y[200:], "number")
    Z, (A, B) = (X - X[:200].mean(0)) / X[:200].std(0), (slice(200), slice(200, None))
    predictions = [Ridge(a).fit(Z[A], y[A]).predict(Z[B]) for a in np.logspace(5, -1, 7)]
    (predicted,) = [p for p in predictions if math.isclose(r2_score(y[B], p), found.score, rel_tol=1e-9)]
    drawn = [generator.integers(0, 100, 100) for _ in range(1000)]
    low, high = np.percentile([r2_score(y[B][i], predicted[i]) for i in drawn], [2.5, 97.5])
    assert abs(found.low - low) < 0.15 * (high - low) and abs(found.high - high) < 0.15 * (high - low)


def test_pooled_features_are_means_over_places():
    A = noise(60, 3, 4, 5)
    y = A.mean((1, 2))[:, 0]
    pooled = linear_probe(A[:40], y[:40], A[40:], y[40:], "number", pool="mean")
    assert pooled == linear_probe(A[:40].mean((1, 2)), y[:40], A[40:].mean((1, 2)), y[40:], "number")
    flat = linear_probe(A[:40], y[:40], A[40:], y[40:], "number")
    assert flat == linear_probe(A[:40].reshape(40, 60), y[:40], A[40:].reshape(20, 60), y[40:], "number")
    assert pooled.score > 0.99 > flat.score
