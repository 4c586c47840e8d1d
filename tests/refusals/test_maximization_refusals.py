"""What activation maximization and its experts refuse."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L

from tests.helpers import F, average, chain, conv, dense, noise, pixels, refused, sequential
from utils import experts
from utils.maximization import maximize, maximize_code

MODEL = chain((6, 5, 1), conv(4, name="map"), average(name="mean"), dense(3, name="scores"))
GENERATOR = sequential((4,), dense(30, "sigmoid"), L.Reshape((6, 5, 1), **F))
OF_INTEGERS = keras.Sequential(
    [keras.Input((4,), dtype="int32"), L.Embedding(9, 30), L.GlobalAveragePooling1D(), L.Reshape((6, 5, 1))]
)


def constant(images):
    return tf.zeros(len(images), "float64")


def by_numpy(images):
    return tf.constant(np.asarray(images).sum((1, 2, 3)))


def total(images):
    return tf.reduce_sum(images)


def mixed(images):
    return tf.reduce_sum(images, [1, 2, 3]) - tf.reduce_mean(images) * 10


def of_a_root(images):
    return tf.reduce_sum(tf.sqrt(images - 1), [1, 2, 3])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target": 3}, ["names a class", "Received: 3 to 3", "from 0 to 2"]),
        ({"target": [0, -1]}, ["names a class", "Received: -1 to 0"]),
        ({"target": 1.0}, ["must hold integers", "float64"]),
        ({}, ["target is missing", "from 0 to 2"]),
        ({"target": 0, "objective": "probability"}, ["no such objective", "'probability'", "'logit'"]),
        ({"objective": [1.0, 2.0]}, ["finite logits [3]", "(2,)"]),
        ({"objective": [1.0, 2.0, np.nan]}, ["finite logits [3]"]),
        ({"target": 0, "objective": [1.0, 2.0, 0.0]}, ["not largest at target", "target [0]", "largest at [1]"]),
        ({"target": [0, 0, 1, 1], "objective": np.eye(3)[:2]}, ["as many as of the others", "'objective': 2", "4"]),
        ({"layer": "nowhere", "unit": 0}, ["has no layer 'nowhere'", "Expected one of", "'map'"]),
        ({"layer": "map", "unit": 4}, ["has no such unit", "Received: 4", "from 0 to 3"]),
        ({"layer": "map", "unit": (4, 0, 0)}, ["has no such unit", "(4, 3, 4)"]),
        ({"layer": "map", "unit": -1}, ["has no such unit", "Received: -1"]),
        ({"layer": "map"}, ["names no unit", "Received: None"]),
        ({"layer": "map", "unit": 0.5}, ["names no unit", "Received: 0.5"]),
        ({"layer": "map", "unit": [0, (1, 1, 1)]}, ["names no unit", "a list of either"]),
        ({"layer": "mean", "unit": (1, 1, 0)}, ["names no unit", "a channel from 0 to 3"]),
        ({"layer": "map", "unit": 0, "target": 1}, ["is named by unit", "target=1"]),
        ({"layer": "map", "unit": 0, "objective": "logit"}, ["the activation is maximized", "'logit'"]),
        ({"target": 0, "steps": 0}, ["steps must be an integer of at least 1", "0"]),
        ({"target": 0, "steps": 2.5}, ["steps must be an integer", "2.5"]),
        ({"target": 0, "jitter": -1}, ["jitter must be an integer of at least 0"]),
        ({"target": 0, "jitter": 5}, ["by less than their size", "jitter=5"]),
        ({"target": 0, "seed": -1}, ["seed must be an integer of at least 0"]),
        ({"target": 0, "weight": np.nan}, ["weight must be a finite number"]),
        ({"target": 0, "low": 1.0}, ["values of black and white", "1.0 and 1.0"]),
        ({"target": 0, "high": np.inf}, ["values of black and white"]),
        ({"target": 0, "start": 1.5}, ["outside of the box", "1.5 to 1.5", "0.0 to 1.0"]),
        ({"target": 0, "start": pixels(2, 6, 5, 1) - 0.5}, ["outside of the box"]),
        ({"target": 0, "start": pixels(5, 5, 1)}, ["start does not fit", "(1, 5, 5, 1)"]),
        ({"target": [0, 1, 2], "start": pixels(2, 6, 5, 1)}, ["as many as of the others", "'start': 2", "'target': 3"]),
        ({"target": 0, "start": [[1.0], [1.0, 2.0]]}, ["start must be an array", "list"]),
        ({"target": 0, "start": np.ma.masked_array([1], [True])}, ["start is a masked array"]),
        ({"target": 0, "low": None}, ["values of black and white", "None and 1.0"]),
        ({"target": 0, "high": "1"}, ["values of black and white", "'1'"]),
        ({"target": 0, "unit": 1}, ["unit names a unit of a layer", "unit=1 and no layer"]),
        ({"layer": "map", "unit": 0, "objective": np.ones(3)}, ["the activation is maximized"]),
        ({"target": 0, "expert": 3}, ["expert must be a function", "int"]),
        ({"target": 0, "expert": total}, ["for each image, [n]", "shape () of 2"]),
        ({"target": 0, "expert": constant}, ["expert has no gradient"]),
        ({"target": 0, "expert": by_numpy}, ["expert has no gradient", "NumPy"]),
        ({"target": 0, "expert": mixed}, ["mixes the images"]),
        ({"target": 0, "expert": of_a_root}, ["not finite at the start", "nan"]),
        ({"target": 0, "expert": experts.l2_expert(np.zeros((5, 5, 1)))}, ["centre does not fit", "(5, 5, 1)"]),
        ({"target": 0, "expert": experts.rbm_expert(noise(29, 2), noise(29), noise(2))}, ["29 visible units"]),
        ({"target": 0, "expert": experts.denoiser_expert(lambda x: x[:, 1:], 1)}, ["The denoiser makes"]),
    ],
)
def test_what_does_not_fit(options, words):
    with refused(*words):
        maximize(MODEL, **options)


def test_a_value_that_ceases_to_be_finite_is_noticed():
    def well(images):  # finite at the start and on both sides of it, and not where the gradient leads
        return tf.reduce_sum(tf.math.log(0.7 - images), [1, 2, 3]) + 1e3 * tf.reduce_sum(images, [1, 2, 3])

    with refused("answer and objective", "not finite"):
        maximize(MODEL, 0, expert=well, start=0.2)


def test_an_expert_may_have_no_value_outside_of_where_it_is_asked():
    def inside(images):
        return tf.reduce_sum(tf.math.log(0.7 - images), [1, 2, 3])

    assert maximize(MODEL, 0, expert=inside, steps=3).max() < 0.7


@pytest.mark.parametrize(
    "expert",
    [
        experts.denoiser_expert(lambda x: tf.reduce_mean(x, 0, keepdims=True) + 0 * x, 0.1),
        lambda x: -tf.reduce_sum(tf.square(x - x[:1]), [1, 2, 3]),
        lambda x: tf.reduce_sum(x * (1 - tf.stop_gradient(x[:1])), [1, 2, 3]),
        lambda x: tf.reduce_sum(tf.cumsum(x, 0, exclusive=True) * x, [1, 2, 3]),
    ],
)
def test_experts_that_mix_images(expert):
    with refused("mixes the images"):
        maximize(MODEL, [0, 1, 2], expert=expert)


@pytest.mark.parametrize(
    "expert",
    [
        lambda x: tf.stack([tf.reduce_sum(one) for one in x]),
        lambda x: tf.reduce_sum(x, [1, 2, 3]) if tf.reduce_sum(x) > 0 else tf.reduce_max(x, [1, 2, 3]),
    ],
)
def test_experts_that_cannot_be_compiled(expert):
    with refused("cannot be compiled", "without len, if or for"):
        maximize(MODEL, 0, expert=expert)


def test_numbers_and_images_may_come_as_anything_that_holds_them():
    expected = maximize(MODEL, 0, start=0.5, steps=2)
    for half in (np.array(0.5), tf.constant(0.5), np.full((6, 5, 1), 0.5).tolist()):
        assert np.array_equal(maximize(MODEL, 0, start=half, low=np.array(0), steps=2), expected)


def test_images_of_any_size_are_those_of_the_start():
    layers = [L.Conv2D(4, 9, activation="relu", name="map", **F), average(), L.Dense(2, activation="sigmoid", **F)]
    model, x = chain((None, None, 1), *layers), pixels(40, 40, 1)
    maximize(model, 0, start=x, steps=1)
    maximize(model, layer="map", unit=(31, 31, 3), start=x, steps=1)
    with refused("has no such unit", "(32, 32, 4)"):
        maximize(model, layer="map", unit=(32, 0, 0), start=x)


def test_probabilities_behind_a_head_that_is_not_known():
    hidden = chain((6, 5, 1), conv(4), average(), dense(3), L.Lambda(lambda z: tf.nn.softmax(z), **F))
    with refused("look like probabilities", "no softmax was found"):
        maximize(hidden, 0)


def test_a_unit_without_a_slope_at_the_start_is_warned_of():
    dead = sequential((3,), dense(2, "relu", name="hidden"), dense(2))
    dead.layers[0].set_weights([-np.ones((3, 2)), np.zeros(2)])
    with pytest.warns(UserWarning, match="no slope at the start of images"):
        maximize(dead, layer="hidden", unit=0, steps=2)


def test_images_of_any_size_need_a_start():
    model = chain((None, None, 1), conv(2), average(), dense(2))
    with refused("images of any size", "Expected: an image"):
        maximize(model, 0)
    assert maximize(model, 0, start=pixels(6, 5, 1), steps=2).shape == (1, 6, 5, 1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target": 7}, ["names a class"]),
        ({"target": 0, "l2": -1.0}, ["l2 must be a finite number of at least 0"]),
        ({"target": 0, "start": noise(3)}, ["start must be a number, a code (4,)", "shape (3,)"]),
        ({"target": 0, "centre": noise(2, 2, 4)}, ["centre must be a number", "(2, 2, 4)"]),
        ({"target": 0, "centre": np.inf}, ["centre must hold finite numbers"]),
        ({"target": [0, 1], "start": noise(3, 4)}, ["as many as of the others"]),
        ({"target": 0, "steps": 0}, ["steps must be an integer"]),
        (
            {"target": 0, "generator": sequential((4,), dense(30))},
            ["do not fit", "codes (4,), images (30,)", "(6, 5, 1)"],
        ),
        ({"target": 0, "generator": OF_INTEGERS}, ["from int32", "codes of known shape, floats"]),
        ({"target": 0, "generator": lambda z: z}, ["Expected a Keras 3 model"]),
    ],
)
def test_codes_that_do_not_fit(options, words):
    with refused(*words):
        maximize_code(MODEL, **{"generator": GENERATOR, **options})


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: experts.l2_expert("mean"), ["centre must be an array", "'mean'"]),
        (lambda: experts.l2_expert(np.nan), ["centre must hold finite numbers"]),
        (lambda: experts.total_variation_expert(tf.zeros((3, 5))), ["Total variation needs images"]),
        (lambda: experts.gaussian_expert(pixels(6, 5)[0]), ["at least two images"]),
        (lambda: experts.gaussian_expert(np.zeros((5, 3))), ["All images are the same"]),
        (lambda: experts.gaussian_expert(np.full((5, 3), np.nan)), ["images must hold finite numbers"]),
        (lambda: experts.rbm_expert(noise(4, 2), noise(3), noise(2)), ["a bias for each", "(3,) visible"]),
        (lambda: experts.denoiser_expert(3, 0.1), ["denoiser must be a model", "3"]),
        (lambda: experts.denoiser_expert(MODEL, 0), ["sigma is the standard deviation", "0"]),
    ],
)
def test_experts_that_cannot_be(make, words):
    with refused(*words):
        make()
