"""Two ways to write one function get one map: rescaled pixels, gates, layers made of others, layers of one's own."""

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

from tests.helpers import F, chain, dense, noise, norm, pixels, randomize, relative_error
from utils import rules
from utils.attributions import deep_taylor, deeplift, lrp
from utils.composites import EPSILON, FIRST
from utils.parts import Product, UnsupportedLayerError
from utils.relevance import relevance_ledger

SHAPE = (6, 5, 3)


def inner(seed=3):
    layers = [L.Conv2D(4, 3, activation="relu", **F), L.Flatten(**F), dense(3)]
    return chain(SHAPE, *layers, seed=seed)


def by_operations(x):
    return x / 127.5 - 1.0


RESCALINGS = {
    "Rescaling": lambda: L.Rescaling(1 / 127.5, -1.0, **F),
    "each channel by its own": lambda: L.Rescaling([0.01, -0.02, 0.03], [0.5, 0.0, -1.0], **F),
    "Normalization": lambda: L.Normalization(mean=[100.0, 90.0, 80.0], variance=[900.0, 400.0, 2500.0], **F),
    "BatchNormalization": norm,
    "operations": lambda: by_operations,
    "a crop behind it": lambda: keras.Sequential([L.Rescaling(1 / 255, **F), L.Cropping2D(0, **F)]),
}


@pytest.mark.parametrize("name", RESCALINGS)
def test_a_box_behind_a_rescaling_is_that_of_the_inner_model_on_rescaled_pixels(name):
    rescale, model, x = RESCALINGS[name](), inner(), 255 * pixels(3, *SHAPE)
    whole = keras.Model(i := keras.Input(SHAPE, **F), model(rescale(i)))
    if name == "BatchNormalization":
        values = [1.5, -0.7, 1.0], [0.1, 0.2, 0.3], [9.0, 90.0, 80.0], [90.0, 40.0, 25.0]
        rescale.set_weights([np.array(value) for value in values])
    low, high = np.array([0.0, 5.0, 1.0]), np.array([255.0, 250.0, 300.0])
    x = np.clip(x, low, high)
    ends = [np.asarray(rescale(np.broadcast_to(end, (1, *SHAPE))))[0] for end in (low, high)]
    lower, upper = np.minimum(*ends), np.maximum(*ends)
    expected = deep_taylor(model, np.asarray(rescale(x)), 1, low=lower, high=upper)
    assert np.abs(expected).max() > 1e-3
    assert relative_error(deep_taylor(whole, x, 1, low=low, high=high), expected) < 1e-9
    table = {FIRST: rules.z_box(low, high)} | EPSILON
    expected = lrp(model, np.asarray(rescale(x)), 1, {FIRST: rules.z_box(lower, upper)} | EPSILON)
    assert relative_error(lrp(whole, x, 1, table), expected) < 1e-9
    assert relative_error(relevance_ledger(whole, x, 1, table)[-1].inputs, expected.reshape(3, -1).sum(1)) < 1e-9
    if name != "Rescaling":
        return
    # the bounds as they are would be another map
    wrong = lrp(model, np.asarray(rescale(x)), 1, {FIRST: rules.z_box(low - 1e3, high)} | EPSILON)
    assert relative_error(wrong, expected) > 1e-2


def gated(order, gate):
    x = keras.Input(SHAPE, **F)
    signal = L.Conv2D(4, 3, padding="same", activation="relu", name="signal", **F)(x)
    factors = [signal, gate(x, signal)]
    y = L.Multiply(**F)([factors[k] for k in order])
    model = keras.Model(x, dense(3, name="head")(L.GlobalAveragePooling2D(**F)(y)))
    return model


def by_layers(x, signal):
    return L.Conv2D(4, 5, padding="same", activation="sigmoid", name="gate", **F)(x)


def squeezed(x, signal):
    return dense(4, "relu", name="gate")(L.GlobalAveragePooling2D(keepdims=True, **F)(signal))


def hard_by_operations(x, signal):
    return ops.relu6(L.Conv2D(4, 3, padding="same", name="gate", **F)(x) + 3.0) / 6.0


def softmaxed(x, signal):
    return L.Softmax(**F)(L.Conv2D(4, 3, padding="same", name="gate", **F)(x))


@pytest.mark.parametrize("gate", [by_layers, squeezed, hard_by_operations, softmaxed])
def test_the_order_of_factors_plays_no_part(gate):
    one, other = (randomize(gated(order, gate)) for order in ((0, 1), (1, 0)))
    for name in ("signal", "gate", "head"):
        other.get_layer(name).set_weights(one.get_layer(name).get_weights())
    x = noise(2, *SHAPE)
    assert np.allclose(one(x), other(x), atol=1e-12)
    for table in ("EPSILON_PLUS", "ALPHA2_BETA1"):
        assert relative_error(lrp(other, x, 1, table), lrp(one, x, 1, table)) < 1e-10
    if gate is not softmaxed:  # DeepLIFT has no rule for it
        assert relative_error(deeplift(other, x, 1), deeplift(one, x, 1)) < 1e-8


def test_a_product_that_does_not_tell_its_gate_is_refused_and_the_advice_works():
    tanh = L.Conv2D(4, 3, padding="same", activation="tanh", name="gate", **F)
    model = randomize(gated((0, 1), lambda x, signal: tanh(x)))
    x = noise(2, *SHAPE)
    with pytest.raises(ValueError, match="(?s)which the gate.*Product: epsilon"):
        lrp(model, x, 1, "EPSILON")
    assert np.abs(lrp(model, x, 1, {Product: rules.epsilon()} | EPSILON)).max() > 0


class Residual(L.Layer):
    """A layer made of layers."""

    def __init__(self, channels, **how):
        super().__init__(**how)
        self.first = L.Conv2D(channels, 3, padding="same", activation="relu", **F)
        self.second = L.Conv2D(channels, 3, padding="same", **F)

    def build(self, shape):
        self.first.build(shape)
        self.second.build(shape)

    def call(self, x):
        return x + 0.5 * self.second(self.first(x))


class Blur(L.Layer):
    def call(self, x):
        return keras.ops.average_pool(x, 3, strides=1, padding="same")


def test_a_layer_made_of_layers_is_opened():
    block = Residual(3, name="block", **F)
    model = chain(SHAPE, block, L.ReLU(**F), L.Flatten(**F), dense(3))
    x = keras.Input(SHAPE, **F)
    y = L.ReLU(**F)(x + 0.5 * block.second(block.first(x)))
    flat = keras.Model(x, model.layers[-1](L.Flatten(**F)(y)))
    nodes = [len(layer._inbound_nodes) for layer in (block.first, block.second)]
    points = noise(2, *SHAPE)
    assert np.allclose(model(points), flat(points), atol=1e-12)
    for table in ("EPSILON", "ALPHA2_BETA1", "FLAT_PLUS"):  # what is opened does not depend on the table
        assert relative_error(lrp(model, points, 1, table), lrp(flat, points, 1, table)) < 1e-10
    assert relative_error(deeplift(model, points, 1), deeplift(flat, points, 1)) < 1e-10
    assert [len(layer._inbound_nodes) for layer in (block.first, block.second)] == nodes  # no record is left behind


def test_a_rule_for_a_layer_of_ones_own():
    class Odd(Blur):
        def call(self, x):
            return tf_only(x)

    def tf_only(x):
        import tensorflow as tf

        return tf.nn.avg_pool2d(x, 3, 1, "SAME")

    model, points = chain(SHAPE, Odd(name="odd", **F), L.Flatten(**F), dense(3)), noise(2, *SHAPE)
    with pytest.raises(UnsupportedLayerError, match="'odd'"):
        lrp(model, points, 1, "EPSILON")
    pooled = chain(SHAPE, L.AveragePooling2D(3, 1, "same", **F), L.Flatten(**F), dense(3))
    pooled.set_weights(model.get_weights())
    expected = lrp(pooled, points, 1, "EPSILON")
    for test in (Odd, "odd"):
        assert relative_error(lrp(model, points, 1, {test: rules.epsilon()} | EPSILON), expected) < 1e-10


def test_masked_steps_of_time_get_nothing():
    tokens = np.array([[1, 2, 0, 0, 0, 0], [3, 4, 5, 6, 0, 0]])
    embedding = L.Embedding(20, 4, mask_zero=True)
    model = keras.Sequential([keras.Input((6,), dtype="int32"), embedding, L.GlobalAveragePooling1D(), L.Dense(2)])
    behind = keras.Sequential([keras.Input((6, 4)), L.Masking(), *model.layers[1:]])
    x = np.asarray(embedding(tokens) * (tokens != 0)[..., None])
    assert np.allclose(behind(x), model(tokens), atol=1e-6)
    R = lrp(behind, x, 1, {L.Dense: rules.epsilon(1e-9)} | EPSILON)
    assert not R[tokens == 0].any() and np.allclose(
        R.sum((1, 2)), model(tokens)[:, 1] - model.layers[-1].bias[1], atol=1e-4
    )
    lost = keras.Sequential([keras.Input((6, 4)), *model.layers[1:]])
    with pytest.raises(ValueError, match="(?s)reads a mask.*Masking"):
        lrp(lost, x, 1, "EPSILON")


def test_resizing_is_a_mixture():
    model, points = chain(SHAPE, L.Resizing(12, 10, **F), L.Flatten(**F), dense(3)), noise(2, *SHAPE)
    enlarged = chain(SHAPE, L.UpSampling2D(2, interpolation="bilinear", **F), L.Flatten(**F), dense(3))
    enlarged.set_weights(model.get_weights())
    assert relative_error(lrp(model, points, 1, "EPSILON"), lrp(enlarged, points, 1, "EPSILON")) < 1e-5  # in 32 bits
