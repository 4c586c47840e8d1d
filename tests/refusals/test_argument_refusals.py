"""What single methods refuse, and models that none can explain."""

import keras
import numpy as np
import pytest

from tests.helpers import images, refused, small_cnn
from utils import attributions
from utils.attributions import gradient, integrated_gradients, occlusion, rise, smoothgrad

MODEL = small_cnn(dtype="float32")


X = images(3, dtype="float32")


def test_a_model_of_integers():
    x = keras.Input((5,), dtype="int32")
    y = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(10, 4)(x)))
    with refused("input", "int32", "no gradient"):
        gradient(keras.Model(x, y), np.zeros((1, 5), "int32"))


def test_an_operation_without_a_gradient():
    x = keras.Input((4,))
    y = keras.ops.cast(keras.ops.cast(x, "int32"), "float32")
    with refused("No gradient flows"):
        gradient(keras.Model(x, y), np.ones((1, 4), "float32"), 0)


def test_a_softmax_that_cannot_be_seen():
    x = keras.Input((4,))
    model = keras.Model(x, keras.layers.Lambda(lambda t: keras.ops.softmax(t))(keras.layers.Dense(3)(x)))
    for _ in range(2):  # the second time too
        with refused("look like probabilities", "explain='output'"):
            gradient(model, np.ones((1, 4), "float32"), 0)
    assert gradient(model, np.ones((1, 4), "float32"), 0, explain="output").shape == (1, 4)


@pytest.mark.parametrize("steps", [0, -3, 1.5, 31.0, "50", None, True, [30], np.array([3])])
def test_steps(steps):
    integrated_gradients(MODEL, X, 0, steps=1)  # that 1 and 31 are fine does not make True and 31.0 so
    integrated_gradients(MODEL, X, 0, steps=31)
    with refused("steps must be an integer of at least 1", "Received"):
        integrated_gradients(MODEL, X, 0, steps=steps)


def test_one_step_of_the_trapezoid_rule():
    with refused("steps must be an integer of at least 2"):
        integrated_gradients(MODEL, X, 0, steps=1, rule="trapezoid")


def test_a_quadrature_rule_that_does_not_exist():
    with refused("Received: 'simpson'", "Expected: 'left'"):
        integrated_gradients(MODEL, X, 0, rule="simpson")
    with refused("Received: ['left']"):
        integrated_gradients(MODEL, X, 0, rule=["left"])


@pytest.mark.parametrize("method", [integrated_gradients, attributions.interior_gradients, occlusion, rise])
def test_a_baseline_of_the_wrong_shape(method):
    for baseline in (np.zeros((2, 8, 7, 2)), np.zeros((8, 7, 1)), np.zeros(8)):
        with refused("baseline does not fit x", f"Received: shape {np.shape(baseline)}", "Expected"):
            method(MODEL, X, 0, baseline=baseline)


@pytest.mark.parametrize("method", [integrated_gradients, occlusion, rise])
def test_a_baseline_that_is_not_finite_or_whole(method):
    with refused("baseline must hold finite numbers"):
        method(MODEL, X, 0, baseline=np.nan)
    with refused("baseline must hold floating-point numbers", "uint8"):
        method(MODEL, X, 0, baseline=np.zeros((8, 7, 2), "uint8"))


@pytest.mark.parametrize("sigma", [-0.1, np.nan, [0.1, 0.2], "a"])
def test_noise(sigma):
    with refused("sigma must be a number of at least 0", "Received"):
        smoothgrad(MODEL, X, 0, sigma=sigma)


def test_other_arguments_of_smoothgrad():
    with refused("samples must be an integer of at least 1"):
        smoothgrad(MODEL, X, 0, samples=0)
    with refused("samples must be an integer of at least 2"):
        smoothgrad(MODEL, X, 0, samples=1, return_standard_error=True)
    with refused("variant", "Received: 'median'"):
        smoothgrad(MODEL, X, 0, variant="median")
    with refused("variance"):
        smoothgrad(MODEL, X, 0, variant="variance", return_standard_error=True)
    with refused("There is no such method", "'gradients'", "Expected one of: gradient,"):
        smoothgrad(MODEL, X, 0, method="gradients")
    with refused("There is no such method", "['gradient']"):
        smoothgrad(MODEL, X, 0, method=["gradient"])
    with refused("one map for each image", "Received: tuple"):
        smoothgrad(MODEL, X, 0, method=integrated_gradients, return_completeness_error=True)
    with refused("one map for each image", "Received: shape (2, 150, 8, 7, 2)"):
        smoothgrad(MODEL, X, 0, method="interior_gradients", alpha=[0.1, 0.2])
    with refused("seed must be an integer"):
        smoothgrad(MODEL, X, 0, seed=-1)


@pytest.mark.parametrize(("window", "stride"), [(9, 1), ((8, 8), 1), (3, 4), ((3, 2), (3, 3))])
def test_windows_that_leave_pixels_out_or_do_not_fit(window, stride):
    pairs = [one if isinstance(one, tuple) else (one, one) for one in (window, stride)]
    with refused("window must fit into the image, and stride into the window", f"Received: window {pairs[0]}, stride"):
        occlusion(MODEL, X, 0, window, stride)


@pytest.mark.parametrize("name", ["window", "stride"])
def test_sides_of_a_window(name):
    for bad in (0, -1, True, 2.0, "2", None, (2, 0), (2, 1.5), [True, 2], np.array([2.0, 1.0])):
        with refused(f"{name} must be an integer of at least 1", "Received"):
            occlusion(MODEL, X, 0, **{name: bad})
    for bad in ((2,), (2, 2, 2), [], np.ones((3, 2), int)):
        with refused(f"{name} must be a number, or one for each of 2 axes", "Received"):
            occlusion(MODEL, X, 0, **{name: bad})


@pytest.mark.parametrize("p", [0, 1, 0.0, 1.0, 2, -0.1, np.nan, True, "0.5", None, [0.5]])
def test_a_probability(p):
    with refused("p must", "Received"):
        rise(MODEL, X, 0, p=p)


def test_other_arguments_of_rise():
    for name in ("masks", "cells"):
        for bad in (0, -1, True, 2.0, "2", None, (2, 2)):
            with refused(f"{name} must be an integer of at least 1", f"Received: {bad!r}"):
                rise(MODEL, X, 0, **{name: bad})
    with refused("masks must be an integer of at least 2", "Received: 1"):
        rise(MODEL, X, 0, masks=1, return_standard_error=True)
    for bad in (-1, 0.5, None, True):
        with refused("seed must be an integer of at least 0", f"Received: {bad!r}"):
            rise(MODEL, X, 0, seed=bad)


def test_alpha():
    with refused("alpha must be a finite number"):
        attributions.interior_gradients(MODEL, X, 0, alpha=np.nan)


def test_models_that_compute_something_else_than_their_graph():
    model = small_cnn(dtype="float32")
    model.call = lambda x, training=None, mask=None: x
    with refused("subclassed"):
        gradient(model, X, 0)


def test_scores_and_gradients_that_are_not_finite():
    model = small_cnn(dtype="float32")
    model.layers[-1].bias.assign([np.nan] * 4)
    with refused("The scores of", "not finite"):
        gradient(model, X)
    x = keras.Input((3,))
    with refused("The gradients of", "not finite", "a root at 0"):
        integrated_gradients(keras.Model(x, keras.ops.sqrt(x)), np.ones((1, 3), "float32"), 0, rule="left")


def test_models_that_mix_the_images_of_a_batch():
    x = keras.Input((3,))
    model = keras.Model(x, keras.layers.Dense(2)(x - keras.ops.mean(x, axis=0, keepdims=True)))
    with refused("mixes the images of a batch"):
        gradient(model, np.random.default_rng(0).random((4, 3), "float32"), 0)


def test_a_number_of_classes_that_is_not_known():
    x = keras.Input((None, None, 3))
    with refused("number of classes", "GlobalAveragePooling2D"):
        gradient(keras.Model(x, keras.layers.Flatten()(keras.layers.Conv2D(1, 1)(x))), np.ones((1, 4, 4, 3), "float32"))


@pytest.mark.parametrize("alpha", [[], "a", 1j])
def test_odd_alphas(alpha):
    with refused("alpha must be a finite number"):
        attributions.interior_gradients(MODEL, X, 0, alpha=alpha)


def test_integers_as_baselines_are_numbers():
    assert np.array_equal(integrated_gradients(MODEL, X, 0, 1), integrated_gradients(MODEL, X, 0, 1.0))
