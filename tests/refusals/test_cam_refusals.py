"""What class activation maps refuse, beside what every method does."""

import functools

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

from tests.helpers import (
    SHAPE,
    TARGET,
    WORDS,
    F,
    X,
    after,
    average,
    backbone,
    conv,
    deep_net,
    dense,
    each_cam,
    explained,
    noise,
    one_output_of_two,
    pooled_net,
    randomize,
    refused,
    sequential,
    shared_net,
    with_words,
)
from utils import cam


@functools.cache
def a_layer_twice():
    twice = conv(2, padding="same", name="twice")
    x = keras.Input(SHAPE, **F)
    y = conv(2, padding="same", name="once")(twice(twice(x)))
    return randomize(keras.Model(x, dense(4)(average()(y)))), twice


@functools.cache
def without_feature_maps():
    return sequential((5,), dense(4), dense(4, name="last"))


@functools.cache
def channels_first():
    x, first = keras.Input(SHAPE, **F), {"data_format": "channels_first"}
    y = L.Permute((3, 1, 2), **F)(conv(4, name="map")(x))
    return keras.Model(x, dense(4)(L.Flatten(**F)(L.MaxPooling2D(2, name="first", **first, **F)(y))))


@pytest.mark.parametrize("name", ["grad_cam", "paper", "score_cam", "guided_grad_cam"])
class TestLayers:
    @pytest.mark.parametrize("layer", ["nowhere", "head", 0, ["late"], b"late"], ids=str)
    def test_what_is_no_feature_map(self, name, layer):
        with refused(
            repr(layer), "no feature map", "Expected a layer of", "[n, height, width, channels]", "early", "late"
        ):
            explained(name, shared_net(), layer=layer)

    def test_a_layer_of_another_model(self, name):
        with refused("'late'", "Expected a layer of"):
            explained(name, shared_net(), layer=deep_net().get_layer("late"))

    def test_a_layer_in_several_places(self, name):
        model, twice = a_layer_twice()
        for layer in ("twice", twice):
            with refused("'twice' stands in several places", "Expected a layer of", "once"):
                explained(name, model, layer=layer)

    def test_a_network_without_feature_maps(self, name):
        with refused("no feature map", "[n, height, width, channels]", "there is none"):
            explained(name, without_feature_maps(), noise(3, 5), 0)

    def test_channels_first(self, name):
        with refused("'first' has channels first", "Expected: channels last"):
            explained(name, channels_first(), target=0, layer="map")


@each_cam
class TestSizes:
    @pytest.mark.parametrize("size", [1, 0, None, 5, (4,), (1, 2, 3), "big", np.array([4, 4])], ids=str)
    def test_what_is_no_size(self, name, size):
        if name != "guided_grad_cam":
            with refused("upsample must be True, False or (height, width)", "Received"):
                explained(name, shared_net(), upsample=size)

    @pytest.mark.parametrize("size", [(0, 4), (4.0, 4), (-1, 4), (True, 4)], ids=str)
    def test_a_side_that_is_no_integer(self, name, size):
        if name != "guided_grad_cam":
            with refused("upsample must be an integer of at least 1", "Received"):
                explained(name, shared_net(), upsample=size)


def test_a_layer_that_the_score_does_not_depend_on():
    model, _, _ = one_output_of_two()
    for name in ("grad_cam", "paper", "layer_cam"):
        with refused("does not depend on 'unused'", "Choose another layer"):
            explained(name, model, noise(1, 6, 6, 2), 0, layer="unused")


@pytest.mark.parametrize("variant", ["Paper", "", None, 1, ["paper"]], ids=str)
def test_a_variant_that_there_is_not(variant):
    with refused("no such variant", f"Received: {variant!r}", "Expected: 'paper' or 'authors'"):
        cam.grad_cam_plus_plus(shared_net(), X, TARGET, variant=variant)


NO_AVERAGE_AT_THE_END = {
    "flattened": lambda: [conv(4), L.Flatten(**F), dense(4)],
    "a hidden layer": lambda: [conv(4), average(), dense(5), dense(4)],
    "the maximum": lambda: [conv(4), L.GlobalMaxPooling2D(**F), dense(4)],
    "a norm between": lambda: [conv(4), average(), L.BatchNormalization(**F), dense(4)],
    "dense alone": lambda: [L.Flatten(**F), dense(4)],
}


@pytest.mark.parametrize("name", NO_AVERAGE_AT_THE_END)
def test_a_class_activation_map_needs_an_average_at_the_end(name):
    model = sequential(SHAPE, *NO_AVERAGE_AT_THE_END[name]())
    with refused("needs a network that ends in a global average pooling", "Received", "grad_cam needs no such end"):
        cam.class_activation_map(model, X, TARGET)


def test_a_class_activation_map_of_a_relu():
    with refused("'head' has an activation", "no sum over places"):
        cam.class_activation_map(pooled_net("relu"), X, TARGET)


@pytest.mark.parametrize("channels", [4, 5])
def test_a_class_activation_map_of_channels_first(channels):
    """With as many channels as columns, shapes fit."""
    first = L.GlobalAveragePooling2D(data_format="channels_first", name="first", **F)
    model = sequential((4, 4, 2), conv(channels, 1), L.Permute((3, 1, 2), **F), first, dense(3))
    with refused("'first' has channels first", "Expected: channels last"):
        cam.class_activation_map(model, noise(2, 4, 4, 2), 0)


class TestInputs:
    def test_score_cam_with_two(self):
        with refused("one input", "grad_cam"):
            explained("score_cam", with_words(), [X, WORDS])

    def test_guided_grad_cam_with_two(self):
        with refused("one input", "Received", "2 inputs"):
            explained("guided_grad_cam", with_words(), [X, WORDS])

    @pytest.mark.parametrize("x", [X, [X], [X, WORDS, WORDS], {"image": X}, {"image": X, "word": WORDS}], ids=type)
    def test_another_number(self, x):
        with refused("has 2 inputs", "Received", "Expected: a list of arrays for ['image', 'words']"):
            explained("grad_cam", with_words(), x)

    def test_lists_for_one_input(self):
        with refused("does not fit the input", "Received: shape (1, 3, 11, 9, 2)"):
            explained("grad_cam", shared_net(), [X])

    def test_different_lengths(self):
        with refused("differ in length", "[3, 2]"):
            explained("grad_cam", with_words(), [X, WORDS[:2]])

    def test_fractions_where_integers_belong(self):
        with refused("'words'", "integers (int32)", "Received: float64"):
            explained("grad_cam", with_words(), [X, WORDS / 2])

    @pytest.mark.parametrize("words", [WORDS + 256, WORDS - 300], ids=["too large", "too small"])
    def test_integers_that_do_not_fit(self, words):
        with refused("'words'", "int8", "Received"):
            explained("grad_cam", with_words("int8"), [X, words])

    def test_text(self):
        image, text = keras.Input((6, 6, 2), name="image"), keras.Input((1,), dtype="string", name="text")
        codes = L.Flatten()(L.StringLookup(vocabulary=["a", "b"], output_mode="one_hot")(text))
        features = average("float32")(conv(3, dtype="float32")(image))
        model = keras.Model([image, text], dense(3, dtype="float32")(L.Concatenate()([features, codes])))
        with refused("input", "string", "Expected"):
            explained("grad_cam", model, [noise(2, 6, 6, 2), np.array([["a"], ["b"]])], 0)


class TestImagesThatAreNotHeightWidthChannels:
    """Maps cannot be brought to the size of such images."""

    def refused(self, model, x):
        for name, how in (("grad_cam", {"upsample": True}), ("score_cam", {}), ("guided_grad_cam", {})):
            with refused("Expected"):
                explained(name, model, x, 0, **how)

    def test_without_channels(self):
        x = keras.Input((6, 6), **F)
        y = conv(4, name="map")(L.Reshape((6, 6, 1), **F)(x))
        self.refused(randomize(keras.Model(x, dense(3)(average()(y)))), noise(2, 6, 6))

    def test_rows_of_numbers(self):
        x = keras.Input((36,), **F)
        y = conv(4, name="map")(L.Reshape((6, 6, 1), **F)(x))
        self.refused(randomize(keras.Model(x, dense(3)(average()(y)))), noise(2, 36))

    def test_films(self):
        x = keras.Input((4, 6, 6, 2), **F)
        y = conv(4, name="map")(ops.mean(x, 1))
        self.refused(randomize(keras.Model(x, dense(3)(average()(y)))), noise(2, 4, 6, 6, 2))

    def test_channels_first_and_then_moved(self):
        """Shapes fit, but the map would be of the size channels x height."""
        x = keras.Input((2, 6, 8), **F)
        y = conv(4, name="map")(L.Permute((2, 3, 1), **F)(x))
        self.refused(randomize(keras.Model(x, dense(3)(average()(y)))), noise(2, 2, 6, 8))


def test_a_shared_network_has_no_last_feature_map():
    """Which of two images would the map be of?"""
    a, b = keras.Input(SHAPE, **F), keras.Input(SHAPE, **F)
    inner = backbone()
    both = L.Concatenate(**F)([average()(inner(a)), average()(inner(b))])
    model = randomize(keras.Model([a, b], dense(4)(both)))
    with refused("'late'", "several places"):
        explained("grad_cam", model, [X, X])


def test_an_output_that_is_one_of_several():
    x, A, y = after(average(), dense(6, name="head"))
    model, images = randomize(keras.Model(x, ops.split(y, 2, axis=1)[0])), noise(2, 6, 6, 2)
    with refused("global average pooling", "grad_cam needs no such end"):
        explained("class_activation_map", model, images, 1)
