"""What methods with backward rules cannot explain is refused, by the name of the layer and of its type."""

import keras
import numpy as np
import pytest
from keras import layers as L

from tests.helpers import refused, same_values
from utils.attributions import deconvolution, deep_taylor, deeplift, guided_backprop, lrp
from utils.composites import EPSILON
from utils.parts import UnsupportedLayerError
from utils.relevance import relevance_ledger

X = np.random.default_rng(0).random((3, 6), "float32")


def model_of(*chained, shape=(6,)):
    return keras.Sequential([keras.Input(shape), *chained])


def relu_model():
    return model_of(L.Dense(5, activation="relu", name="hidden"), L.Dense(3, name="scores"))


MODEL = relu_model()


class OwnDense(L.Dense):
    def call(self, x):
        return super().call(2 * x)


class OwnLayer(L.Layer):
    def call(self, x):
        return x - keras.ops.mean(x, -1, keepdims=True)


def half_of_the_others(x):
    return x - keras.ops.mean(x, -1, keepdims=True) / 2


def attention(x):
    x = L.Reshape((3, 2))(x)
    return L.Flatten()(L.MultiHeadAttention(1, 2, name="odd")(x, x))


UNSUPPORTED = {
    "Lambda": lambda x: L.Lambda(lambda t: 2 * t, name="odd")(x),
    "LSTM": lambda x: L.LSTM(4, name="odd")(L.Reshape((3, 2))(x)),
    "MultiHeadAttention": attention,
    "OwnDense": lambda x: OwnDense(4, name="odd")(x),
    "Sin": lambda x: keras.ops.sin(x),
    "Divide": lambda x: x / (1 + keras.ops.sum(x, 1, keepdims=True)),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
@pytest.mark.parametrize("method", [lrp, deep_taylor, deeplift, guided_backprop, deconvolution, relevance_ledger])
def test_an_unsupported_layer_is_named(name, method):
    x = keras.Input((6,))
    model = keras.Model(x, L.Dense(3)(UNSUPPORTED[name](L.Dense(6, activation="relu")(x))))
    with pytest.raises(UnsupportedLayerError) as raised:
        method(model, X, 0)
    message = str(raised.value)
    assert "gradient methods" in message and "class activation maps" in message
    assert (f"of type {name}" in message and "'odd'" in message) or name in ("Sin", "Divide")


@pytest.mark.parametrize("name", ["Lambda", "OwnDense"])
def test_an_unsupported_layer_of_an_inner_model_is_named(name):
    x = keras.Input((6,))
    inner = keras.Model(x, UNSUPPORTED[name](x))
    with pytest.raises(UnsupportedLayerError, match=f"'odd', of type {name}"):
        lrp(model_of(L.Dense(6), inner, L.Dense(3)), X, 0)


@pytest.mark.parametrize("layer", [L.Dense, L.Activation])
def test_an_activation_that_is_not_known(layer):
    how = {"activation": half_of_the_others, "name": "odd"}
    odd = L.Dense(4, **how) if layer is L.Dense else L.Activation(**how)
    for method in (lrp, deeplift, guided_backprop):
        with pytest.raises(UnsupportedLayerError, match="(?s)'half_of_the_others'.*'odd'.*Supported:.*relu"):
            method(model_of(L.Dense(4), odd, L.Dense(3)), X, 0)


@pytest.mark.parametrize("name", ["glu", "sparsemax"])
def test_an_activation_of_keras_that_mixes_values(name):
    with pytest.raises(UnsupportedLayerError, match=f"(?s){name}.*'odd'"):
        lrp(model_of(L.Dense(4, activation=name, name="odd"), L.Dense(3)), X, 0)


def test_a_softmax_in_the_middle():
    for middle in (
        [L.Dense(4, activation="softmax", name="odd")],
        [L.Dense(4), L.Softmax(name="odd")],
        [L.Dense(4), L.Activation("softmax", name="odd")],
    ):
        for method in (lrp, deep_taylor, deeplift):
            with pytest.raises(UnsupportedLayerError, match="(?s)no rule for 'odd'.*kind Softmax"):
                method(model_of(*middle, L.Dense(3)), X, 0)


def test_probabilities_have_no_relevance():
    model = model_of(L.Dense(4, activation="relu"), L.Dense(3, activation="softmax", name="head"))
    with pytest.raises(UnsupportedLayerError, match="(?s)'head'.*Softmax"):
        lrp(model, X, 0, explain="output")
    assert guided_backprop(model, X, 0, explain="output").shape == X.shape


def test_layer_normalization_has_no_rule_of_deeplift():
    with pytest.raises(UnsupportedLayerError, match="(?s)'odd'.*LayerNormalization.*Normalizing"):
        deeplift(model_of(L.Dense(4), L.LayerNormalization(name="odd"), L.Dense(3)), X, 0)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16"])
def test_half_precision(policy):
    model = model_of(L.Dense(4, activation="relu", dtype=policy, name="odd"), L.Dense(3))
    for method in (lrp, deep_taylor, deeplift):
        with pytest.raises(UnsupportedLayerError, match="(?s)float16.*Expected: float32 or float64"):
            method(model, X, 0)


def test_half_precision_in_operations():
    x = keras.Input((6,))
    model = keras.Model(x, L.Dense(3)(keras.ops.relu(keras.ops.cast(x, "float16"))))
    with pytest.raises(UnsupportedLayerError):
        lrp(model, X, 0)


# --- layers


@pytest.mark.parametrize("method", [lrp, deep_taylor])
def test_a_layer_that_is_not_there(method):
    with refused("The layer 'hiden' is not there", "Expected one of: hidden, scores"):
        method(MODEL, X, 0, layer="hiden")


def test_a_layer_that_is_merged_with_the_next():
    model = model_of(L.Dense(4, name="merged"), L.BatchNormalization(name="norm"), L.ReLU(name="relu"), L.Dense(3))
    with refused("The layer 'merged' is merged", "Expected one of: norm, relu"):
        lrp(model, X, 0, layer="merged")
    assert lrp(model, X, 0, layer="norm").shape == (3, 4)
    padded = model_of(L.ZeroPadding1D(1, name="pad"), L.Conv1D(2, 3), L.Flatten(), L.Dense(3), shape=(6, 1))
    with refused("The layer 'pad' is merged"):
        lrp(padded, X[..., None], 0, layer="pad")


def test_a_layer_that_stands_in_several_places():
    x, shared = keras.Input((6,)), L.Dense(6, name="twice")
    with refused("'twice'", "stands in several places"):
        lrp(keras.Model(x, L.Dense(3)(shared(shared(x)))), X, 0, layer="twice")


@pytest.mark.parametrize(
    "layer",
    [
        lambda: L.Conv2D(2, 3, padding="same", data_format="channels_first", name="odd"),
        lambda: L.DepthwiseConv2D(3, padding="same", data_format="channels_first", name="odd"),
        lambda: L.Conv2DTranspose(2, 3, padding="same", data_format="channels_first", name="odd"),
    ],
    ids=["Conv2D", "DepthwiseConv2D", "Conv2DTranspose"],
)
def test_channels_first(layer):
    try:
        model = model_of(layer(), L.Flatten(), L.Dense(3), shape=(2, 4, 4))
    except Exception:
        pytest.skip("this TensorFlow cannot build it")
    with pytest.raises(ValueError, match="odd"):
        lrp(model, np.ones((1, 2, 4, 4), "float32"), 0, EPSILON)


def test_a_norm_over_another_axis_with_channels_of_equal_number():
    norm = L.BatchNormalization(axis=1, name="odd")
    model = model_of(L.Conv2D(4, 1), norm, L.Flatten(), L.Dense(3), shape=(4, 4, 2))
    norm.moving_mean.assign([1.0, 2.0, 3.0, 4.0])
    x = np.ones((1, 4, 4, 2), "float32")
    try:
        same_values(model, x, tolerance=1e-5)
    except ValueError as error:
        assert "odd" in str(error)


def test_a_tensor_below_a_fraction_line():
    x = keras.Input((6,))
    with pytest.raises(UnsupportedLayerError, match="Divide"):
        lrp(keras.Model(x, L.Dense(3)(1.0 / (x + 1.0))), X, 0, "EPSILON")


@pytest.mark.parametrize("method", [guided_backprop, deconvolution])
def test_a_network_without_a_relu_has_only_its_gradient(method):
    with pytest.warns(UserWarning, match="has no ReLU, so this map is its gradient"):
        method(model_of(L.Dense(5, activation="swish"), L.Dense(3)), X, 0)


def test_a_score_that_the_stabiliser_takes():
    tiny = relu_model()
    tiny.set_weights([1e-20 * w for w in tiny.get_weights()])
    with pytest.warns(UserWarning, match="3 of 3 maps are zero everywhere"):
        lrp(tiny, X, 0, "EPSILON")
