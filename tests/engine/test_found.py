"""What a second round of strangers found: each was a wrong map without a word, a crash or a needless refusal."""

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

from tests.helpers import F, chain, dense, noise, norm, pixels, randomize, refused, relative_error
from utils import cam, rules
from utils.attributions import (
    METHODS,
    deep_taylor,
    deeplift,
    gradient,
    integrated_gradients,
    lrp,
    simple_taylor,
)
from utils.composites import EPSILON, FIRST
from utils.parts import Product, UnsupportedLayerError
from utils.relevance import relevance_ledger
from utils.scores import scores_of
from utils.trace import Trace

SHAPE = (6, 6, 3)


def flat_head(x, y):
    return randomize(keras.Model(x, dense(3)(L.Flatten(**F)(y))))


def conv(channels=4, **how):
    return L.Conv2D(channels, 3, padding="same", **how, **F)


class LeakyBlock(L.Layer):
    def __init__(self, **how):
        super().__init__(**how)
        self.convolution, self.add, self.leaky = L.Conv2D(8, 3, padding="same"), L.Add(), L.LeakyReLU(0.6)

    def call(self, x):
        return self.leaky(self.add([self.convolution(x), x]))


LEAKY = {
    "ReLU with a slope": lambda: L.ReLU(negative_slope=0.6),
    "operation": lambda: lambda x: ops.leaky_relu(x, 0.6),
    "function": lambda: lambda x: keras.activations.leaky_relu(x, 0.6),
    "a layer as activation": lambda: L.Activation(L.LeakyReLU(0.6)),
    "mish": lambda: L.Activation("mish"),
}


@pytest.mark.parametrize("name", LEAKY)
def test_leaky_sums_of_any_form(name):
    x = keras.Input((8, 8, 3))
    branches = [L.Conv2D(8, 3, padding="same")(x) for _ in range(2)]
    model = randomize(keras.Model(x, L.Dense(3)(L.Flatten()(LEAKY[name]()(L.Add()(branches))))))
    points = pixels(4, 8, 8, 3).astype("float32")
    assert np.allclose(scores_of(model)(points), model(points), rtol=1e-4, atol=1e-4)


def test_a_leaky_sum_that_cannot_be_seen_is_refused_with_the_way_out():
    x = keras.Input((8, 8, 8))
    model, points = keras.Model(x, L.Dense(3)(L.Flatten()(LeakyBlock()(x)))), noise(2, 8, 8, 8).astype("float32")
    randomize(model)
    right = np.allclose(model.predict(points, verbose=0), model(points), atol=1e-3)
    if right:  # a TensorFlow that computes it right
        gradient(model, points)
    else:
        with refused("in model.predict too", "'remapping': False"):
            gradient(model, points)


def test_a_convolution_with_an_operation_of_its_own_is_refused():
    class Standardized(L.Conv2D):
        def convolution_op(self, inputs, kernel):
            mean, variance = ops.moments(kernel, axes=[0, 1, 2], keepdims=True)
            return super().convolution_op(inputs, (kernel - mean) / ops.sqrt(variance + 1e-10))

    model = chain(SHAPE, Standardized(4, 3, name="own", **F), L.Flatten(**F), dense(3))
    with pytest.raises(UnsupportedLayerError, match="'own'"):
        lrp(model, noise(2, *SHAPE), 1)


def test_a_layer_that_gets_no_relevance_has_a_map_of_zeros():
    x = keras.Input(SHAPE, **F)
    gate = conv(activation="sigmoid", name="gate")(x)
    model = flat_head(x, L.Multiply(**F)([conv(activation="relu")(x), gate]))
    R = lrp(model, noise(2, *SHAPE), 1, "EPSILON", layer="gate")
    assert R.shape == (2, 6, 6, 4) and not R.any()


def test_epsilon_at_a_product_shares_and_does_not_multiply():
    x = keras.Input((5,), **F)
    y = L.Multiply(**F)([dense(4, use_bias=False)(x) for _ in range(3)])
    model, points = randomize(keras.Model(x, dense(3, use_bias=False)(y))), noise(4, 5)
    R = lrp(model, points, 1, {Product: rules.epsilon(1e-12), L.Dense: rules.epsilon(1e-12)} | EPSILON)
    assert np.allclose(R.sum(1), model(points)[:, 1], atol=1e-8)


def test_bounds_go_where_the_pixels_go():
    low, high, x = np.array([-1.0, -2.0, -0.5]), np.array([1.0, 3.0, 2.0]), pixels(2, *SHAPE)
    inner = chain(SHAPE, conv(activation="relu"), L.Flatten(**F), dense(3))
    flipped = keras.Model(i := keras.Input(SHAPE, **F), inner(i[..., ::-1]))
    expected = deep_taylor(inner, x[..., ::-1], 1, low=low[::-1], high=high[::-1])[..., ::-1]
    assert (
        np.abs(expected).max() > 1e-4
        and relative_error(deep_taylor(flipped, x, 1, low=low, high=high), expected) < 1e-10
    )
    flat = chain(SHAPE, L.Flatten(**F), dense(3))
    assert deep_taylor(flat, x, 1, low=low, high=high).shape == x.shape
    rectified = keras.Model(i := keras.Input(SHAPE, **F), inner(L.ReLU(**F)(i)))
    signed = 2 * x - 1
    expected = deep_taylor(inner, np.maximum(signed, 0), 1, low=0, high=1)
    assert relative_error(deep_taylor(rectified, signed, 1, low=-1, high=1), expected) < 1e-10


def test_padding_by_an_operation_is_padding():
    same = chain(SHAPE, conv(), L.Flatten(**F), dense(3))
    i = keras.Input(SHAPE, **F)
    y = L.Conv2D(4, 3, **F)(ops.pad(i, [[0, 0], [1, 1], [1, 1], [0, 0]]))
    padded, x = keras.Model(i, dense(3)(L.Flatten(**F)(y))), pixels(2, *SHAPE)
    padded.set_weights(same.get_weights())
    for rule in (rules.z_box(0, 1), rules.flat(), rules.w_square(), rules.epsilon()):
        table = {FIRST: rule} | EPSILON
        assert relative_error(lrp(padded, x, 1, table), lrp(same, x, 1, table)) < 1e-10


def test_a_line_for_a_leading_norm_counts():
    called = []

    def own(part, inputs, output, R):
        called.append(part.layer.name)
        return [R]

    leading = norm()
    model = chain(SHAPE, leading, conv(), L.Flatten(**F), dense(3))
    lrp(model, pixels(2, *SHAPE), 1, {leading.name: own, FIRST: rules.z_box(-9, 9)} | EPSILON)
    assert called


def test_pixels_outside_of_a_box_that_is_given_by_name():
    model = chain(SHAPE, conv(name="pixels"), L.Flatten(**F), dense(3))
    for test in ("pixels", L.Conv2D, FIRST):
        with refused("x must lie between low and high"):
            lrp(model, 3 * pixels(2, *SHAPE), 1, {test: rules.z_box(0, 1)} | EPSILON)


@pytest.mark.parametrize("n", [1, 3, 6])
def test_factors_of_different_rank(n):
    def net(reshape):
        x = keras.Input(SHAPE, **F)
        gate = dense(6, "relu", name="gate")(L.GlobalAveragePooling2D(**F)(x))
        gate = L.Reshape((1, 1, 6), **F)(gate) if reshape else gate
        y = L.Flatten(**F)(L.Multiply(**F)([conv(6, name="signal")(x), gate]))
        return randomize(keras.Model(x, dense(3, name="scores")(y)))

    one, other, x = net(False), net(True), noise(n, *SHAPE)
    for layer in ("signal", "gate", "scores"):
        other.get_layer(layer).set_weights(one.get_layer(layer).get_weights())
    for method in (deeplift, lrp):
        assert relative_error(method(one, x, 1), method(other, x, 1)) < 1e-9


def gated(factors):
    x = keras.Input(SHAPE, **F)
    return flat_head(x, factors(conv(name="signal")(x), conv(name="other")(x)))


ONE_SIGNAL = {
    "gates of a gate": lambda s, g: ops.sigmoid(g) * ops.sigmoid(s) * s,
    "a highway": lambda s, g: (1 - ops.sigmoid(g)) * s,
    "a gate of two": lambda s, g: L.Multiply(**F)([L.Concatenate(**F)([ops.sigmoid(g)[..., :2]] * 2), s]),
}
NO_SIGNAL = {
    "half a gate": lambda s, g: L.Multiply(**F)(
        [s, L.Concatenate(**F)([ops.sigmoid(g)[..., :2], ops.relu(g)[..., :2]])]
    ),
    "relu6": lambda s, g: L.Multiply(**F)([s, L.Dropout(0.2, **F)(ops.relu6(g))]),
}


@pytest.mark.parametrize("name", [*ONE_SIGNAL, *NO_SIGNAL])
def test_what_is_a_gate(name):
    x = noise(2, *SHAPE)
    if name in ONE_SIGNAL:
        assert np.abs(lrp(gated(ONE_SIGNAL[name]), x, 1, "EPSILON")).max() > 0
    else:
        with refused("which the gate"):
            lrp(gated(NO_SIGNAL[name]), x, 1, "EPSILON")


def test_a_class_activation_map_over_masked_places_is_refused():
    layers = [L.Masking(), L.Dense(4), L.GlobalAveragePooling1D(), L.Dense(2)]
    model = keras.Sequential([keras.Input((6, 3)), *layers])
    with refused("masks places", "grad_cam"):
        cam.class_activation_map(model, noise(2, 6, 3).astype("float32"), 1)


def test_a_layer_that_is_called_first_and_is_not():
    model = chain((5,), dense(4, name="one"), dense(3, name="first"))
    with refused("'first'", "Rename the layer"):
        lrp(model, noise(2, 5), 1, {"first": rules.flat()} | EPSILON)


class Block(L.Layer):
    def __init__(self, **how):
        super().__init__(**how)
        self.convolution, self.norm = conv(3), norm()

    def build(self, shape):
        self.convolution.build(shape)
        self.norm.build(shape)

    def call(self, x, training=None):
        return ops.relu(self.norm(self.convolution(x), training=training))


def test_a_norm_inside_a_layer_of_ones_own_or_over_time():
    block = Block(name="block", **F)
    model, x = chain(SHAPE, block, L.Flatten(**F), dense(3)), noise(2, *SHAPE)
    i = keras.Input(SHAPE, **F)
    flat = keras.Model(i, model.layers[-1](L.Flatten(**F)(ops.relu(block.norm(block.convolution(i))))))
    for method in (lrp, deeplift, METHODS["guided_backprop"]):
        assert relative_error(method(model, x, 1), method(flat, x, 1)) < 1e-10
    over_time = chain((4, 3), L.TimeDistributed(norm(), **F), L.Flatten(**F), dense(3))
    assert np.allclose(deeplift(over_time, noise(2, 4, 3), 1, return_completeness_error=True)[1], 0, atol=1e-10)
    assert lrp(over_time, noise(2, 4, 3), 1, "EPSILON").shape == (2, 4, 3)


def test_no_images():
    model, none = chain(SHAPE, conv(), L.Flatten(**F), dense(3)), np.zeros((0, *SHAPE))
    assert deeplift(model, none, return_completeness_error=True)[1].shape == (0,)
    assert integrated_gradients(model, none, return_completeness_error=True)[1].shape == (0,)
    assert simple_taylor(model, none, return_remainder=True)[1].shape == (0,)
    for call in (lambda: relevance_ledger(model, none), lambda: Trace(model, none, EPSILON)):
        with refused("at least one image"):
            call()


def test_a_trace_of_the_wrong_shape_layer_or_rule():
    model, x = chain(SHAPE, conv(), L.Flatten(**F), dense(3)), noise(2, *SHAPE)
    with refused("does not fit the input", "x[None]"):
        Trace(model, x[0], EPSILON)
    trace = Trace(model, x, EPSILON)
    with refused("'nope' is not there"):
        trace.relevance(trace.scores, "nope")
    with refused("score to explain", "'logit' or 'output'"):
        Trace(model, x, EPSILON, "probability")
    with refused("must return a list"):
        lrp(model, x, 1, {L.Dense: lambda part, inputs, output, R: inputs[0]} | EPSILON)


def test_the_advice_for_tokens_works():
    tokens = np.array([[1, 2, 3, 0], [4, 5, 0, 0]])
    for masks in (True, False):
        i = keras.Input((4,), dtype="int32")
        y = L.GlobalAveragePooling1D()(L.Embedding(9, 3, mask_zero=masks, name="words")(i))
        model = keras.Model(i, L.Dense(2)(y))
        with pytest.raises(ValueError, match="(?s)k = model.layers.index"):
            gradient(model, tokens)
        E = model.get_layer("words")
        k = model.layers.index(E) + 1
        rest = [layer for layer in model.layers[k:] if "not_equal" not in layer.name]
        x = np.asarray(E(tokens))
        x, first = (x * (tokens != 0)[..., None], [L.Masking()]) if masks else (x, [])
        behind = keras.Sequential([keras.Input((4, 3)), *first, *rest])
        assert gradient(behind, x, 1).shape == (2, 4, 3)
