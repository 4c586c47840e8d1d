"""Each backward rule for each linear layer, as plain sums over the layer's Jacobian in float64."""

import keras
import numpy as np
import pytest
from keras import layers as L

from tests.helpers import (
    F,
    Switch,
    chain,
    dense,
    kernel_and_bias,
    noise,
    norm,
    plus,
    relative_error,
    relevance_of_units,
)
from utils import rules
from utils.attributions import lrp
from utils.composites import EPSILON
from utils.parts import Linear


def rules_for(shape):
    """Name -> rule, low, high. The bounds differ between channels."""
    low, high = -3 - np.arange(shape[-1]), 4.0 + np.arange(shape[-1])
    return {
        "epsilon": rules.epsilon(),
        "epsilon 0.3": rules.epsilon(0.3),
        "epsilon without bias": rules.epsilon(bias=False),
        "gamma": rules.gamma(0.25),
        "alpha2_beta1": rules.alpha_beta(2, 1),
        "alpha1_beta0": rules.alpha_beta(1, 0),
        "alpha1_beta0 without bias": rules.alpha_beta(1, 0, bias=False),
        "z_plus": rules.z_plus(),
        "z_plus with bias": rules.z_plus(bias=True),
        "z_box": rules.z_box(-4.5, 5.0),
        "z_box of channels": rules.z_box(low, high),
        "w_square": rules.w_square(),
        "w_square with bias": rules.w_square(bias=True),
        "flat": rules.flat(),
    }


def bounds_of(name, shape):
    channels = np.arange(shape[-1])
    low, high = {"z_box": (-4.5, 5.0), "z_box of channels": (-3 - channels, 4.0 + channels)}.get(name, (0, 1))
    return np.broadcast_to(low, shape).ravel(), np.broadcast_to(high, shape).ravel()


LAYERS = {
    "Dense": ((7,), lambda: [dense(5)]),
    "Dense without bias": ((7,), lambda: [dense(5, use_bias=False)]),
    "Dense over an axis": ((3, 4), lambda: [dense(3)]),
    "Conv1D": ((9, 2), lambda: [L.Conv1D(3, 3, strides=2, padding="same", **F)]),
    "Conv1D causal": ((9, 2), lambda: [L.Conv1D(3, 3, dilation_rate=2, padding="causal", **F)]),
    "EinsumDense": ((3, 4), lambda: [L.EinsumDense("abc,cd->abd", output_shape=(3, 2), bias_axes="d", **F)]),
    "TimeDistributed": ((2, 4, 3, 2), lambda: [L.TimeDistributed(L.Conv2D(2, 2, **F), **F)]),
    "SpectralNormalization": ((4, 3, 2), lambda: [L.SpectralNormalization(L.Conv2D(2, 2, **F), **F)]),
    "Conv1D dilated": ((9, 2), lambda: [L.Conv1D(3, 3, dilation_rate=2, **F)]),
    "Conv2D": ((5, 4, 2), lambda: [L.Conv2D(3, (3, 2), **F)]),
    "Conv2D with strides": ((5, 4, 2), lambda: [L.Conv2D(3, 3, strides=(2, 1), padding="same", **F)]),
    "Conv2D dilated": ((6, 5, 2), lambda: [L.Conv2D(2, 2, dilation_rate=(2, 1), padding="same", **F)]),
    "Conv2D in groups and norm": ((3, 3, 4), lambda: [L.Conv2D(6, 2, groups=2, **F), norm()]),
    "Conv3D": ((3, 4, 3, 2), lambda: [L.Conv3D(2, 2, strides=(1, 2, 1), padding="same", **F)]),
    "Conv1DTranspose": ((4, 2), lambda: [L.Conv1DTranspose(3, 3, strides=2, **F)]),
    "Conv2DTranspose": ((3, 3, 2), lambda: [L.Conv2DTranspose(3, 3, strides=2, padding="same", **F)]),
    "Conv2DTranspose with output padding": (
        (2, 3, 2),
        lambda: [L.Conv2DTranspose(2, 3, strides=2, padding="same", output_padding=1, **F)],
    ),
    "Conv2DTranspose valid": ((3, 2, 2), lambda: [L.Conv2DTranspose(2, (2, 3), **F)]),
    "Conv3DTranspose": ((2, 2, 2, 2), lambda: [L.Conv3DTranspose(2, 2, strides=(2, 1, 1), **F)]),
    "DepthwiseConv1D": ((7, 2), lambda: [L.DepthwiseConv1D(3, depth_multiplier=2, strides=2, **F)]),
    "DepthwiseConv2D": ((5, 4, 2), lambda: [L.DepthwiseConv2D(3, depth_multiplier=2, padding="same", **F)]),
    "DepthwiseConv2D with strides": ((5, 5, 2), lambda: [L.DepthwiseConv2D(3, strides=2, padding="same", **F)]),
    "Dense and norm": ((6,), lambda: [dense(5), norm()]),
    "Dense without bias and norm": ((6,), lambda: [dense(5, use_bias=False), norm()]),
    "Conv2D and norm": ((4, 4, 2), lambda: [L.Conv2D(3, 2, **F), norm()]),
    "Conv2D and bare norm": (
        (4, 4, 2),
        lambda: [L.Conv2D(3, 2, **F), L.BatchNormalization(scale=False, center=False, epsilon=0.01, **F)],
    ),
    "Conv1DTranspose and norm": ((4, 2), lambda: [L.Conv1DTranspose(3, 3, strides=2, **F), norm()]),
    "Conv2DTranspose and norm": ((3, 3, 2), lambda: [L.Conv2DTranspose(3, 2, **F), norm()]),
    "DepthwiseConv1D and norm": ((6, 2), lambda: [L.DepthwiseConv1D(3, depth_multiplier=2, **F), norm()]),
    "DepthwiseConv2D and norm": ((4, 4, 3), lambda: [L.DepthwiseConv2D(2, depth_multiplier=2, **F), norm()]),
    "padding and Conv1D": ((5, 2), lambda: [L.ZeroPadding1D(2, **F), L.Conv1D(3, 3, **F)]),
    "padding and Conv2D": (
        (4, 3, 2),
        lambda: [L.ZeroPadding2D(((1, 0), (2, 1)), **F), L.Conv2D(2, 3, strides=2, **F)],
    ),
    "padding, Conv2D and norm": ((3, 3, 2), lambda: [L.ZeroPadding2D(1, **F), L.Conv2D(3, 3, **F), norm()]),
    "padding and DepthwiseConv2D": ((4, 4, 2), lambda: [L.ZeroPadding2D(1, **F), L.DepthwiseConv2D(3, **F)]),
    "padding and Conv3D": ((2, 3, 2, 1), lambda: [L.ZeroPadding3D(1, **F), L.Conv3D(2, 2, **F)]),
}


# These have all rules. Rules and layers meet in a linear map and its kernel only, so the others have those rules that
# ask for all of these: the map as it is, two kernels, both signs of inputs and kernel, bounds, squares and ones.
WITH_ALL_RULES = ("Dense", "Conv2D with strides", "Conv2D and norm", "padding and Conv2D")
FEW_RULES = ("epsilon", "gamma", "alpha2_beta1", "z_box of channels", "w_square with bias", "flat")
SHORTER_IF_POSITIVE = ("gamma", "alpha2_beta1")  # rules that compute less of inputs that are 0 or more
OF_GROUPS = ("gamma", "flat")  # Keras compiles a convolution in groups again at each call


def some_rules(name, positive):
    if name in WITH_ALL_RULES:
        return rules_for((1,))
    few = OF_GROUPS if "groups" in name else FEW_RULES
    return [rule for rule in few if rule in SHORTER_IF_POSITIVE] if positive else few


@pytest.mark.parametrize("name", LAYERS)
def test_each_rule_is_a_sum_over_the_jacobian(name):
    shape, build = LAYERS[name]
    model = chain(shape, *build(), L.Flatten(**F))
    (W, b), x = kernel_and_bias(model), noise(*shape)
    behind_relu = keras.Model(y := keras.Input(shape, **F), model(L.ReLU(**F)(y)))
    for network_, a in ((Switch(model), x), (Switch(behind_relu), plus(x))):
        z = W @ a.ravel() + b
        assert np.allclose(network_.model(x[None]).numpy()[0], z, atol=1e-12)
        for rule_name in some_rules(name, positive=a is not x):
            low, high = bounds_of(rule_name, shape)
            low = low if a is x else plus(low)  # a ReLU takes the bounds of pixels along
            expected = relevance_of_units(rule_name, W, b, a.ravel(), z, low, high)
            error = np.abs(network_.relevance(x, rules_for(shape)[rule_name]) - expected).max()
            assert error < 1e-10 * max(1, np.abs(expected).max()), (rule_name, error)


@pytest.mark.parametrize("name", ["Dense", "Conv2D with strides", "Conv2DTranspose and norm", "padding and Conv2D"])
def test_lrp_is_a_sum_over_the_jacobian(name):
    shape, build = LAYERS[name]
    model = chain(shape, *build(), L.Flatten(**F))
    (W, b), x = kernel_and_bias(model), noise(*shape)
    for rule_name in ("epsilon", "gamma", "alpha2_beta1", "z_box of channels"):
        table = {Linear: rules_for(shape)[rule_name]} | EPSILON
        expected = relevance_of_units(rule_name, W, b, x.ravel(), W @ x.ravel() + b, *bounds_of(rule_name, shape))
        ours = lrp(model, np.repeat(x[None], len(b), 0), np.arange(len(b)), table).reshape(expected.shape)
        assert relative_error(ours, expected) < 1e-10


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("shape", "layer"),
    [((7, 2), lambda **how: L.SeparableConv1D(3, 3, **how)), ((5, 4, 2), lambda **how: L.SeparableConv2D(3, 2, **how))],
    ids=["SeparableConv1D", "SeparableConv2D"],
)
@pytest.mark.parametrize("normalized", [False, True])
def test_separable_convolutions_are_two_linear_parts(shape, layer, bias, normalized):
    separable = layer(depth_multiplier=2, strides=2, padding="same", use_bias=bias, **F)
    after = [norm()] if normalized else []
    model = chain(shape, separable, *after, L.Flatten(**F))
    conv, depthwise = (L.Conv1D, L.DepthwiseConv1D) if len(shape) == 2 else (L.Conv2D, L.DepthwiseConv2D)
    one = depthwise(separable.kernel_size, depth_multiplier=2, strides=2, padding="same", use_bias=False, **F)
    two = conv(3, 1, use_bias=bias, **F)
    twice = chain(shape, one, two, *([norm()] if normalized else []), L.Flatten(**F))
    twice.set_weights(model.get_weights())
    first = keras.Model(twice.inputs[0], L.Flatten(**F)(one.output))
    second = keras.Model(one.output, twice.outputs[0])
    x = noise(*shape)
    (W1, b1), (W2, b2), a = kernel_and_bias(first), kernel_and_bias(second), x.ravel()
    hidden, switch = kernel_and_bias(first)[0] @ a, Switch(model)
    for rule_name in ("epsilon", "gamma", "alpha2_beta1", "z_plus", "w_square", "flat"):
        upper = relevance_of_units(rule_name, W2, b2, hidden, W2 @ hidden + b2)
        expected = np.stack([relevance_of_units(rule_name, W1, b1, a, R).sum(0) for R in upper])
        ours = switch.relevance(x, rules_for(shape)[rule_name])
        assert relative_error(ours, expected) < 1e-10, rule_name
