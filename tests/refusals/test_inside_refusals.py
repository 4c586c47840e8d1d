"""What the helpers for single units and layers refuse."""

import keras
import numpy as np
import pytest
from keras import layers as L

from tests.helpers import F, Own, average, chain, conv, dense, noise, pixels, refused, sequential
from utils.inside import (
    activations,
    circular_tuning,
    colour_tuning,
    gratings,
    hue_circle,
    linear_probe,
    orientation_tuning,
    receptive_field,
    top_patches,
    wilson_interval,
)

MODEL = chain((8, 8, 3), conv(4, name="map"), average(name="mean"), dense(2, name="scores"))
X = pixels(4, 8, 8, 3)

OF_A_LAYER = {
    "activations": lambda model, layer: activations(model, X, layer),
    "receptive_field": receptive_field,
    "top_patches": lambda model, layer: top_patches(model, layer, X, k=2),
    "colour_tuning": colour_tuning,
    "orientation_tuning": orientation_tuning,
}
each = pytest.mark.parametrize("name", OF_A_LAYER)


@each
@pytest.mark.parametrize("layer", ["conv7", 3, None, L.ReLU(name="elsewhere")])
def test_a_layer_that_is_not_there(name, layer):
    received = getattr(layer, "name", layer)
    with refused("has no layer", str(received), "Expected one of", "'map', 'mean', 'scores'"):
        OF_A_LAYER[name](MODEL, layer)


@each
def test_a_model_whose_connections_are_not_known(name):
    with refused("subclassed"):
        OF_A_LAYER[name](Own(), "map")
    with refused("Expected a Keras 3 model", "int"):
        OF_A_LAYER[name](3, "map")


@each
def test_a_shared_layer(name):
    shared = conv(3, padding="same", name="shared")
    x = keras.Input((8, 8, 3), **F)
    model = keras.Model(x, dense(2)(average(name="mean")(shared(shared(x)))))
    with refused("'shared' stands in 2 places", "it is shared", "'mean'"):
        OF_A_LAYER[name](model, "shared")


def test_two_layers_of_one_name():
    parts = [keras.Sequential([keras.Input((8, 8, 3), **F), conv(3, padding="same", name="map")]) for _ in range(2)]
    model = sequential((8, 8, 3), *parts, average(), dense(2))
    with refused("'map' stands in 2 places", "pass the layer itself"):
        activations(model, X, "map")
    assert activations(model, X, parts[1].layers[0])["map"].shape == (4, 8, 8, 3)
    with refused("a name of its own", "['map', 'map']"):
        activations(model, X, [part.layers[0] for part in parts])
    with refused("at least one layer", "[]"):
        activations(model, X, [])


def test_images_that_do_not_fit():
    for x, word in ((X[0], "For a single image"), (X[:, :5], "does not fit"), ((255 * X).astype("uint8"), "uint8")):
        with refused(word):
            activations(MODEL, x, "map")
        with refused(word):
            top_patches(MODEL, "map", x)
    for batch_size in (None, 1):  # also in a later batch
        with refused("finite"):
            top_patches(MODEL, "map", np.concatenate([X, X[:1] * np.nan]), k=1, batch_size=batch_size)


def test_outputs_that_are_not_finite():
    model = sequential((8, 8, 3), conv(4, activation="exponential", name="map"), L.Softmax(**F), average(), dense(2))
    model.layers[0].kernel.assign(1e3 * np.abs(model.layers[0].kernel))
    for call in (OF_A_LAYER[name] for name in ("activations", "top_patches", "colour_tuning", "orientation_tuning")):
        with refused("not finite"):
            call(model, "map")


# --- receptive fields


def below(*layers, shape=(8, 8, 3)):
    return sequential(shape, *layers, conv(2, 2, name="map"), average(), dense(2))


def gated():
    """A gate for each channel, from all places."""
    x = keras.Input((8, 8, 3), **F)
    gate = L.GlobalAveragePooling2D(keepdims=True, name="gate", **F)(x)
    return keras.Model(x, dense(2)(average()(conv(2, name="map")(L.Multiply(**F)([x, gate])))))


def of_two_strides():
    x = keras.Input((8, 8, 3), **F)
    wide = L.AveragePooling2D(2, **F)(L.ZeroPadding2D(2, **F)(x))
    y = L.Concatenate(name="join", **F)([L.Cropping2D(1, **F)(x), wide])
    return keras.Model(x, dense(2)(average()(conv(2, name="map")(y))))


class Odd(L.Conv2D):
    """A convolution with a call of its own."""

    def call(self, x):
        return super().call(x[:, ::-1])


UNKNOWN = {
    "upsampling": (lambda: below(L.UpSampling2D(2, name="bad", **F)), "UpSampling2D"),
    "a transposed convolution": (lambda: below(L.Conv2DTranspose(2, 3, name="bad", **F)), "Conv2DTranspose"),
    "axes that change places": (lambda: below(L.Permute((2, 1, 3), name="bad", **F)), "Permute"),
    "a reshaped image": (lambda: below(L.Reshape((4, 16, 3), name="bad", **F)), "Reshape"),
    "a normalization over places": (lambda: below(L.LayerNormalization(axis=(1, 2), name="bad", **F)), "LayerNorm"),
    "a normalization of groups": (lambda: below(L.GroupNormalization(3, name="bad", **F)), "GroupNormalization"),
    "a softmax over places": (lambda: below(L.Softmax(axis=1, name="bad", **F)), "Softmax"),
    "an activation of one's own": (lambda: below(conv(2, activation=lambda t: t[:, ::-1], name="bad")), "Conv2D"),
    "a call of one's own": (lambda: below(Odd(2, 3, name="bad", **F)), "Odd"),
    "a function": (lambda: below(L.Lambda(lambda t: t[:, ::-1], name="bad", **F)), "Lambda"),
    "a gate of all places": (gated, "GlobalAveragePooling2D"),
    "branches of two strides": (of_two_strides, "[(1, 1), (2, 2)]"),
    "an image of any size": (
        lambda: below(conv(2, strides=2, padding="same", name="bad"), shape=(None, None, 3)),
        "Conv2D",
    ),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_receptive_fields_that_are_not_known(name):
    build, word = UNKNOWN[name]
    with refused("receptive field of 'map' is not known", word, "Choose an earlier layer"):
        receptive_field(build(), "map")


def test_what_has_no_places():
    for layer in ("mean", "scores"):
        with refused("belongs to places in images", repr(layer)):
            receptive_field(MODEL, layer)


def test_a_mask_of_the_image():
    x = keras.Input((8, 8, 3), **F)
    bright = keras.ops.cast(x > keras.ops.mean(x, axis=(1, 2), keepdims=True), "float64")
    model = keras.Model(x, dense(2)(average()(conv(2, name="map")(x * bright))))
    with refused("makes whole numbers or a mask of the image"):
        receptive_field(model, "map")


def test_patches_of_what_is_not_there():
    with refused("k=5, 4 images"):
        top_patches(MODEL, "map", X, k=5)
    with refused("k must be an integer of at least 1"):
        top_patches(MODEL, "map", X, k=0)
    for channels in (4, [-1], [0.5], [], [[0]], [True, False, True, True]):
        with refused("channels must be indices, 0 to 3", "Received"):
            top_patches(MODEL, "map", X, k=1, channels=channels)


# --- stimuli


def test_stimuli():
    for n in (2, 0, 3.0, True):
        with refused("n must be an integer of at least 3"):
            hue_circle(n)
        with refused("orientations must be an integer of at least 3"):
            gratings(n)
        with refused("phases must be an integer of at least 3"):
            gratings(phases=n)
    for value in (-0.1, 1.1, np.nan, "1", True, None):
        with refused("saturation must be a number from 0 to 1"):
            hue_circle(saturation=value)
        with refused("contrast must be a number from 0 to 1"):
            gratings(contrast=value)
    with refused("contrast 0 has no orientation"):
        gratings(contrast=0)
    for frequencies in (0, 0.51, [0.1, -0.1], [], np.nan, [[0.1]]):
        with refused("frequencies are cycles per pixel", "Received"):
            gratings(frequencies=frequencies)
    for size in (0, (3,), (3, 4, 5), 2.5):
        with refused("size"):
            hue_circle(size=size)


def test_tuning():
    grey = chain((8, 8, 1), conv(4, name="map"), average(), dense(2))
    with refused("Colours need images [n, height, width, 3]"):
        colour_tuning(grey, "map")
    for bounds in ({"low": 1, "high": 1}, {"low": 2}, {"high": np.nan}):
        with refused("low and high are the values of black and white"):
            colour_tuning(MODEL, "map", **bounds)
        with refused("low and high"):
            orientation_tuning(MODEL, "map", **bounds)
    with refused("does not fit the input"):
        colour_tuning(MODEL, "map", size=9)
    with refused("Gratings are images"):
        orientation_tuning(chain((8,), dense(3, name="map"), dense(2)), "map")
    for strengths, angles in (
        (-np.ones((3, 2)), np.zeros(3)),
        (np.ones(3), np.zeros(3)),
        (np.ones((3, 2)), np.zeros(2)),
    ):
        with refused("strengths [n, channels] of at least 0"):
            circular_tuning(strengths, angles, 360)
    with refused("strengths [n, channels] of at least 0"):
        circular_tuning(np.full((3, 2), np.nan), np.zeros(3), 360)


# --- probes

A, Y = noise(30, 4), np.arange(30) % 3


@pytest.mark.parametrize(
    "change, words",
    [
        ({"kind": "colour"}, ("kind of target", "'colour'")),
        ({"pool": "max"}, ("There is no such pool", "'max'")),
        ({"targets": Y[:-1]}, ("training features [n, ...] and targets [n]", "(30, 4) and (29,)")),
        ({"test_targets": Y[:, None]}, ("test features [n, ...]", "(30, 1)")),
        ({"features": A[:, 0]}, ("training features", "(30,)")),
        ({"features": A[:, :3]}, ("differ in number", "3 for training, 4 for test")),
        ({"features": A * np.nan}, ("training features", "not finite")),
        ({"test_features": A.astype(str)}, ("test features must be numbers",)),
        ({"features": A[:5], "targets": Y[:5]}, ("at least 6 training images", "5")),
        ({"targets": Y / 2}, ("'class' must be integers or words", "float64")),
        ({"targets": Y.astype(str), "kind": "number"}, ("'number' must be numbers", "<U")),
        ({"targets": Y * np.nan, "kind": "angle"}, ("'angle'", "not finite")),
        ({"targets": Y * 0}, ("at least two classes", "{0: 30}")),
        ({"targets": np.array([1, 1, *[0] * 28])}, ("3 training images of each", "{0: 28, 1: 2}")),
        ({"test_targets": Y + 2}, ("that no training image has", "[3, 4]")),
        ({"test_targets": Y * 0, "kind": "number"}, ("All test targets are 0",)),
        ({"test_targets": np.array([1, *[0] * 29]), "kind": "number"}, ("Too few test targets differ",)),
        ({"kind": "angle", "period": 0}, ("period must be a number above 0", "0")),
        ({"kind": "angle", "period": np.nan}, ("period must be a number above 0",)),
    ],
)
def test_probes(change, words):
    arguments = {"features": A, "targets": Y, "test_features": A, "test_targets": Y} | change
    with refused(*words):
        linear_probe(**arguments)


def test_wilson():
    with refused("n must be an integer of at least 1"):
        wilson_interval(0, 0)
    with refused("successes must be an integer of at least 0"):
        wilson_interval(-1, 3)
    with refused("successes cannot be more than n", "4 of 3"):
        wilson_interval(4, 3)
    with refused("confidence lies between 0 and 1"):
        wilson_interval(1, 3, 95)
