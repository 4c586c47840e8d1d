"""Relevance: where it goes sums to what came, and what deep Taylor promises."""

import keras
import numpy as np
import pytest
from keras import layers as L

from tests.helpers import NETS, F, chain, dense, net_of, noise, pixels, plain_net, randomize, relative_error
from utils import attributions, rules
from utils.attributions import deep_taylor, lrp
from utils.composites import ALPHA2_BETA1, EPSILON, EPSILON_PLUS, NAMED
from utils.parts import Affine, Linear, Mixing
from utils.relevance import relevance_ledger


@pytest.mark.parametrize(
    ("net", "composite"),
    [("plain", composite) for composite in NAMED]
    + [("residual", composite) for composite in ("EPSILON", "EPSILON_GAMMA_BOX", "ALPHA2_BETA1", "DEEP_TAYLOR")],
)
def test_the_ledger_sums(net, composite):
    model, shape = net_of(net)
    x = pixels(3, *shape, seed=3)
    table = relevance_ledger(model, x, 1, composite)
    for row in table:
        total = row.inputs + row.bias + row.stabiliser
        assert relative_error(total, row.incoming) < 1e-10, row.layer
    assert np.allclose(table[0].incoming, model(x).numpy()[:, 1], atol=1e-12)
    R = lrp(model, x, 1, composite).reshape(3, -1).sum(1)
    if net != "residual":  # on a chain, each part receives what the part above it sent down
        for upper, lower in zip(table, table[1:]):
            assert np.abs(upper.inputs - lower.incoming).max() < 1e-10 * max(1, np.abs(upper.inputs).max())
        assert relative_error(table[-1].inputs, R) < 1e-9
    taken = sum(row.bias + row.stabiliser for row in table)
    assert np.abs(R + taken - table[0].incoming).max() < 1e-9 * max(1, np.abs(taken).max())


def test_lrp_0_is_gradient_times_input_without_biases():
    for build, shape in (NETS["no biases"], (lambda: plain_net(False, L.AveragePooling2D), (8, 7, 2))):
        model, x = build(), noise(5, *shape)
        R = lrp(model, x, 2, {Linear: rules.epsilon(1e-12), (Mixing, Affine): rules.epsilon(1e-12)} | EPSILON)
        assert np.abs(R - attributions.gradient_x_input(model, x, 2)).max() < 1e-9
        assert np.allclose(R.sum((1, 2, 3)), model(x).numpy()[:, 2], atol=1e-9)


@pytest.mark.parametrize("bias", [True, False])
def test_alpha1_beta0_is_z_plus(bias):
    model, x = plain_net(), noise(4, 8, 7, 2)
    one = lrp(model, x, 1, {Linear: rules.alpha_beta(1, 0, bias=bias)} | EPSILON)
    assert np.abs(one - lrp(model, x, 1, {Linear: rules.z_plus(bias=bias)} | EPSILON)).max() < 1e-14


# --- deep Taylor


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (None, None), (-0.5, np.array([1.0, 2.0]))])
@pytest.mark.parametrize("net", ["plain", "average", "no biases"])
def test_deep_taylor_is_never_negative_on_chains(net, bounds):
    model, x = net_of(net)[0], pixels(20, 8, 7, 2, seed=5)
    target = model(x).numpy().argmax(1)
    positive = model(x).numpy().max(1) > 0
    R = deep_taylor(model, x, target, *bounds)[positive]
    assert positive.sum() > 5 and R.min() > -1e-12


def test_deep_taylor_of_a_residual_sum_can_be_negative():
    # f = relu(2 x1 - x2): the branch -x2 gets a share with its sign
    x = keras.Input((2,), **F)
    two, one = dense(1, use_bias=False), dense(1, use_bias=False)
    model = keras.Model(x, L.ReLU(**F)(L.Add(**F)([two(x), one(x)])))
    two.kernel.assign([[2.0], [0.0]])
    one.kernel.assign([[0.0], [-1.0]])
    R = deep_taylor(model, np.array([[0.9, 0.5]]), 0)
    assert np.allclose(R, [[1.8, -0.5]], atol=1e-5)


def test_deep_taylor_moves_its_bounds_with_a_rescaling_of_the_pixels():
    layer, x = dense(4), pixels(6, 5, seed=0)
    rescaled = chain((5,), L.Rescaling(2.0, -1.0, **F), layer)
    bare = keras.Model(y := keras.Input((5,), **F), layer(y))
    expected = deep_taylor(bare, 2 * x - 1, 0, -1.0, 1.0)
    try:
        ours = deep_taylor(rescaled, x, 0, 0.0, 1.0)
    except ValueError as error:
        assert rescaled.layers[1].name in str(error)  # refused by name: as right as an answer
    else:
        assert np.abs(ours - expected).max() < 1e-10


# --- the relevance of inner layers


@pytest.mark.parametrize("layer", ["conv", "pool", "relu", "flat", "hidden", "scores"])
def test_relevance_of_an_inner_layer_is_that_of_the_upper_half(layer):
    model, x = net_of("plain")[0], noise(3, 8, 7, 2)
    tensor = model.get_layer(layer).output
    lower = keras.Model(model.inputs[0], tensor)
    composite = EPSILON_PLUS if layer in ("pool", "hidden") else ALPHA2_BETA1
    ours = lrp(model, x, 1, composite, layer=layer)
    if layer == "scores":
        expected = np.eye(4)[1] * model(x).numpy()
    else:
        expected = lrp(keras.Model(tensor, model.outputs[0]), lower(x).numpy(), 1, composite)
    assert ours.shape == expected.shape
    assert relative_error(ours, expected) < 1e-11


def test_relevance_of_an_inner_layer_of_a_nested_model():
    inner = keras.Sequential([keras.Input((8, 7, 2), **F), L.Conv2D(3, 3, activation="relu", name="deep", **F)])
    x = keras.Input((8, 7, 2), **F)
    model = randomize(keras.Model(x, dense(3)(L.Flatten(**F)(inner(x)))))
    images = noise(2, 8, 7, 2)
    upper = keras.Sequential([keras.Input((6, 5, 3), **F), L.Flatten(**F), model.layers[-1]])
    expected = lrp(upper, inner(images).numpy(), 1, EPSILON)
    assert np.abs(lrp(model, images, 1, EPSILON, layer="deep") - expected).max() < 1e-12
