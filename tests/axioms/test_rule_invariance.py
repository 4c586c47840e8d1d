"""The same function in another dress has the same map."""

import functools

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

from tests.helpers import F, chain, dense, noise, norm, pixels, randomize, relative_error, same_values
from utils import attributions, rules
from utils.attributions import deep_taylor, deeplift, lrp
from utils.composites import EPSILON, NAMED
from utils.parts import Linear, Mixing

METHODS = {
    **{name: lambda model, x, composite=composite: lrp(model, x, 1, composite) for name, composite in NAMED.items()},
    "deep_taylor": lambda model, x: deep_taylor(model, x, 1, -5.0, 5.0),
    "deeplift": lambda model, x: deeplift(model, x, 1, 0.3),
    "reveal_cancel": lambda model, x: deeplift(model, x, 1, 0.3, "reveal_cancel"),
    "guided_backprop": lambda model, x: attributions.guided_backprop(model, x, 1),
    "deconvolution": lambda model, x: attributions.deconvolution(model, x, 1),
}


SOME = ("EPSILON", "ALPHA2_BETA1", "EPSILON_GAMMA_BOX", "deep_taylor", "reveal_cancel", "guided_backprop")


def dress(kind, units=(6, 5, 3)):
    """One function, `[n, 4, 4, 2]` -> `[n, 3]`, in different dresses."""
    x = keras.Input((4, 4, 2), **F)
    conv, hidden, last = L.Conv2D(units[0], 2, **F), dense(units[1]), dense(units[2])
    relu = {
        "a layer": lambda: L.ReLU(**F),
        "an activation layer": lambda: L.Activation("relu", **F),
        "an operation": lambda: ops.relu,
        "a function": lambda: keras.activations.relu,
    }.get(kind, lambda: L.ReLU(**F))
    if kind == "fused":
        conv, hidden = L.Conv2D(units[0], 2, activation="relu", **F), dense(units[1], "relu")
        y = last(hidden(L.Flatten(**F)(conv(x))))
    elif kind == "nested":
        inner = keras.Sequential([keras.Input((3, 3, units[0]), **F), L.ReLU(**F), L.Flatten(**F), hidden])
        z = keras.Input((3, 3, units[0]), **F)
        middle = keras.Model(z, L.ReLU(**F)(inner(z)))
        outer = keras.Sequential([keras.Input((4, 4, 2), **F), conv, middle, last])
        return randomize(outer)
    elif kind == "Sequential":
        parts = [keras.Input((4, 4, 2), **F), conv, L.ReLU(**F), L.Flatten(**F), hidden, L.ReLU(**F), last]
        return randomize(keras.Sequential(parts))
    elif kind == "softmax":
        y = L.Softmax(**F)(last(relu()(hidden(L.Flatten(**F)(relu()(conv(x)))))))
    elif kind == "dropout":
        y = last(L.Dropout(0.5, **F)(relu()(hidden(L.Flatten(**F)(L.Identity(**F)(relu()(conv(x))))))))
    elif kind == "padded":
        conv = L.Conv2D(units[0], 2, padding="valid", **F)
        y = last(relu()(hidden(L.Flatten(**F)(relu()(conv(L.ZeroPadding2D(0, **F)(x)))))))
    else:
        y = last(relu()(hidden(L.Flatten(**F)(relu()(conv(x))))))
    return randomize(keras.Model(x, y))


@functools.cache
def map_of(name, kind):
    return METHODS[name](dressed(kind), (pixels if "BOX" in name else noise)(3, 4, 4, 2))


dressed = functools.cache(dress)


@pytest.mark.parametrize("name", SOME)
def test_a_fused_activation_is_as_a_layer_an_operation_or_a_function(name):
    expected = map_of(name, "fused")
    assert np.abs(expected).max() > 1e-3
    for kind in ("a layer", "an operation"):
        error = np.abs(map_of(name, kind) - expected).max()
        assert error < 1e-11 * max(1, np.abs(expected).max()), (kind, error)


@pytest.mark.parametrize("name", SOME)
def test_dress_does_not_matter(name):
    expected = map_of(name, "fused")
    others = ("an activation layer", "softmax", "dropout", "padded") if name in ("EPSILON", "reveal_cancel") else ()
    for kind in ("a function", "nested", *others):
        error = np.abs(map_of(name, kind) - expected).max()
        assert error < 1e-11 * max(1, np.abs(expected).max()), (kind, error)


@pytest.mark.parametrize("name", ["EPSILON", "EPSILON_GAMMA_BOX", "reveal_cancel"])
def test_a_norm_is_as_one_folded_by_hand(name):
    x = (pixels if "BOX" in name else noise)(3, 6, 6, 2)
    conv, norm_ = L.Conv2D(3, 3, **F), norm()
    transposed, norm_t = L.Conv2DTranspose(3, 2, strides=2, **F), norm()
    depthwise, norm_d = L.DepthwiseConv2D(2, depth_multiplier=2, **F), norm()
    pairs = [(conv, norm_), (transposed, norm_t), (depthwise, norm_d)]
    top = [L.ReLU(**F), L.Flatten(**F), dense(3)]
    model = chain((6, 6, 2), *(layer for conv_, norm__ in pairs for layer in (conv_, norm__, L.ReLU(**F))), *top[1:])
    folded = chain(
        (6, 6, 2),
        *(
            layer
            for kind, _ in pairs
            for layer in (type(kind).from_config({**kind.get_config(), "name": None}), L.ReLU(**F))
        ),
        L.Flatten(**F),
        dense(3),
    )
    weights = []
    for layer, norm__ in pairs:
        kernel, bias = (w.numpy() for w in layer.weights)
        g, beta, mean, variance = (w.numpy() for w in norm__.weights)
        scale = g / np.sqrt(variance + norm__.epsilon)
        kernel = {
            L.Conv2DTranspose: lambda k=kernel, s=scale: k * s[:, None],
            L.DepthwiseConv2D: lambda k=kernel, s=scale: k * s.reshape(k.shape[-2:]),
        }.get(type(layer), lambda k=kernel, s=scale: k * s)()
        weights += [kernel, (bias - mean) * scale + beta]
    folded.set_weights([*weights, *model.layers[-1].get_weights()])
    expected = METHODS[name](folded, x)
    assert np.allclose(model(x), folded(x), atol=1e-12) and np.abs(expected).max() > 1e-3
    assert relative_error(METHODS[name](model, x), expected) < 1e-10


def test_a_norm_over_another_axis():
    norm_, top = L.BatchNormalization(axis=1, **F), [L.ReLU(**F), L.Flatten(**F), dense(3)]
    model = chain((4, 4, 3), L.Conv2D(4, 1, **F), norm_, *top)
    turn = [L.Permute((3, 2, 1), **F), norm(), L.Permute((3, 2, 1), **F)]
    turned = chain((4, 4, 3), L.Conv2D(4, 1, **F), *turn, L.ReLU(**F), L.Flatten(**F), dense(3))
    turned.set_weights(model.get_weights())
    x = noise(3, 4, 4, 3)
    assert np.allclose(turned(x), model(x), atol=1e-12)
    try:
        same_values(model, x)
    except ValueError as error:
        assert norm_.name in str(error)  # refused by name: as right as an answer
    else:
        assert np.abs(lrp(turned, x, 1, EPSILON) - lrp(model, x, 1, EPSILON)).max() < 1e-10


@pytest.mark.parametrize("name", ["EPSILON", "reveal_cancel", "guided_backprop"])
def test_shared_layers_are_as_copies(name):
    def build(shared):
        x = keras.Input((4, 4, 2), **F)
        names = ("a", "a") if shared else ("a", "b")
        convolutions = {name: L.Conv2D(2, 3, padding="same", activation="relu", name=name, **F) for name in names}
        y = x
        for step in names:
            y = convolutions[step](y)
        return keras.Model(x, dense(3)(L.Flatten(**F)(y)))

    one, two = randomize(build(True)), build(False)
    kernel, bias, *top = one.get_weights()
    two.set_weights([kernel, bias, kernel, bias, *top])
    x = noise(3, 4, 4, 2)
    assert np.allclose(one(x), two(x))
    expected = METHODS[name](two, x)
    assert relative_error(METHODS[name](one, x), expected) < 1e-12


def test_a_tensor_that_is_used_twice_by_one_layer_counts_once_for_each_use():
    hidden, last = dense(5, "relu"), dense(3)
    x = keras.Input((6,), **F)
    doubled = randomize(keras.Model(x, last(L.Add(**F)([hidden(x), hidden(x)]))))
    y = hidden(x)
    same = keras.Model(x, last(L.Add(**F)([y, y])))
    scaled = keras.Model(x, last(L.Rescaling(2.0, **F)(y)))
    points = noise(4, 6)
    for name in ("EPSILON", "ALPHA2_BETA1", "reveal_cancel"):
        expected = METHODS[name](scaled, points)
        for model in (doubled, same):
            assert np.abs(METHODS[name](model, points) - expected).max() < 1e-3 * np.abs(expected).max(), name


# --- what stands in front of a network


def rescaled_net(by_operations):
    x = y = keras.Input((8, 7, 2), **F)
    y = y * 2.0 - 1.0 if by_operations else L.Rescaling(2.0, -1.0, **F)(y)
    y = (0.5 + y) / 4.0 if by_operations else L.Rescaling(0.25, 0.125, **F)(y)
    y = L.Conv2D(5, 3, activation="relu", **F)(y)
    return randomize(keras.Model(x, dense(4)(L.Flatten(**F)(y))))


@pytest.mark.parametrize("composite", [name for name in NAMED if name not in ("EPSILON_GAMMA_BOX", "DEEP_TAYLOR")])
def test_pixels_rescaled_by_operations_are_as_by_a_layer(composite):
    x = pixels(3, 8, 7, 2, seed=0)
    maps = [lrp(rescaled_net(by_operations), x, 1, composite) for by_operations in (True, False)]
    assert np.abs(maps[0] - maps[1]).max() < 1e-12 * max(1, np.abs(maps[0]).max())


@pytest.mark.parametrize("composite", ["EPSILON_GAMMA_BOX", "EPSILON_PLUS"])
def test_augmentation_in_front_changes_nothing(composite):
    augment = [L.RandomFlip("horizontal", **F), L.RandomRotation(0.1, **F), L.RandomContrast(0.2, **F)]
    augment += [L.RandomZoom(0.1, **F), L.RandomTranslation(0.1, 0.1, **F), L.RandomBrightness(0.1, **F)]
    rest = [L.Conv2D(4, 3, activation="relu", **F), L.Flatten(**F), dense(3)]
    plain, x = chain((8, 8, 2), *rest), pixels(3, 8, 8, 2)
    whole = keras.Sequential([keras.Input((8, 8, 2), **F), *augment, *rest])
    assert np.array_equal(lrp(whole, x, 1, composite), lrp(plain, x, 1, composite))


def test_a_number_that_is_added_behind_a_layer_is_its_bias():
    x = keras.Input((5,), **F)
    one = randomize(keras.Model(x, dense(3)(dense(4, "relu")(x))))
    added = keras.Model(x, dense(3)(ops.relu(dense(4, use_bias=False)(x) + one.get_weights()[1])))
    added.set_weights([one.get_weights()[k] for k in (0, 2, 3)])
    points = noise(3, 5)
    table = {Linear: rules.epsilon(1e-12), Mixing: rules.epsilon(1e-12)} | EPSILON
    assert np.allclose(lrp(added, points, 1, table), lrp(one, points, 1, table), atol=1e-8)
