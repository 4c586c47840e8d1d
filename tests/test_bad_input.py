"""Whatever does not fit is refused, with a word about what came, what was expected and what to do."""

import re

import keras
import numpy as np
import pytest
from test_attributions import images, small_cnn

from utils import attributions
from utils.attributions import METHODS, gradient, integrated_gradients, smoothgrad

MODEL = small_cnn(dtype="float32")
X = images(3, dtype="float32")


def refused(*words):
    """The context of a ValueError whose message holds all `words`, in this order."""
    return pytest.raises(ValueError, match="(?s)" + ".*".join(map(re.escape, words)))


@pytest.mark.parametrize("name", METHODS)
class TestEveryMethod:
    def test_a_single_image_without_its_batch_axis(self, name):
        with refused("Received: shape (8, 7, 2)", "Expected: [n, 8, 7, 2]", "x[None]"):
            METHODS[name](MODEL, X[0])

    def test_wrong_channels(self, name):
        with refused("Received: shape (3, 8, 7, 1)", "Expected: [n, 8, 7, 2]"):
            METHODS[name](MODEL, X[..., :1])

    def test_wrong_rank(self, name):
        with refused("Received: shape (3, 112)", "Expected: [n, 8, 7, 2]"):
            METHODS[name](MODEL, X.reshape(3, -1))

    @pytest.mark.parametrize("target", [4, -1, [0, 1, 4]])
    def test_a_class_out_of_range(self, name, target):
        with refused("class", "Received", "Expected: a class index from 0 to 3"):
            METHODS[name](MODEL, X, target)

    def test_one_target_too_few(self, name):
        with refused("Received: 2 targets", "Expected", "each of the 3 images"):
            METHODS[name](MODEL, X, [0, 1])

    def test_one_hot_targets(self, name):
        with refused("Received: shape (3, 4)", "labels.argmax(-1)"):
            METHODS[name](MODEL, X, np.eye(4, dtype="int64")[:3])

    def test_targets_that_are_not_whole(self, name):
        with refused("target must hold whole numbers", "Received: float64"):
            METHODS[name](MODEL, X, [0.5, 1, 2])

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_numbers_that_are_not_finite(self, name, value):
        bad = X.copy()
        bad[1, 2, 3, 0] = value
        with refused("finite", "Received: 1 values", "(1, 2, 3, 0)"):
            METHODS[name](MODEL, bad)

    def test_whole_numbers_are_not_guessed_at(self, name):
        with refused("Received: uint8 from 0 to", "not guessed", "/ 255"):
            METHODS[name](MODEL, (X * 255).astype("uint8"))

    def test_an_unbuilt_model(self, name):
        with refused("not built", "keras.Input"):
            METHODS[name](keras.Sequential([keras.layers.Dense(3)]), X)

    def test_a_subclassed_model(self, name):
        with refused("subclassed (Own)", "Expected: a functional or Sequential model"):
            METHODS[name](Own(), X)

    def test_a_functional_model_with_a_call_of_its_own(self, name):
        x = keras.Input((8, 7, 2))
        with refused("subclassed (OwnCall)"):
            METHODS[name](OwnCall(x, keras.layers.Dense(2)(keras.layers.Flatten()(x))), X)

    def test_something_that_is_no_keras_model(self, name):
        with refused("Expected a Keras 3 model", "Received"):
            METHODS[name](lambda x: x, X)

    @pytest.mark.parametrize("batch_size", [0, -1, 2.5, True])
    def test_batch_size(self, name, batch_size):
        with refused("batch_size must be a whole number of at least 1", f"Received: {batch_size}"):
            METHODS[name](MODEL, X, 0, batch_size=batch_size)

    def test_explain(self, name):
        with refused("Received: 'probability'", "Expected: 'logit' or 'output'"):
            METHODS[name](MODEL, X, explain="probability")


class Own(keras.Model):
    def call(self, x):
        return x


class OwnCall(keras.Model):
    def call(self, x):
        return 2 * super().call(x)


def test_several_inputs_or_outputs():
    a, b = keras.Input((3,)), keras.Input((3,))
    y = keras.layers.Dense(2)(a + b)
    with refused("one input and one output", "2 inputs"):
        gradient(keras.Model([a, b], y), X)
    with refused("one input and one output", "2 outputs"):
        gradient(keras.Model(a, [keras.layers.Dense(2)(a), keras.layers.Dense(2)(a)]), X)


def test_an_output_that_is_no_row_of_scores():
    x = keras.Input((8, 7, 2))
    with refused("one score per class", "Received", "GlobalAveragePooling2D"):
        gradient(keras.Model(x, keras.layers.Conv2D(3, 3)(x)), X)


def test_a_model_of_whole_numbers():
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
    with refused("steps must be a whole number of at least 1", "Received"):
        integrated_gradients(MODEL, X, 0, steps=steps)


def test_one_step_of_the_trapezoid_rule():
    with refused("steps must be a whole number of at least 2"):
        integrated_gradients(MODEL, X, 0, steps=1, rule="trapezoid")


def test_a_quadrature_rule_that_does_not_exist():
    with refused("Received: 'simpson'", "Expected: 'left'"):
        integrated_gradients(MODEL, X, 0, rule="simpson")
    with refused("Received: ['left']"):
        integrated_gradients(MODEL, X, 0, rule=["left"])


@pytest.mark.parametrize("method", [integrated_gradients, attributions.interior_gradients])
def test_a_baseline_of_the_wrong_shape(method):
    for baseline in (np.zeros((2, 8, 7, 2)), np.zeros((8, 7, 1)), np.zeros(8)):
        with refused("baseline does not fit x", f"Received: shape {np.shape(baseline)}", "Expected"):
            method(MODEL, X, 0, baseline)


def test_a_baseline_that_is_not_finite_or_whole():
    with refused("baseline must hold finite numbers"):
        integrated_gradients(MODEL, X, 0, np.nan)
    with refused("baseline must hold floating-point numbers", "uint8"):
        integrated_gradients(MODEL, X, 0, np.zeros((8, 7, 2), "uint8"))


@pytest.mark.parametrize("sigma", [-0.1, np.nan, [0.1, 0.2], "a"])
def test_noise(sigma):
    with refused("sigma must be a number of at least 0", "Received"):
        smoothgrad(MODEL, X, 0, sigma=sigma)


def test_other_arguments_of_smoothgrad():
    with refused("samples must be a whole number of at least 1"):
        smoothgrad(MODEL, X, 0, samples=0)
    with refused("samples must be a whole number of at least 2"):
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
    with refused("seed must be a whole number"):
        smoothgrad(MODEL, X, 0, seed=-1)


def test_alpha():
    with refused("alpha must be a finite number"):
        attributions.interior_gradients(MODEL, X, 0, alpha=np.nan)


def test_models_that_compute_something_else_than_their_graph():
    model = small_cnn(dtype="float32")
    model.call = lambda x, training=None, mask=None: x
    with refused("subclassed"):
        gradient(model, X, 0)

    class OwnDunderCall(keras.Sequential):
        def __call__(self, x, training=None):
            return 2 * super().__call__(x)

    with refused("subclassed (OwnDunderCall)"):
        gradient(OwnDunderCall([keras.Input((8, 7, 2)), keras.layers.Flatten(), keras.layers.Dense(2)]), X, 0)


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


def test_masked_arrays():
    with refused("masked array"):
        gradient(MODEL, np.ma.array(X, mask=X > 0.5))


@pytest.mark.parametrize("alpha", [[], "a", 1j])
def test_odd_alphas(alpha):
    with refused("alpha must be a finite number"):
        attributions.interior_gradients(MODEL, X, 0, alpha=alpha)


def test_whole_numbers_as_baselines_are_numbers():
    assert np.array_equal(integrated_gradients(MODEL, X, 0, 1), integrated_gradients(MODEL, X, 0, 1.0))
