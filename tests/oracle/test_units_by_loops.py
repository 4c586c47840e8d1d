"""Outputs of layers, receptive fields and strongest patches, beside loops over pixels, places and images."""

import keras
import numpy as np
import pytest
from keras import layers as L

from models.architectures import cifar10_allcnn
from tests.helpers import (
    F,
    average,
    chain,
    close,
    conv,
    dense,
    noise,
    norm,
    pixels,
    residual_net,
    sequential,
    small_cnn,
)
from utils.inside import activations, receptive_field, top_patches

SHAPE = (21, 18, 2)


def positive(model):
    """Weights that are positive, so that a brighter pixel makes all units that see it brighter."""
    for weight in model.weights:
        weight.assign(0.2 + np.random.default_rng(0).random(weight.shape))
    return model


def headed(*layers, shape=SHAPE):
    """A chain whose last feature map is `map`."""
    return positive(chain(shape, *layers, L.Identity(name="map", **F), average(), dense(2)))


def small(filters=2, size=3, **how):
    return conv(filters, size, **how)


def branches():
    """A residual sum of a 3 x 3 and a 5 x 2 window, and a concatenation with what they read."""
    x = keras.Input(SHAPE, **F)
    y = small(strides=2, padding="same")(x)
    z = L.Add(**F)([small(padding="same")(y), small(size=(5, 2), padding="same")(y)])
    z = L.Concatenate(name="map", **F)([z, y])
    return positive(keras.Model(x, dense(2)(average()(z))))


def nested():
    inner = keras.Sequential([keras.Input(SHAPE, **F), small(), L.MaxPooling2D(2, name="map", **F)], name="inner")
    x = keras.Input(SHAPE, **F)
    return positive(keras.Model(x, dense(2)(average()(small(padding="same")(inner(x))))))


NETS = {
    "valid": lambda: headed(small(), small(size=(2, 5))),
    "same": lambda: headed(small(padding="same"), small(size=4, padding="same")),
    "strides": lambda: headed(small(strides=2), small(size=2, strides=(1, 3))),
    "strides, same": lambda: headed(small(strides=2, padding="same"), small(strides=(3, 2), padding="same")),
    "strides beyond the window": lambda: headed(small(size=1, strides=2, padding="same"), small()),
    "dilation": lambda: headed(small(), small(size=(2, 3), dilation_rate=(3, 2))),
    "dilation, same": lambda: headed(small(), small(dilation_rate=2, padding="same")),
    "pooling": lambda: headed(L.MaxPooling2D(3, 2, **F), small(), L.AveragePooling2D(2, padding="same", **F)),
    "depthwise": lambda: headed(L.DepthwiseConv2D(3, 2, **F), L.SeparableConv2D(2, 2, padding="same", **F)),
    "padded and cropped": lambda: headed(
        L.ZeroPadding2D(((3, 1), (0, 2)), **F), small(), L.Cropping2D(((1, 2), (4, 0)), **F), small()
    ),
    "at each place": lambda: headed(
        small(activation=None), norm(), L.ReLU(**F), L.Dropout(0.5, **F), dense(3, "elu"), small()
    ),
    "branches": branches,
    "nested": nested,
}


def map_of(model):
    """The symbolic output of `map`; of a nested model, that of the inner model, where `map` comes last."""
    inner = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    return inner[0](model.inputs[0]) if inner else model.get_layer("map").output


def seen(model):
    """For each unit of the first channel, the first and the last row and column of the pixels that excite it."""
    outputs, (height, width) = keras.Model(model.inputs[0], map_of(model)), SHAPE[:2]
    x = pixels(1, *SHAPE)
    brighter = x + 1e3 * np.eye(height * width).reshape(-1, height, width, 1)
    # all weights are 0.2 or more, so that what is less is round-off
    excited = (outputs(brighter).numpy() - outputs(x).numpy())[..., 0] > 0.1
    excited = excited.reshape(height, width, *excited.shape[1:])
    boxes = {}
    for unit in np.ndindex(excited.shape[2:]):
        rows, columns = np.nonzero(excited[:, :, unit[0], unit[1]])
        boxes[unit] = (rows.min(), columns.min()), (rows.max(), columns.max())
    return boxes


@pytest.mark.parametrize("name", NETS)
def test_receptive_fields_beside_pixels_that_change_a_unit(name):
    model = NETS[name]()
    field = receptive_field(model, "map")
    whole = 0
    for unit, (first, last) in seen(model).items():
        for axis in (0, 1):
            low = field.offset[axis] + unit[axis] * field.stride[axis]
            high = low + field.size[axis] - 1
            assert low <= first[axis] and last[axis] <= high  # nothing else is seen
            if 0 <= low and high < SHAPE[axis]:
                assert (first[axis], last[axis]) == (low, high)
                whole += 1
            elif name in ("same", "strides, same"):  # what sticks out is all that is not seen
                assert (first[axis], last[axis]) == (max(low, 0), min(high, SHAPE[axis] - 1))
    assert whole >= 8


def test_the_fields_of_the_network_for_photographs():
    """Three convolutions add 2 pixels each, in steps of 1, of 2 and of 4; a pooling adds one step."""
    model = cifar10_allcnn()
    expected = {
        "normalization": ((1, 1), (1, 1), (0, 0)),
        "conv3": ((7, 7), (1, 1), (-3, -3)),
        "pool1": ((8, 8), (2, 2), (-3, -3)),
        "conv6": ((20, 20), (2, 2), (-9, -9)),
        "pool2": ((22, 22), (4, 4), (-9, -9)),
        "conv9": ((46, 46), (4, 4), (-21, -21)),
        "evidence": ((46, 46), (4, 4), (-21, -21)),
    }
    assert {name: tuple(receptive_field(model, name)) for name in expected} == expected


# --- outputs of layers


def test_activations_beside_submodels():
    model, x = residual_net(), noise(5, 6, 6, 2)
    names = [layer.name for layer in model.layers[1:]]
    found = activations(model, x, names, batch_size=2)
    assert list(found) == names
    for name in names:
        close(found[name], keras.Model(model.inputs[0], model.get_layer(name).output)(x).numpy(), 1e-12)


def test_activations_inside_a_nested_model_and_with_other_weights():
    inner = keras.Sequential([keras.Input(SHAPE, **F), conv(3, name="deep"), conv(2)], name="inner")
    model = sequential(SHAPE, inner, average(), dense(3, "softmax", name="head"))
    x = noise(3, *SHAPE)
    for _ in range(2):  # what is compiled reads the weights of today
        found = activations(model, x, ["deep", inner, "head"])
        close(found["deep"], inner.layers[0](x).numpy(), 1e-12)
        close(found["inner"], inner(x).numpy(), 1e-12)
        close(found["head"], model(x).numpy(), 1e-12)  # behind its softmax
        inner.layers[0].kernel.assign(2 * inner.layers[0].kernel)


def test_activations_by_hand():
    """A convolution with one weight at each tap, and ELU, on a single pixel."""
    model = sequential((3, 3, 1), conv(1, activation="elu", padding="same", use_bias=False, name="map"), average())
    kernel = np.arange(-4.0, 5).reshape(3, 3)
    model.get_layer("map").kernel.assign(kernel[..., None, None])
    x = np.zeros((1, 3, 3, 1))
    x[0, 1, 1] = 1
    turned = kernel[::-1, ::-1]  # Keras correlates
    found = activations(model, x, "map")["map"][0, ..., 0]
    np.testing.assert_allclose(found, np.where(turned > 0, turned, np.expm1(turned)), atol=1e-12)


def test_no_images():
    model = small_cnn()
    (outputs,) = activations(model, np.zeros((0, 8, 7, 2)), model.layers[0]).values()
    assert outputs.shape == (0, 6, 5, 5)


# --- strongest patches


def patches_by_loops(A, images, field, k, grey):
    """All images, all places, in Python."""
    channels, (height, width) = A.shape[-1], field.size
    found = []
    for c in range(channels):
        best = []
        for n in range(len(A)):
            value, i, j = max(((A[n, i, j, c], -i, -j) for i, j in np.ndindex(A.shape[1:3])))
            best.append((-value, n, -i, -j))
        for value, n, i, j in sorted(best)[:k]:
            patch = np.full((height, width, images.shape[-1]), grey)
            inside = np.zeros((height, width), bool)
            for p, q in np.ndindex(height, width):
                row, column = field.offset[0] + i * field.stride[0] + p, field.offset[1] + j * field.stride[1] + q
                if 0 <= row < images.shape[1] and 0 <= column < images.shape[2]:
                    patch[p, q], inside[p, q] = images[n, row, column], True
            found.append((-value, n, i, j, patch, inside))
    return [np.array(one).reshape(channels, k, *np.shape(one[0])) for one in zip(*found)]


@pytest.mark.parametrize("batch_size", [None, 1, 3])
def test_patches_beside_loops(batch_size):
    layers = [conv(3, padding="same"), L.AveragePooling2D(2, **F), conv(4, (3, 2), activation="elu", padding="same")]
    model = chain((9, 8, 2), *layers, L.Identity(name="map", **F), average(), dense(2))
    images = pixels(11, 9, 8, 2)
    images[7] = images[2]  # of equal values, the first counts
    ours = top_patches(model, "map", images, k=4, batch_size=batch_size, grey=0.25)
    A = keras.Model(model.inputs[0], model.get_layer("map").output)(images).numpy()
    expected = patches_by_loops(A, images, receptive_field(model, "map"), 4, 0.25)
    close(ours.values, expected[0], 1e-12)
    for one, other in zip(ours[1:4], expected[1:4]):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(ours.patches, expected[4])
    np.testing.assert_array_equal(ours.inside, expected[5])
    assert not ours.inside.all() and ours.inside.any()
    some = top_patches(model, "map", images, k=4, channels=[2, 0], batch_size=batch_size, grey=0.25)
    for one, other in zip(some, ours):
        np.testing.assert_array_equal(one, other[[2, 0]])


def test_a_patch_makes_its_unit_as_active_as_its_image():
    """Without padding, a unit is a function of its patch alone."""
    layers = [conv(3), L.MaxPooling2D(2, **F), conv(4, 2)]
    model = chain((13, 12, 2), *layers, L.Identity(name="map", **F), average(), dense(2))
    found = top_patches(model, "map", pixels(6, 13, 12, 2), k=2)
    assert found.inside.all() and found.patches.shape == (4, 2, 6, 6, 2)
    alone = chain((6, 6, 2), *[type(one).from_config(one.get_config()) for one in layers])
    alone.set_weights(model.get_weights()[:4])
    for c, j in np.ndindex(4, 2):
        unit = alone(found.patches[c, j][None]).numpy()
        assert unit.shape == (1, 1, 1, 4)
        np.testing.assert_allclose(unit[0, 0, 0, c], found.values[c, j], rtol=1e-12)


def test_images_stay_on_disk(tmp_path):
    images = pixels(7, 9, 8, 2).astype("float32")
    np.save(tmp_path / "images.npy", images)
    model = chain((9, 8, 2), conv(3, name="map"), average(), dense(2))
    on_disk = np.load(tmp_path / "images.npy", mmap_mode="r")
    for one, other in zip(top_patches(model, "map", on_disk, k=2), top_patches(model, "map", images, k=2)):
        np.testing.assert_array_equal(one, other)
