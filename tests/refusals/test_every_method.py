"""What no method takes: refused by all of them, with a word about what came, what was expected and what to do."""

import functools

import keras
import numpy as np
import pytest
from keras import layers as L

from tests.helpers import (
    CAMS,
    METHODS,
    SHAPE,
    F,
    Own,
    after,
    average,
    dense,
    explained,
    pixels,
    randomize,
    refused,
    shared_net,
)
from utils.relevance import relevance_ledger

EVERY = METHODS | {name: functools.partial(explained, name) for name in CAMS} | {"relevance_ledger": relevance_ledger}
OF_RULES = ("lrp", "deep_taylor", "deeplift", "deconvolution", "guided_backprop", "relevance_ledger")
X = pixels(3, *SHAPE).astype("float32")

each_method = pytest.mark.parametrize("name", EVERY)
each_of_an_explained_score = pytest.mark.parametrize("name", [name for name in EVERY if name != "class_activation_map"])


def call(name, model=None, x=X, target=None, **how):
    """The method of that name, on a network that all of them can explain unless told otherwise."""
    return EVERY[name](shared_net("float32") if model is None else model, x, target, **how)


class OwnCall(keras.Model):
    def call(self, x):
        return 2 * super().call(x)


class OwnDunderCall(keras.Sequential):
    def __call__(self, x, training=None):
        return 2 * super().__call__(x)


@each_method
class TestImages:
    def test_a_single_image_without_its_batch_axis(self, name):
        with refused("Received: shape (11, 9, 2)", "Expected: [n, 11, 9, 2]", "x[None]"):
            call(name, x=X[0])

    def test_wrong_channels(self, name):
        with refused("Received: shape (3, 11, 9, 1)", "Expected: [n, 11, 9, 2]"):
            call(name, x=X[..., :1])

    def test_wrong_rank(self, name):
        with refused("Received: shape (3, 198)", "Expected: [n, 11, 9, 2]"):
            call(name, x=X.reshape(3, -1))

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_numbers_that_are_not_finite(self, name, value):
        bad = X.copy()
        bad[1, 2, 3, 0] = value
        with refused("finite", "Received: 1 values", "(1, 2, 3, 0)"):
            call(name, x=bad)

    def test_integers_are_not_guessed_at(self, name):
        with refused("Received: uint8 from 0 to", "not guessed", "/ 255"):
            call(name, x=(255 * X).astype("uint8"))

    def test_masked_arrays(self, name):
        with refused("masked array"):
            call(name, x=np.ma.array(X, mask=X > 0.5))


@each_method
class TestTargets:
    @pytest.mark.parametrize("target", [4, -1, [0, 1, 4]])
    def test_a_class_out_of_range(self, name, target):
        with refused("class", "Received", "Expected: a class index from 0 to 3"):
            call(name, target=target)

    def test_one_target_too_few(self, name):
        with refused("Received: 2 targets", "Expected", "each of the 3 images"):
            call(name, target=[0, 1])

    def test_one_hot_targets(self, name):
        with refused("Received: shape (3, 4)", "labels.argmax(-1)"):
            call(name, target=np.eye(4, dtype="int64")[:3])

    def test_targets_that_are_not_whole(self, name):
        with refused("target must hold integers", "Received: float64"):
            call(name, target=[0.5, 1, 2])


@each_method
class TestModels:
    def test_an_unbuilt_model(self, name):
        with refused("not built", "keras.Input"):
            call(name, keras.Sequential([L.Dense(3)]))

    def test_a_subclassed_model(self, name):
        with refused("subclassed (Own)", "Expected: a functional or Sequential model"):
            call(name, Own())

    def test_a_subclassed_model_inside(self, name):
        if name not in CAMS and name not in OF_RULES:
            pytest.skip("a gradient goes through it")
        x = keras.Input(SHAPE)
        with refused("subclassed (Own)", "Expected: a functional or Sequential model"):
            call(name, keras.Model(x, dense(4, dtype="float32")(average("float32")(Own()(x)))))

    def test_models_with_a_call_of_their_own(self, name):
        x = keras.Input(SHAPE)
        with refused("subclassed (OwnCall)"):
            call(name, OwnCall(x, L.Dense(2)(L.Flatten()(x))))
        with refused("graph", "does not compute what the model computes"):
            call(
                name, OwnDunderCall([keras.Input(SHAPE), L.Conv2D(2, 3), L.GlobalAveragePooling2D(), L.Dense(2)]), X, 0
            )

    def test_something_that_is_no_keras_model(self, name):
        with refused("Expected a Keras 3 model", "Received"):
            call(name, lambda x: x)

    def test_several_inputs(self, name):
        a, b = keras.Input(SHAPE), keras.Input(SHAPE)
        model = keras.Model([a, b], L.Dense(2)(L.GlobalAveragePooling2D()(a + b)))
        # the class activation maps take several, but not one array for them
        words = ("has 2 inputs", "a list of arrays") if name in CAMS else ("one input and one output", "2 inputs")
        with refused(*words):
            call(name, model)

    def test_several_outputs(self, name):
        x = keras.Input(SHAPE)
        y = L.GlobalAveragePooling2D()(x)
        with refused("one input and one output", "2 outputs", "keras.Model(inputs, outputs)"):
            call(name, keras.Model(x, [L.Dense(2)(y), L.Dense(2)(y)]))

    def test_an_output_that_is_no_row_of_scores(self, name):
        x = keras.Input(SHAPE)
        with refused("one score per class", "Received", "GlobalAveragePooling2D"):
            call(name, keras.Model(x, L.Conv2D(3, 3)(x)))


def softmax(z):  # not Keras's
    return keras.ops.exp(z) / keras.ops.sum(keras.ops.exp(z), -1, keepdims=True)


@functools.cache
def hidden_softmax(kind):
    if kind == "activation":
        x, _, y = after(average(), dense(3, softmax))
    else:
        x, _, y = after(average(), dense(3), L.Lambda(lambda t: keras.ops.softmax(t), **F))
    return randomize(keras.Model(x, y))


@functools.cache
def mixed():
    x, _, y = after(lambda A: A - keras.ops.mean(A, 0, keepdims=True), L.ReLU(**F), average())
    return randomize(keras.Model(x, dense(3)(y)))


def or_no_rule(name):
    return "|no rule|no backward rule" if name in OF_RULES else ""


@each_of_an_explained_score
class TestScores:
    @pytest.mark.parametrize("kind", ["activation", "Lambda"])
    def test_probabilities_whose_softmax_cannot_be_seen(self, name, kind):
        for _ in range(2):  # the second time too
            with pytest.raises(ValueError, match="(?s)look like probabilities.*explain='output'" + or_no_rule(name)):
                call(name, hidden_softmax(kind), pixels(3, 6, 6, 2), 0)

    def test_images_that_are_mixed(self, name):
        with pytest.raises(ValueError, match="mixes the images of a batch" + or_no_rule(name)):
            call(name, mixed(), pixels(3, 6, 6, 2), 0)

    def test_explain(self, name):
        with refused("Received: 'probability'", "Expected: 'logit' or 'output'"):
            call(name, explain="probability")


@pytest.mark.parametrize("batch_size", [0, -1, 2.5, True])
@pytest.mark.parametrize("name", [name for name in EVERY if name != "relevance_ledger"])
def test_batch_size(name, batch_size):
    with refused("batch_size must be an integer of at least 1", f"Received: {batch_size}"):
        call(name, batch_size=batch_size)
