"""What a composite, its rules and their parameters must be."""

import keras
import numpy as np
import pytest
from keras import layers as L

from tests.helpers import refused
from utils import rules
from utils.attributions import deep_taylor, deeplift, lrp
from utils.composites import EPSILON, FIRST, NAMED
from utils.parts import Linear, Mixing, UnsupportedLayerError
from utils.relevance import relevance_ledger
from utils.trace import Trace

X = np.random.default_rng(0).random((3, 6), "float32")


def model_of(*chained, shape=(6,)):
    return keras.Sequential([keras.Input(shape), *chained])


def relu_model():
    return model_of(L.Dense(5, activation="relu", name="hidden"), L.Dense(3, name="scores"))


MODEL = relu_model()


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
        Trace(MODEL, X, {"hiden": rules.flat()} | EPSILON)


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


def test_parameters_that_a_rule_does_not_have():
    with refused("epsilon takes the parameters ['eps', 'bias', 'relative']", "Received: ['alpha']"):
        rules.epsilon(alpha=1)
    with refused("gamma takes", "Received: ['beta']"):
        rules.gamma(0.1, beta=2)
    with refused("guided takes the parameters []"):
        rules.guided(0.1)
    with refused("flat takes"):
        rules.flat(1e-6, True, False, 3)


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


# --- the bounds of pixels


@pytest.mark.parametrize("method", [lrp, relevance_ledger])
def test_a_box_behind_what_has_no_bounds(method):
    model = model_of(L.Activation("gelu", name="bends"), L.Dense(3, name="scores"))
    with refused("z-box", "'bends'", "w_square"):
        method(model, X, 0, composite="DEEP_TAYLOR")
    method(model, X, 0, composite={FIRST: rules.w_square()} | EPSILON)  # what it advises


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
