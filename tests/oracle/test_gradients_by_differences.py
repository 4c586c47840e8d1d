"""Gradient methods against slow computations in float64: differences, plain loops and means over noisy copies."""

import numpy as np
import pytest

from tests.helpers import QUADRATURES, differences, images, small_cnn
from utils import attributions
from utils.attributions import integrated_gradients, quadrature, smoothgrad


def test_gradient_agrees_with_differences():
    model, x, target = small_cnn(), images(), np.array([0, 1, 2, 3, 0])
    assert np.abs(attributions.gradient(model, x, target) - differences(model, x, target)).max() < 1e-8


def test_the_gradient_of_an_output_agrees_with_differences():
    model, x, target = small_cnn("softmax"), images(), np.array([0, 1, 2, 3, 0])
    ours = attributions.gradient(model, x, target, explain="output")
    assert np.abs(ours - differences(model, x, target)).max() < 1e-8


def test_interior_gradients_are_gradients_at_points_of_the_way():
    model, x, baseline = small_cnn(), images(3), images(3, seed=2)
    maps = attributions.interior_gradients(model, x, 1, baseline, alpha=[0, 0.3, 1])
    for alpha, R in zip((0, 0.3, 1), maps):
        point = baseline + alpha * (x - baseline)
        assert np.allclose(R, attributions.gradient(model, point, 1), atol=1e-12)
    assert np.array_equal(attributions.interior_gradients(model, x, 1, baseline, alpha=0.3), maps[1])


@pytest.mark.parametrize("rule", QUADRATURES)
def test_integrated_gradients_agree_with_a_plain_loop(rule):
    model, x, baseline, target = small_cnn(), images(), images(seed=2), np.array([3, 2, 1, 0, 1])
    alphas, weights = quadrature(rule, 9)
    average = sum(w * differences(model, baseline + a * (x - baseline), target) for a, w in zip(alphas, weights))
    ours = integrated_gradients(model, x, target, baseline, steps=9, rule=rule)
    assert np.abs(ours - (x - baseline) * average).max() < 1e-8


def test_smoothgrad_is_a_mean_over_noisy_copies():
    model, x, target = small_cnn(), images(3), np.array([3, 0, 1])
    noise = np.random.default_rng(7).standard_normal((6, 8, 7, 2))
    maps = np.stack([differences(model, x + 0.2 * e, target) for e in noise])
    R, error = smoothgrad(model, x, target, 0.2, samples=6, seed=7, return_standard_error=True)
    assert np.abs(R - maps.mean(0)).max() < 1e-8
    assert np.abs(error - maps.std(0, ddof=1) / np.sqrt(6)).max() < 1e-8
    square, square_error = smoothgrad(model, x, target, 0.2, 6, variant="square", seed=7, return_standard_error=True)
    assert np.abs(square - (maps**2).mean(0)).max() < 1e-7
    assert np.abs(square_error - (maps**2).std(0, ddof=1) / np.sqrt(6)).max() < 1e-7
    assert np.abs(smoothgrad(model, x, target, 0.2, 6, variant="variance", seed=7) - maps.var(0)).max() < 1e-7


def test_the_default_noise_is_a_share_of_each_images_range():
    model, x = small_cnn(), images(2) * np.array([1, 10]).reshape(2, 1, 1, 1)
    R = smoothgrad(model, x, 0, samples=4)
    for k in range(2):
        assert np.allclose(R[k], smoothgrad(model, x[k : k + 1], 0, sigma=0.15 * np.ptp(x[k]), samples=4)[0])
