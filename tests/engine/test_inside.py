"""The inside of the engine: models that carry rules, what is compiled and how often, and the shorter ways."""

import collections
import dataclasses
import functools
import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L

from tests.helpers import (
    F,
    chain,
    dense,
    images,
    kept_with,
    noise,
    pixels,
    plain_net,
    plus,
    randomize,
    relative_error,
    relevance_by_general_rules,
    residual_net,
    small_cnn,
    spared,
)
from utils import attributions, rules
from utils.attributions import deep_taylor, deeplift, integrated_gradients, lrp, smoothgrad
from utils.composites import EPSILON, FIRST, NAMED
from utils.parts import Linear, Mixing
from utils.trace import Trace


def test_one_trace_serves_all_batch_sizes_and_targets():
    model = small_cnn()
    attributions.gradient(model, images(3), 0)
    found = kept_with(model)
    compiled = found._backward
    for n, target in ((1, 1), (7, None), (20, np.arange(20) % 4)):
        attributions.gradient(model, images(n), target)
        integrated_gradients(model, images(n), target, steps=n + 2)
        smoothgrad(model, images(n), target, samples=n + 1)
    assert kept_with(model) is found and found._backward is compiled


def tables(model):
    """The keys of what is compiled for tables of rules."""
    return [key for key in kept_with(model)._compiled if isinstance(key, tuple)]


def test_an_equal_table_is_compiled_once():
    model, x = plain_net(), pixels(3, 8, 7, 2)
    for low in (np.zeros(2), np.zeros(2)):
        lrp(model, x, 1, {FIRST: rules.z_box(low, np.ones(2))} | EPSILON)
        lrp(model, x, 1, {Linear: rules.gamma(0.3)} | EPSILON)
    assert len(tables(model)) == 2
    lrp(model, x, 1, {FIRST: rules.z_box(np.ones(2) - 2, np.ones(2))} | EPSILON)
    assert len(tables(model)) == 3


def test_a_table_decides_by_position_name_and_type():
    model, x = plain_net(), pixels(2, 8, 7, 2, seed=0)
    table = {FIRST: "a", "conv2": "b", L.Dense: "c", "relu": "d"}
    calls = collections.defaultdict(list)

    def noted(word):
        def rule(part, inputs, output, R):
            calls[word].append(part.layer.name)
            return rules.pullback(part, inputs, R)

        return rule

    lrp(model, x, 1, {test: noted(word) for test, word in table.items()} | EPSILON)
    found = {word: set(names) for word, names in calls.items()}
    assert found == {"a": {"conv"}, "b": {"conv2"}, "c": {"hidden", "scores"}, "d": {"relu"}}


# --- models that carry rules


def test_a_trace_shows_later_weights_and_names_its_layers():
    model, x = plain_net(), noise(2, 8, 7, 2)
    assert {name for name, tensor in Trace(model, x, EPSILON).outputs.items() if tensor is None} == {"conv2"}
    model.set_weights([0.9 * w for w in model.get_weights()])
    trace = Trace(model, x, EPSILON)
    assert np.allclose(trace.scores, model(x), atol=1e-12)
    for name in ("conv", "norm", "hidden"):
        theirs = keras.Model(model.inputs[0], model.get_layer(name).output)(x)
        assert np.allclose(trace.outputs[name], theirs, atol=1e-12)


def late_relu_net():
    """ReLUs behind a pooling, before padding, beside a sum that reads the same units, and one with a ceiling."""
    x = keras.Input((8, 7, 2), **F)
    y = L.ReLU(**F)(L.MaxPooling2D(2, **F)(L.Conv2D(5, 3, padding="same", **F)(x)))
    z = L.Conv2D(4, 3, **F)(L.ZeroPadding2D(1, **F)(y))
    y = L.Flatten(**F)(L.Add(**F)([z, L.ReLU(6.0, **F)(z)]))
    y = dense(6, "relu", name="upper")(dense(5)(y))
    return randomize(keras.Model(x, dense(4)(y)))


built = functools.cache(lambda build: build())  # the tests with it leave the model as it is
WHOLE_TABLES = dict(NAMED) | {
    "flat on top": {L.Dense: rules.flat()} | EPSILON,
    "w-square above": {"upper": rules.w_square(), "conv2": rules.w_square(), "hidden": rules.flat()} | EPSILON,
    "gamma without the bias": {Linear: rules.gamma(0.5, bias=False)} | EPSILON,
    "epsilon without the bias": {Linear: rules.epsilon(bias=False), Mixing: rules.epsilon(0.1)} | EPSILON,
    "gamma": {Linear: rules.gamma(0.5)} | EPSILON,
}


SOME_TABLES = ("EPSILON", "EPSILON_GAMMA_BOX", "ALPHA2_BETA1")
SOME_TABLES += ("gamma without the bias", "flat on top", "w-square above")


@pytest.mark.parametrize(
    ("build", "composite"),
    [(plain_net, name) for name in WHOLE_TABLES]
    + [(build, name) for build in (residual_net, late_relu_net) for name in SOME_TABLES],
)
def test_relevance_that_begins_at_the_scores_is_that_of_the_general_rules(build, composite):
    table, model = WHOLE_TABLES[composite], built(build)
    names = {layer.name for layer in model.layers}
    table = {test: rule for test, rule in table.items() if not isinstance(test, str) or test in (FIRST, *names)}
    x = pixels(6, *model.input_shape[1:], seed=5)
    expected = relevance_by_general_rules(model, table, x, 1)
    assert relative_error(lrp(model, x, 1, table), expected) < 1e-10


def test_what_gets_relevance_below_zero_is_not_spared(monkeypatch):
    assert spared(plain_net(), EPSILON) == 3  # the two convolutions and the hidden layer
    assert spared(late_relu_net(), EPSILON) == 3  # the convolution and its pooling, and the upper layer
    flat = {"scores": rules.flat()} | EPSILON
    assert spared(plain_net(), flat) == 2  # not the layer under the flat rule
    wrong = {"scores": dataclasses.replace(rules.flat, keeps_zeros=True)} | EPSILON
    assert spared(plain_net(), wrong) == 3
    with pytest.raises(AssertionError):  # and this would be wrong
        monkeypatch.setitem(WHOLE_TABLES, "flat", wrong)
        test_relevance_that_begins_at_the_scores_is_that_of_the_general_rules(plain_net, "flat")


def test_second_calls_trace_nothing(monkeypatch):
    model, x = plain_net(), noise(3, 8, 7, 2)
    calls = {
        "lrp": lambda n, target: lrp(model, x[:n], target),
        "layer": lambda n, target: lrp(model, x[:n], target, layer="conv"),
        "deep_taylor": lambda n, target: deep_taylor(model, plus(x[:n]), target, high=9.0),
        "deeplift": lambda n, target: deeplift(model, x[:n], target),
        "each": lambda n, target: deeplift(model, x[:n], target, x[::-1][:n] if n > 1 else x[:1]),
        "guided": lambda n, target: attributions.guided_backprop(model, x[:n], target),
    }
    made, begin = [], Trace.__init__

    def noted(self, *arguments, **how):
        made.extend([] if tf.executing_eagerly() else [1])  # a ledger of one image is no compilation
        begin(self, *arguments, **how)

    monkeypatch.setattr(Trace, "__init__", noted)
    for name, call in calls.items():
        call(3, 0)
        call(1, 0)
        assert made or name == "each", name  # one function serves both of DeepLIFT
        made.clear()
    for name, call in calls.items():
        for n, target in ((3, 1), (2, None), (1, 2), (3, [0, 1, 2])):
            call(n, target)
        assert not made, name


def test_models_with_rules_that_are_gone_leave_nothing():
    gone, x = [], noise(2, 5)
    for k in range(10):
        model = chain((5,), dense(3, "softmax" if k % 2 else None), seed=k)
        attributions.METHODS["deeplift" if k % 5 == 0 else "lrp"](model, x, 0)
        gone += [weakref.ref(model), weakref.ref(model.layers[0]), weakref.ref(kept_with(model))]
    model = None
    gc.collect()
    assert not any(reference() for reference in gone)


def test_a_loop_over_parameters_does_not_fill_the_memory():
    model, x = chain((5,), dense(3)), noise(2, 5)
    for k in range(34):
        lrp(model, x, 0, {Linear: rules.epsilon(10.0**-k)} | EPSILON)
    assert len(tables(model)) <= 32
