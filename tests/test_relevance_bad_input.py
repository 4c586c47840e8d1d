"""What the methods with backward rules cannot explain is refused, by the name of the layer and of its type."""

import keras
import numpy as np
import pytest
from keras import layers as L
from test_bad_input import refused

from utils import rules
from utils.attributions import deconvolution, deep_taylor, deeplift, guided_backprop, lrp
from utils.composites import CONVOLUTION, EPSILON, FIRST, NAMED
from utils.parts import Linear, Mixing, UnsupportedLayerError
from utils.relevance import relevance_ledger
from utils.surgery import with_rules

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
    "OwnLayer": lambda x: OwnLayer(name="odd")(x),
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
    assert f"of type {name}" in message and "Supported: Dense" in message and "'odd'" in message or name[0] in "SD"


@pytest.mark.parametrize("name", ["Lambda", "OwnDense"])
def test_an_unsupported_layer_of_an_inner_model_is_named(name):
    x = keras.Input((6,))
    inner = keras.Model(x, UNSUPPORTED[name](x))
    with refused("There is no backward rule for 'odd'", f"of type {name}"):
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


# --- composites


@pytest.mark.parametrize("method", [lrp, relevance_ledger])
def test_a_composite_that_does_not_exist(method):
    with refused("There is no such composite", "'EPSILON_MINUS'", *list(NAMED)[:2]):
        method(MODEL, X, 0, "EPSILON_MINUS")
    for wrong in ("GUIDED", "_REST", "epsilon", None, 3):
        with refused("There is no such composite", f"Received: {wrong!r}"):
            method(MODEL, X, 0, wrong)


def test_a_composite_of_the_wrong_type():
    with refused("no such composite", "Received: ['EPSILON']"):
        lrp(MODEL, X, 0, ["EPSILON"])


@pytest.mark.parametrize("method", [lrp, relevance_ledger])
def test_a_composite_that_names_a_layer_that_is_not_there(method):
    with refused("The composite names layers", "does not have", "['hiden']"):
        method(MODEL, X, 0, {"hiden": rules.flat(), "scores": rules.flat()} | EPSILON)
    with refused("['hiden']"):
        with_rules(MODEL, {"hiden": rules.flat()} | EPSILON)


def test_a_composite_without_a_rule_for_a_part():
    with pytest.raises(UnsupportedLayerError, match="(?s)no rule for 'hidden'.*type Dense.*kind ReLU"):
        lrp(MODEL, X, 0, {Linear: rules.epsilon()})


def test_a_rule_for_another_kind_of_part():
    x = keras.Input((6,))
    model = keras.Model(x, L.Dense(3)(L.Add(name="sum")([L.Dense(4)(x), L.Dense(4)(x)])))
    with refused("'sum'"):
        lrp(model, X, 0, {Mixing: rules.gamma()} | EPSILON)


def test_a_rule_that_returns_another_shape():
    def odd(part, inputs, output, R):
        return [R]

    with refused("The rule for 'hidden' returned shape", "for an input of"):
        lrp(MODEL, X, 0, {FIRST: odd} | EPSILON)


# --- parameters


def test_parameters_that_a_rule_does_not_have():
    with refused("epsilon takes the parameters ['eps', 'bias']", "Received: ['alpha']"):
        rules.epsilon(alpha=1)
    with refused("gamma takes", "Received: ['beta']"):
        rules.gamma(0.1, beta=2)
    with refused("guided takes the parameters []"):
        rules.guided(0.1)
    with refused("flat takes"):
        rules.flat(1e-6, True, 3)


@pytest.mark.parametrize(("alpha", "beta"), [(2, 0), (1, 1), (3, 1), (0.5, -0.5)])
def test_alpha_minus_beta_must_be_1(alpha, beta):
    with refused("alpha - beta must be 1", f"alpha={alpha}, beta={beta}"):
        lrp(MODEL, X, 0, {Linear: rules.alpha_beta(alpha, beta)} | EPSILON)


def test_pixels_outside_their_bounds():
    for low, high in ((0.2, 1.0), (0.0, 0.5), (1.0, 0.0), (0.0, np.full(6, 0.5)), (0.0, np.nan)):
        with refused("x must lie between low and high", "Received: x from", "low=None, high=None"):
            deep_taylor(MODEL, X, 0, low, high)
    for low, high in ((None, 1.0), (0.0, None)):
        with refused("both bounds or both None", "Received"):
            deep_taylor(MODEL, X, 0, low, high)
    deep_taylor(MODEL, 9 * X, 0, None, None)


def test_bounds_of_the_wrong_shape():
    with pytest.raises(ValueError):
        deep_taylor(MODEL, X, 0, np.zeros(5), np.ones(5))


def test_bounds_may_be_lists():
    by_list = lrp(MODEL, X, 0, {FIRST: rules.z_box([0] * 6, [1] * 6)} | EPSILON)
    by_number = lrp(MODEL, X, 0, {FIRST: rules.z_box(0, 1)} | EPSILON)
    assert np.array_equal(by_list, by_number)


def test_a_baseline_that_does_not_fit():
    for baseline in (np.zeros((2, 6)), np.zeros(5), np.zeros((3, 5)), np.zeros((1, 3, 6))):
        with refused("baseline does not fit x", f"Received: shape {baseline.shape}"):
            deeplift(MODEL, X, 0, baseline)
    with refused("baseline must hold finite numbers"):
        deeplift(MODEL, X, 0, np.nan)


@pytest.mark.parametrize("rule", ["Rescale", "revealcancel", None, ["rescale"], rules.rescale])
def test_a_rule_that_deeplift_does_not_have(rule):
    with refused(repr(rule) if isinstance(rule, str) else "", "Expected: 'rescale' or 'reveal_cancel'"):
        deeplift(MODEL, X, 0, rule=rule)


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


def test_causal_padding():
    model = model_of(L.Conv1D(2, 3, padding="causal", name="odd"), L.Flatten(), L.Dense(3), shape=(6, 1))
    with pytest.raises(UnsupportedLayerError, match="(?s)'odd' pads causally.*Expected: padding.*ZeroPadding1D"):
        lrp(model, X[..., None], 0)
    before = model_of(
        L.ZeroPadding1D((2, 0)), L.Conv1D(2, 3), L.Flatten(), L.Dense(3), shape=(6, 1)
    )  # what the message advises
    before.set_weights(model.get_weights())
    assert np.allclose(before(X[..., None]), model(X[..., None]), atol=1e-6)
    assert lrp(before, X[..., None], 0).shape == (3, 6, 1)


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
        with_rules(model, EPSILON)


def test_a_norm_over_another_axis_with_channels_of_equal_number():
    norm = L.BatchNormalization(axis=1, name="odd")
    model = model_of(L.Conv2D(4, 1), norm, L.Flatten(), L.Dense(3), shape=(4, 4, 2))
    norm.moving_mean.assign([1.0, 2.0, 3.0, 4.0])
    x = np.ones((1, 4, 4, 2), "float32")
    try:
        rebuilt = with_rules(model, EPSILON)
    except ValueError as error:
        assert "odd" in str(error)
    else:
        assert np.allclose(rebuilt(x), model(x), atol=1e-5)


def test_a_model_that_a_composite_would_compute_otherwise_is_noticed(monkeypatch):
    from utils import surgery

    monkeypatch.setattr(surgery, "with_padding", lambda padding, linear: linear)
    model = model_of(L.ZeroPadding1D(1), L.Conv1D(2, 3, padding="same"), L.GlobalAveragePooling1D(), shape=(6, 1))
    with refused("do not compute what the model computes", "scores differ"):
        lrp(model, X[..., None], 0, {CONVOLUTION: rules.epsilon()} | EPSILON)


@pytest.mark.parametrize("method", [lrp, relevance_ledger])
@pytest.mark.parametrize("composite", ["DEEP_TAYLOR", {FIRST: rules.z_box} | EPSILON], ids=["named", "bare rule"])
def test_a_box_behind_a_rescaling_is_refused_in_the_map_and_in_the_ledger(method, composite):
    model = model_of(L.Rescaling(2.0, -1.0, name="to_signed"), L.Dense(3, name="scores"))
    with refused("to_signed", "z-box"):
        method(model, X, 0, composite=composite)


@pytest.mark.parametrize("composite", ["EPSILON_GAMMA_BOX", "DEEP_TAYLOR"])
def test_pixels_rescaled_by_operations_before_a_z_box(composite):
    x = keras.Input((6,))
    model = keras.Model(x, relu_model()(x / 127.5 - 1.0))
    with refused("rescales the pixels before 'hidden'", "Explain the model behind the rescaling"):
        lrp(model, X, 0, composite)


def test_a_tensor_below_a_fraction_line():
    x = keras.Input((6,))
    with pytest.raises(UnsupportedLayerError, match="Divide"):
        lrp(keras.Model(x, L.Dense(3)(1.0 / (x + 1.0))), X, 0, "EPSILON")


@pytest.mark.parametrize("bounds", [{"low": 0, "high": 0.5}, {"low": 0.5, "high": 1}, {"low": 1, "high": -1}])
def test_images_outside_of_the_box(bounds):
    with refused("x must lie between low and high", "Received: x from", "Give the bounds of your pixels"):
        lrp(MODEL, X, 0, {FIRST: rules.z_box(**bounds)} | EPSILON)
    with refused("x must lie between low and high"):
        relevance_ledger(MODEL, X, 0, {FIRST: rules.z_box(**bounds)} | EPSILON)
    with refused("x must lie between low and high", "bounds 0.0 and 1.0"):
        lrp(MODEL, 2 * X - 1, 0, "EPSILON_GAMMA_BOX")


def test_lines_that_are_never_reached():
    for line, rule in ((FIRST, rules.z_box(0, 1)), ("hidden", rules.gamma(0.1))):
        with refused(f"The line {line!r} of the composite is never reached", "Linear stands before it", "in front"):
            lrp(MODEL, X, 0, {**EPSILON, line: rule})
    named_first = {"hidden": rules.gamma(0.1)} | NAMED["EPSILON_GAMMA_BOX"]
    assert np.isfinite(lrp(MODEL, X, 0, named_first)).all()  # a name before FIRST is meant


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({FIRST: "z_box"} | EPSILON, ("A rule of a composite", "Received: 'z_box' for 'first'")),
        ({MODEL.layers[0]: rules.gamma()} | EPSILON, ("A test of a composite", "Of a layer, pass its name")),
    ],
)
def test_tables_that_are_none(table, words):
    with refused(*words):
        lrp(MODEL, X, 0, table)


@pytest.mark.parametrize("method", [guided_backprop, deconvolution])
def test_a_network_without_a_relu_has_only_its_gradient(method):
    with pytest.warns(UserWarning, match="has no ReLU, so this map is its gradient"):
        method(model_of(L.Dense(5, activation="swish"), L.Dense(3)), X, 0)


def test_a_score_that_the_stabiliser_takes():
    tiny = relu_model()
    tiny.set_weights([1e-20 * w for w in tiny.get_weights()])
    with pytest.warns(UserWarning, match="3 of 3 maps are zero everywhere"):
        lrp(tiny, X, 0, "EPSILON")
