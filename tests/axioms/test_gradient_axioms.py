"""Gradient methods: what their papers promise, and exact answers on paper."""

import keras
import numpy as np
import pytest
import scipy.stats

from models import load_model
from tests.helpers import QUADRATURES, function_model, images, small_cnn
from utils import attributions
from utils.attributions import integrated_gradients, quadrature, smoothgrad


def test_products_of_the_gradient():
    model, x = small_cnn(), images()
    g = attributions.gradient(model, x, 2)
    assert np.array_equal(attributions.sensitivity(model, x, 2), g**2)
    assert np.array_equal(attributions.gradient_x_input(model, x, 2), g * x)
    assert np.array_equal(attributions.simple_taylor(model, x, 2), g * x)


# --- simple Taylor


def test_simple_taylor_is_exact_without_biases():
    model = load_model("mnist_cnn")
    x = np.random.default_rng(0).random((20, 28, 28, 1), "float32")
    R, remainder = attributions.simple_taylor(model, x, 3, return_remainder=True)
    score = model(x).numpy()[:, 3]
    assert np.abs(remainder).max() < 1e-4 * np.abs(score).max()
    assert np.allclose(R.sum((1, 2, 3)), score, rtol=1e-3, atol=1e-3)


def test_simple_taylor_reports_what_is_left_over_with_biases():
    model, x = small_cnn(), images()
    R, remainder = attributions.simple_taylor(model, x, 3, return_remainder=True)
    gain = (model(x) - model(np.zeros_like(x))).numpy()[:, 3]
    assert np.allclose(R.sum((1, 2, 3)) + remainder, gain, atol=1e-12)
    assert np.abs(remainder).max() > 0.01


def test_simple_taylor_at_a_root_point():
    # f = x1^2 + 3 x2 around (1, 2): slopes 2 and 3
    model = function_model(lambda x: keras.ops.square(x[:, :1]) + 3 * x[:, 1:], 2)
    R, remainder = attributions.simple_taylor(model, np.array([[4.0, 7.0]]), 0, [1.0, 2.0], return_remainder=True)
    assert np.allclose(R, [[6, 15]])
    assert np.allclose(remainder, (16 + 21) - (1 + 6) - 21)


# --- integrated gradients


@pytest.mark.parametrize("rule", QUADRATURES)
def test_quadrature_weights_sum_to_one_and_straight_lines_are_exact(rule):
    alphas, weights = quadrature(rule, 7)
    assert len(alphas) == len(weights) == 7 and np.isclose(weights.sum(), 1)
    expected = {"left": 0.5 - 0.5 / 7, "right": 0.5 + 0.5 / 7}.get(rule, 0.5)
    assert np.isclose(weights @ alphas, expected)


def test_gauss_and_legendre_are_exact_on_polynomials_up_to_degree_2n_minus_1():
    alphas, weights = quadrature("gauss", 4)
    assert np.isclose(weights @ alphas**7, 1 / 8, rtol=1e-13)
    assert not np.isclose(weights @ alphas**8, 1 / 9, rtol=1e-8)


@pytest.mark.parametrize("rule", QUADRATURES)
def test_completeness(rule):
    model, x, baseline = small_cnn(), images(), images(seed=2)
    R, error = integrated_gradients(model, x, 1, baseline, 2000, rule, return_completeness_error=True)
    gain = (model(x) - model(baseline)).numpy()[:, 1]
    assert np.allclose(R.sum((1, 2, 3)) - gain, error, atol=1e-12)
    assert np.abs(error).max() < 2e-3 * np.abs(gain).max()


@pytest.mark.parametrize(
    ("function", "x", "expected"),
    [
        (lambda x: 2 * x[:, :1] - 3 * x[:, 1:] + 5, (4, 2), (8, -6)),  # linear: any number of steps
        (lambda x: x[:, :1] * x[:, 1:], (3, 5), (7.5, 7.5)),
        (lambda x: keras.ops.square(x[:, :1]) * x[:, 1:], (2, 3), (8, 4)),
        (lambda x: keras.ops.maximum(x[:, :1], x[:, 1:]), (3, 1), (3, 0)),
        (lambda x: keras.ops.minimum(x[:, :1], x[:, 1:]), (3, 1), (0, 1)),
        (lambda x: 1 - keras.ops.relu(1 - x[:, :1]) + 0 * x[:, 1:], (2, 1), (1, 0)),  # saturated
    ],
    ids=["linear", "product", "square times", "max", "min", "saturated"],
)
def test_integrated_gradients_on_paper(function, x, expected):
    R = integrated_gradients(function_model(function, 2), np.array([x], "float64"), 0, steps=1000)
    assert np.allclose(R, [expected], atol=1e-3)


def test_integrated_gradients_equal_gradient_x_input_without_biases():
    model, x = load_model("mnist_dense"), np.random.default_rng(0).random((9, 28, 28, 1), "float32")
    difference = integrated_gradients(model, x, 3, steps=20) - attributions.gradient_x_input(model, x, 3)
    assert np.abs(difference).max() < 1e-5


def test_baselines_of_every_shape():
    model, x, one = small_cnn(), images(), images(1, seed=2)
    full = integrated_gradients(model, x, 0, np.repeat(one, 5, 0))
    for baseline in (one, one[0]):
        assert np.array_equal(integrated_gradients(model, x, 0, baseline), full)
    by_number = integrated_gradients(model, x, 0, 0.5)
    assert np.array_equal(by_number, integrated_gradients(model, x, 0, np.full_like(x, 0.5)))


# --- SmoothGrad


def test_smoothgrad_of_one_relu_is_the_normal_distribution_function():
    model = function_model(keras.ops.relu, 1)
    x = np.array([[-0.5], [0.0], [0.4]])
    R, error = smoothgrad(model, x, 0, sigma=0.3, samples=20_000, return_standard_error=True)
    assert (np.abs(R - scipy.stats.norm.cdf(x / 0.3)) < 5 * error + 1e-4).all()


def test_smoothgrad_without_noise_is_the_method_itself():
    model, x = small_cnn(), images()
    assert np.allclose(smoothgrad(model, x, 0, sigma=0, samples=3), attributions.gradient(model, x, 0), atol=1e-14)
    smooth = smoothgrad(model, x, 0, sigma=0, samples=2, method="integrated_gradients", steps=5)
    assert np.allclose(smooth, integrated_gradients(model, x, 0, steps=5), atol=1e-14)
