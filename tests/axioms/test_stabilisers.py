"""Stabilisers: relative ones go with the scale of the network, absolute ones take what is small, and say so."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers as L

from tests.helpers import F, chain, dense, noise, relative_error, stable
from utils import rules
from utils.attributions import lrp
from utils.composites import EPSILON, FIRST, Linear, Mixing
from utils.relevance import relevance_ledger

RELATIVE = {
    "epsilon": rules.epsilon(1e-2, relative=True),
    "gamma": rules.gamma(0.25, eps=1e-2, relative=True),
    "alpha_beta": rules.alpha_beta(2, 1, eps=1e-2, relative=True),
    "z_plus": rules.z_plus(1e-2, relative=True),
    "w_square": rules.w_square(1e-2, relative=True),
    "flat": rules.flat(1e-2, relative=True),
    "z_box": rules.z_box(-3, 3, eps=1e-2, relative=True),
}


def test_a_relative_stabiliser_is_eps_times_the_root_mean_square():
    model, x = chain((5,), dense(4, use_bias=False)), noise(3, 5)
    (W,) = model.get_weights()
    z = x @ W
    eps = 0.1 * np.sqrt((z**2).mean(1, keepdims=True))  # image by image
    s = z / stable(z, eps)
    expected = x * W[:, 1] * s[:, 1:2]
    ours = lrp(model, x, 1, {Linear: rules.epsilon(0.1, relative=True)} | EPSILON)
    assert relative_error(ours, expected) < 1e-12
    absolute = lrp(model, x, 1, {Linear: rules.epsilon(0.1)} | EPSILON)
    assert relative_error(absolute, expected) > 1e-3


def scaled(factor):
    """A network without biases, all its weights times `factor`: scores of about factor^3."""
    layers = [L.Conv2D(4, 3, activation="relu", use_bias=False, **F), L.Flatten(**F)]
    model = chain((6, 6, 2), *layers, dense(5, "relu", use_bias=False), dense(3, use_bias=False))
    model.set_weights([factor * w for w in model.get_weights()])
    return model


@pytest.mark.parametrize("name", RELATIVE)
@pytest.mark.filterwarnings("ignore")
def test_relative_maps_go_with_the_score_and_absolute_ones_do_not(name):
    x, small, large = noise(2, 6, 6, 2), scaled(1e-4), scaled(1.0)
    table = {FIRST if name == "z_box" else Linear: RELATIVE[name], Linear: RELATIVE["epsilon"]} | EPSILON
    table = table if name == "z_box" else {Linear: RELATIVE[name], Mixing: RELATIVE["epsilon"]} | EPSILON
    R = lrp(large, x, 1, table)
    assert np.abs(R).max() > 1e-6 and relative_error(1e12 * lrp(small, x, 1, table), R) < 1e-6
    absolute = lrp(small, x, 1, {Linear: rules.epsilon(1e-6)} | EPSILON)
    assert np.abs(absolute).sum() < 1e-3 * np.abs(small(x).numpy()[:, 1]).sum()


def test_an_image_does_not_change_the_stabiliser_of_another():
    model, x = scaled(1.0), noise(3, 6, 6, 2)
    x[1] *= 100
    table = {Linear: RELATIVE["epsilon"]} | EPSILON
    assert relative_error(lrp(model, x, 1, table)[:1], lrp(model, x[:1], 1, table)) < 1e-9


def caught(call):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        call()
    return [w for w in found if issubclass(w.category, UserWarning)]


def test_a_stabiliser_that_takes_much_of_a_score_is_named_at_the_callers_line():
    model, x = scaled(1.0), noise(3, 6, 6, 2)
    table = {Linear: rules.epsilon(0.3)} | EPSILON
    taken = sum(row.stabiliser for row in relevance_ledger(model, x, 1, table))
    share = np.abs(taken / model(x).numpy()[:, 1]).max()
    assert share > 0.05
    (warning,) = caught(lambda: lrp(model, x, 1, table))
    assert "Stabilisers take" in str(warning.message) and f"{share:.0%}" in str(warning.message)
    assert "relative=True" in str(warning.message) and warning.filename == __file__
    # its remedy works
    assert not caught(lambda: lrp(model, x, 1, {Linear: rules.epsilon(1e-6, relative=True)} | EPSILON))
    assert not caught(lambda: lrp(model, x, 1, EPSILON))


def test_what_biases_take_is_no_fault_of_stabilisers():
    layers = [dense(6, "relu", bias_initializer="ones"), dense(3, bias_initializer="ones")]
    model = keras.Sequential([keras.Input((5,), **F), *layers])
    x = noise(4, 5)
    lost = np.abs(lrp(model, x, 1, EPSILON).sum(1) / model(x).numpy()[:, 1] - 1)
    assert lost.max() > 0.05 and not caught(lambda: lrp(model, x, 1, EPSILON))


def test_terms_that_cancel_are_named():
    model = keras.Sequential([keras.Input((2,), **F), dense(1, use_bias=False)])
    model.set_weights([np.array([[1.0], [-1.0]])])
    (warning,) = caught(lambda: lrp(model, np.array([[1.0, 1.0 - 1e-4]]), 0, EPSILON))
    assert "times its score" in str(warning.message) and warning.filename == __file__
    assert not caught(lambda: lrp(model, np.array([[1.0, 0.5]]), 0, EPSILON))
