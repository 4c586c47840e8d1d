"""Backward rules against plain sums over each layer's Jacobian in float64, and the axioms that they promise."""

import collections
import functools
import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L
from keras import ops

from utils import attributions, network, rules
from utils.attributions import deep_taylor, deeplift, lrp
from utils.composites import ALPHA1_BETA0, ALPHA2_BETA1, DEEP_TAYLOR_UNBOUNDED, EPSILON, EPSILON_PLUS, FIRST, NAMED
from utils.parts import Affine, Linear, Mixing
from utils.relevance import relevance_ledger
from utils.surgery import with_rules

F = {"dtype": "float64"}
EPS = 1e-6
NORMAL = {"bias_initializer": "normal"}
BACKWARD = ("lrp", "deep_taylor", "deeplift", "deconvolution", "guided_backprop")


def noise(*shape, seed=1):
    """Numbers of both signs."""
    return np.random.default_rng(seed).standard_normal(shape)


def pixels(*shape, seed=1):
    """Numbers from 0 to 1."""
    return np.random.default_rng(seed).random(shape)


def randomize(model, seed=0):
    """Random weights, biases and statistics, variances from 0.5 to 1.5; returns the model."""
    generator = np.random.default_rng(seed)
    for weight in model.weights:
        value = generator.standard_normal(weight.shape) / np.sqrt(max(1, np.prod(weight.shape[:-1])))
        if weight.name in ("moving_variance", "gamma"):
            value = 0.5 + generator.random(weight.shape)
        elif len(weight.shape) == 1:
            value = 0.3 * generator.standard_normal(weight.shape)
        weight.assign(value)
    return model


def chain(shape, *chained, seed=0):
    """A functional model of a chain of layers, with random weights, in float64."""
    x = y = keras.Input(shape, **F)
    for layer in chained:
        y = layer(y)
    return randomize(keras.Model(x, y), seed)


def dense(units, activation=None, **how):
    return L.Dense(units, activation=activation, **F, **how)


def jacobian(model, x):
    """d model / d x at `x` `[1, ...]` as a matrix `[out, in]`."""
    size = model.outputs[0].shape[1]
    x = tf.repeat(tf.constant(x), size, 0)  # the gradient of each output at a copy of its own
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = model(x)
    return tape.gradient(y, x, tf.eye(size, dtype=y.dtype)).numpy().reshape(size, -1)


def kernel_and_bias(model):
    """An affine model as `[out, in]` and `[out]`."""
    nothing = np.zeros((1, *model.inputs[0].shape[1:]))
    return jacobian(model, nothing), model(nothing).numpy().ravel()


# --- the oracle: each rule as a sum over the contributions of one unit; R_k = z_k, as at an output that is explained


def plus(x):
    return np.maximum(x, 0)


def minus(x):
    return np.minimum(x, 0)


def stable(z, eps=EPS):
    return z + np.where(z >= 0, eps, -eps)


def share(C, b, R, eps=EPS):
    return C / stable(C.sum(1) + b, eps)[:, None] * R[:, None]


def oracle(name, W, b, a, R, low=None, high=None):
    """What goes to each input, `[out, in]`, of the relevance `R` of each unit by itself; `a` is `[in]`."""
    C, z, none = W * a, (W * a).sum(1) + b, np.zeros_like(b)
    if name.startswith("z_box"):
        return share(C - low * plus(W) - high * minus(W), none, R)
    if name == "gamma":
        up = share(C + 0.25 * plus(C), b + 0.25 * plus(b), np.where(z > 0, R, 0))
        return up + share(C + 0.25 * minus(C), b + 0.25 * minus(b), np.where(z < 0, R, 0))
    if name == "alpha2_beta1":
        return share(plus(C), plus(b), 2 * R) - share(minus(C), minus(b), R)
    seen = (W != 0).astype(float)
    return {
        "epsilon": lambda: share(C, b, R),
        "epsilon 0.3": lambda: share(C, b, R, 0.3),
        "epsilon without bias": lambda: share(C, none, R),
        "alpha1_beta0": lambda: share(plus(C), plus(b), R),
        "alpha1_beta0 without bias": lambda: share(plus(C), none, R),
        "z_plus": lambda: share(plus(C), none, R),
        "z_plus with bias": lambda: share(plus(C), plus(b), R),
        "w_square": lambda: share(W**2, none, R),
        "w_square with bias": lambda: share(W**2, b**2, R),
        "flat": lambda: share(seen, none, R),
    }[name]()


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


def norm():
    return L.BatchNormalization(**F)


LAYERS = {
    "Dense": ((7,), lambda: [dense(5)]),
    "Dense without bias": ((7,), lambda: [dense(5, use_bias=False)]),
    "Dense over an axis": ((3, 4), lambda: [dense(3)]),
    "Conv1D": ((9, 2), lambda: [L.Conv1D(3, 3, strides=2, padding="same", **F)]),
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


class Switch:
    """A composite whose rule for linear parts can be exchanged: a model is rebuilt once for all rules."""

    def __init__(self, model):
        self.rule = None
        self.model = with_rules(model, {Linear: lambda *arguments: self.rule(*arguments)} | EPSILON)

    def relevance(self, x, rule):
        """The relevance of the inputs for each output by itself, `[out, in]`; `x` is one image."""
        self.rule = rule
        x = tf.repeat(tf.constant(x[None]), self.model.outputs[0].shape[1], 0)
        with tf.GradientTape() as tape:
            tape.watch(x)
            scores = self.model(x)
        R = tape.gradient(scores, x, tf.linalg.diag(tf.linalg.diag_part(scores)))
        return R.numpy().reshape(len(x), -1)


@pytest.mark.parametrize("name", LAYERS)
def test_each_rule_is_a_sum_over_the_jacobian(name):
    shape, build = LAYERS[name]
    model = chain(shape, *build(), L.Flatten(**F))
    (W, b), x = kernel_and_bias(model), noise(*shape)
    behind_relu = keras.Model(y := keras.Input(shape, **F), model(L.ReLU(**F)(y)))
    for network_, a in ((Switch(model), x), (Switch(behind_relu), plus(x))):
        z = W @ a.ravel() + b
        assert np.allclose(network_.model(x[None]).numpy()[0], z, atol=1e-12)
        for rule_name, rule in rules_for(shape).items():
            if "groups" in name and rule_name not in ("gamma", "z_box", "flat"):
                continue  # Keras compiles a convolution in groups again at each call
            expected = oracle(rule_name, W, b, a.ravel(), z, *bounds_of(rule_name, shape))
            error = np.abs(network_.relevance(x, rule) - expected).max()
            assert error < 1e-10 * max(1, np.abs(expected).max()), (rule_name, error)


@pytest.mark.parametrize("name", ["Dense", "Conv2D with strides", "Conv2DTranspose and norm", "padding and Conv2D"])
def test_lrp_is_a_sum_over_the_jacobian(name):
    shape, build = LAYERS[name]
    model = chain(shape, *build(), L.Flatten(**F))
    (W, b), x = kernel_and_bias(model), noise(*shape)
    for rule_name in ("epsilon", "gamma", "alpha2_beta1", "z_box of channels"):
        table = {Linear: rules_for(shape)[rule_name]} | EPSILON
        expected = oracle(rule_name, W, b, x.ravel(), W @ x.ravel() + b, *bounds_of(rule_name, shape))
        ours = lrp(model, np.repeat(x[None], len(b), 0), np.arange(len(b)), table).reshape(expected.shape)
        assert np.abs(ours - expected).max() < 1e-10 * max(1, np.abs(expected).max())


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
        upper = oracle(rule_name, W2, b2, hidden, W2 @ hidden + b2)
        expected = np.stack([oracle(rule_name, W1, b1, a, R).sum(0) for R in upper])
        ours = switch.relevance(x, rules_for(shape)[rule_name])
        assert np.abs(ours - expected).max() < 1e-10 * max(1, np.abs(expected).max()), rule_name


# --- all other parts, each as a whole model


def mixing(layer, halves=True):
    """A model that gives the two halves of its input to `layer`."""
    x = keras.Input((6, 2), **F)
    y = layer([x[:, :3], x[:, 3:]]) if halves else layer(x)
    return keras.Model(x, L.Flatten(**F)(y))


MIXING = {
    "Add": lambda: mixing(L.Add(**F)),
    "Subtract": lambda: mixing(L.Subtract(**F)),
    "Average": lambda: mixing(L.Average(**F)),
    "AveragePooling1D": lambda: mixing(L.AveragePooling1D(3, 2, padding="same", **F), False),
    "GlobalAveragePooling1D": lambda: mixing(L.GlobalAveragePooling1D(**F), False),
    "AveragePooling2D": lambda: chain((5, 4, 2), L.AveragePooling2D((2, 3), 1, **F), L.Flatten(**F)),
    "AveragePooling2D same": lambda: chain((5, 4, 2), L.AveragePooling2D(3, padding="same", **F), L.Flatten(**F)),
    "GlobalAveragePooling2D": lambda: chain((3, 3, 2), L.GlobalAveragePooling2D(**F)),
    "GlobalAveragePooling3D": lambda: chain((3, 2, 3, 2), L.GlobalAveragePooling3D(**F)),
    "an inner norm": lambda: chain((3, 2), norm(), L.Flatten(**F)),
    "ops.add": lambda: mixing(lambda xs: xs[0] + xs[1]),
    "ops.subtract": lambda: mixing(lambda xs: xs[0] - xs[1]),
    "ops.mean": lambda: mixing(lambda x: ops.mean(x, 1), False),
    "ops.sum": lambda: mixing(lambda x: ops.sum(x, 2), False),
    # each value twice: a layer that receives the same tensor twice must not hand everything down twice
    "Add of the same": lambda: mixing(lambda x: L.Add(**F)([x, x]), False),
    "Average of the same": lambda: mixing(lambda x: L.Average(**F)([x, x, x]), False),
}


@pytest.mark.parametrize("name", MIXING)
def test_sums_and_averages_share_by_contribution(name):
    model = MIXING[name]()
    if name == "an inner norm":
        assert {type(layer.part) for layer in with_rules(model, EPSILON).layers[1:2]} == {Affine}
    (W, b), x = kernel_and_bias(model), noise(*model.inputs[0].shape[1:])
    expected = oracle("epsilon", W, b, x.ravel(), W @ x.ravel() + b)
    ours = lrp(model, np.repeat(x[None], len(b), 0), np.arange(len(b)), EPSILON).reshape(expected.shape)
    assert np.abs(ours - expected).max() < 1e-10


MOVING = {
    "Flatten": ((3, 2), lambda: L.Flatten(**F)),
    "Reshape": ((6, 2), lambda: L.Reshape((3, 4), **F)),
    "Permute": ((3, 2, 2), lambda: L.Permute((3, 1, 2), **F)),
    "RepeatVector": ((4,), lambda: L.RepeatVector(3, **F)),
    "Cropping1D": ((6, 2), lambda: L.Cropping1D((1, 2), **F)),
    "Cropping2D": ((4, 5, 2), lambda: L.Cropping2D(1, **F)),
    "Cropping3D": ((3, 4, 3, 1), lambda: L.Cropping3D(1, **F)),
    "UpSampling1D": ((3, 2), lambda: L.UpSampling1D(2, **F)),
    "UpSampling2D": ((2, 3, 2), lambda: L.UpSampling2D((2, 1), **F)),
    "UpSampling3D": ((2, 2, 1, 2), lambda: L.UpSampling3D(2, **F)),
    "ZeroPadding2D": ((2, 2, 2), lambda: L.ZeroPadding2D(1, **F)),
    "Dropout": ((5,), lambda: L.Dropout(0.5, **F)),
    "SpatialDropout2D": ((3, 3, 2), lambda: L.SpatialDropout2D(0.5, **F)),
    "GaussianNoise": ((5,), lambda: L.GaussianNoise(1.0, **F)),
    "Identity": ((5,), lambda: L.Identity(**F)),
    "MaxPooling1D": ((7, 2), lambda: L.MaxPooling1D(2, **F)),
    "MaxPooling2D": ((5, 4, 2), lambda: L.MaxPooling2D(3, 2, padding="same", **F)),
    "GlobalMaxPooling1D": ((5, 3), lambda: L.GlobalMaxPooling1D(**F)),
    "GlobalMaxPooling2D": ((3, 4, 2), lambda: L.GlobalMaxPooling2D(**F)),
}


@pytest.mark.parametrize("name", MOVING)
def test_what_moves_values_moves_relevance_with_them(name):
    shape, build = MOVING[name]
    model = chain(shape, build(), L.Flatten(**F))
    x = noise(*shape)
    scores, came_from = model(x[None]).numpy().ravel(), jacobian(model, x[None])  # ones and zeros
    assert set(np.unique(came_from)) <= {0, 1} and came_from.sum(1).max() == 1
    ours = lrp(model, np.repeat(x[None], len(scores), 0), np.arange(len(scores)), EPSILON)
    assert np.abs(ours.reshape(came_from.shape) - came_from * scores[:, None]).max() < 1e-10


def test_concatenation_moves_values():
    model, x = mixing(L.Concatenate(**F)), noise(1, 6, 2)
    scores, came_from = model(x).numpy().ravel(), jacobian(model, x)
    ours = lrp(model, np.repeat(x, 12, 0), np.arange(12), EPSILON).reshape(12, 12)
    assert np.abs(ours - came_from * scores[:, None]).max() < 1e-14


def test_pooling_of_volumes():
    x, volume = np.random.default_rng(0).random((1, 4, 2, 4, 2), "float32"), keras.Input((4, 2, 4, 2))
    for pool, name in ((L.AveragePooling3D(2), "average"), (L.MaxPooling3D(2), "max")):  # float32 alone on a CPU
        model = keras.Model(volume, L.Flatten()(pool(volume)))
        W, scores = jacobian(model, x), model(x).numpy().ravel()
        ours = lrp(model, np.repeat(x, 8, 0), np.arange(8), EPSILON).reshape(W.shape)
        expected = oracle("epsilon", W, 0 * scores, x.ravel(), scores) if name == "average" else W * scores[:, None]
        assert np.abs(ours - expected).max() < 1e-5


def test_interpolated_upsampling_shares_by_contribution():
    # each output of a bilinear interpolation is a mean of several inputs, so gradients alone would leave f(x) at R
    model = chain((3, 3, 2), L.UpSampling2D(2, interpolation="bilinear", **F), L.Flatten(**F))
    (W, b), x = kernel_and_bias(model), noise(3, 3, 2)
    ours = lrp(model, np.repeat(x[None], len(b), 0), np.arange(len(b)), EPSILON).reshape(W.shape)
    assert (
        np.abs(ours - oracle("epsilon", W, b, x.ravel(), W @ x.ravel())).max() < 1e-6
    )  # TensorFlow interpolates in float32


def test_of_a_maximum_the_winner_takes_all():
    model, x = mixing(L.Maximum(**F)), noise(1, 6, 2)
    scores, came_from = model(x).numpy().ravel(), jacobian(model, x)
    ours = lrp(model, np.repeat(x, 6, 0), np.arange(6), EPSILON).reshape(6, 12)
    assert np.abs(ours - came_from * scores[:, None]).max() < 1e-10


def test_in_a_product_the_signal_takes_all():
    model, x = mixing(L.Multiply(**F)), noise(1, 6, 2)
    ours = lrp(model, np.repeat(x, 6, 0), np.arange(6), EPSILON).reshape(6, 12)
    assert np.abs(ours - np.hstack([np.diag(model(x).numpy().ravel()), np.zeros((6, 6))])).max() < 1e-10


ACTIVATIONS = {
    "relu": lambda: L.ReLU(**F),
    "relu6": lambda: L.ReLU(6.0, **F),
    "LeakyReLU": lambda: L.LeakyReLU(0.2, **F),
    "ELU": lambda: L.ELU(**F),
    "PReLU": lambda: L.PReLU(**F),
    "gelu": lambda: L.Activation("gelu", **F),
    "silu": lambda: L.Activation("silu", **F),
    "tanh": lambda: L.Activation("tanh", **F),
    "sigmoid": lambda: L.Activation("sigmoid", **F),
    "linear": lambda: L.Activation("linear", **F),
    "a layer as activation": lambda: L.Activation(L.LeakyReLU(0.2, **F), **F),
    "LayerNormalization": lambda: L.LayerNormalization(**F),
    "Rescaling": lambda: L.Rescaling(2.0, -0.3, **F),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_let_relevance_through(name):
    model = chain((5,), ACTIVATIONS[name](), dense(3))
    x = noise(1, 5)
    hidden = model.layers[1](x).numpy()[0]
    W, b = model.layers[-1].kernel.numpy().T, model.layers[-1].bias.numpy()
    ours = lrp(model, np.repeat(x, 3, 0), np.arange(3), EPSILON)
    assert np.abs(ours - oracle("epsilon", W, b, hidden, W @ hidden + b)).max() < 1e-10


def test_negative_constants_are_not_taken_for_activations_of_a_relu():
    for shifted in (
        lambda h: h + (-0.7),
        lambda h: ops.pad(h, ((0, 0), (1, 1)), constant_values=-1.0),
        lambda h: ops.concatenate([h, -ops.ones((1, 2), "float64") * ops.ones_like(h[:, :2])], 1),
    ):
        x = keras.Input((6,), **F)
        try:
            below = shifted(L.ReLU(**F)(dense(5)(x)))
            model = randomize(keras.Model(x, dense(3)(below)))
            points = noise(1, 6)
            hidden = keras.Model(x, below)(points).numpy()
            ours = lrp(model, points, 0, ALPHA2_BETA1, layer=below._keras_history.operation.name)
        except ValueError as error:
            assert "no backward rule" in str(error)  # refused: as right as an answer
            continue
        W, b = model.layers[-1].kernel.numpy().T, model.layers[-1].bias.numpy()
        expected = oracle("alpha2_beta1", W, b, hidden[0], W @ hidden[0] + b)[:1]
        assert np.abs(ours - expected).max() < 1e-10


# --- rules of gradients


def test_guided_and_deconvolution_are_loops_over_two_relus():
    model = chain((6,), dense(8, "relu"), dense(7), L.ReLU(**F), dense(3))
    x = noise(4, 6)
    (W1, b1), (W2, b2), (W3, _) = ([w.numpy() for w in layer.weights] for layer in model.layers if layer.weights)
    h1 = x @ W1 + b1
    h2 = plus(h1) @ W2 + b2
    for name, gate in (("guided_backprop", lambda h: h > 0), ("deconvolution", lambda h: 1.0)):
        g = gate(h2) * plus(W3[:, 1])
        g = gate(h1) * plus(g @ W2.T)
        assert np.abs(attributions.METHODS[name](model, x, 1) - g @ W1.T).max() < 1e-12


def test_guided_leaves_other_activations_alone():
    model, x = chain((6,), dense(8, "tanh"), dense(7, "elu"), dense(3)), noise(4, 6)
    for method in (attributions.guided_backprop, attributions.deconvolution):
        assert np.abs(method(model, x, 1) - attributions.gradient(model, x, 1)).max() < 1e-14


def test_guided_passes_a_relu6_only_between_its_ends():
    model = chain((4,), L.ReLU(6.0, **F), dense(1))
    model.layers[-1].kernel.assign([[1.0], [-1.0], [2.0], [3.0]])
    x = np.array([[1.0, 2.0, -1.0, 7.0]])
    assert np.array_equal(attributions.guided_backprop(model, x, 0), [[1, 0, 0, 0]])
    assert np.array_equal(attributions.deconvolution(model, x, 0), [[1, 0, 2, 3]])


# --- networks


def plain_net(bias=True, pool=L.MaxPooling2D, seed=0):
    """A convolutional network with BatchNormalization and a fused and a separate ReLU; `[n, 8, 7, 2]` -> `[n, 4]`."""
    return chain(
        (8, 7, 2),
        L.Conv2D(5, 3, activation="relu", use_bias=bias, name="conv", **F),
        pool(2, name="pool", **F),
        L.Conv2D(6, 2, padding="same", use_bias=bias, name="conv2", **F),
        *([L.BatchNormalization(name="norm", **F)] if bias else []),
        L.ReLU(name="relu", **F),
        L.Flatten(name="flat", **F),
        dense(6, "relu", use_bias=bias, name="hidden"),
        dense(4, use_bias=bias, name="scores"),
        seed=seed,
    )


def residual_net(seed=0):
    x = keras.Input((6, 6, 2), **F)
    y = L.Conv2D(4, 3, padding="same", activation="relu", **F)(x)
    z = L.BatchNormalization(**F)(L.Conv2D(4, 3, padding="same", **F)(y))
    y = L.ReLU(**F)(L.Add(**F)([y, z]))
    y = L.Concatenate(**F)([y, L.AveragePooling2D(3, 1, padding="same", **F)(y)])
    gate = L.Reshape((1, 1, 8), **F)(dense(8, "sigmoid")(L.GlobalAveragePooling2D(**F)(y)))
    y = L.GlobalAveragePooling2D(**F)(L.Multiply(**F)([y, gate]))
    return randomize(keras.Model(x, dense(3)(y)), seed)


@functools.cache
def net_of(name):
    """A network of DIFFERENCES and the shape of its input; one for all tests, so that less is compiled."""
    build, shape = DIFFERENCES[name]
    return build(), shape


NETS = {
    "plain": (plain_net, (8, 7, 2)),
    "average": (lambda: plain_net(pool=L.AveragePooling2D), (8, 7, 2)),
    "no biases": (lambda: plain_net(False), (8, 7, 2)),
    "residual": (residual_net, (6, 6, 2)),
}


@pytest.mark.parametrize(
    ("net", "composite"),
    [("plain", composite) for composite in NAMED]
    + [("residual", composite) for composite in ("EPSILON", "EPSILON_GAMMA_BOX", "ALPHA2_BETA1", "DEEP_TAYLOR")],
)
def test_the_ledger_sums(net, composite):
    model, shape = net_of(net)
    x = np.random.default_rng(3).random((3, *shape))
    table = relevance_ledger(model, x, 1, composite)
    for row in table:
        total = row.inputs + row.bias + row.stabiliser
        assert np.abs(total - row.incoming).max() < 1e-10 * max(1, np.abs(row.incoming).max()), row.layer
    assert np.allclose(table[0].incoming, model(x).numpy()[:, 1], atol=1e-12)
    R = lrp(model, x, 1, composite).reshape(3, -1).sum(1)
    if net != "residual":  # on a chain, each part receives what the part above it sent down
        for upper, lower in zip(table, table[1:]):
            assert np.abs(upper.inputs - lower.incoming).max() < 1e-10 * max(1, np.abs(upper.inputs).max())
        assert np.abs(table[-1].inputs - R).max() < 1e-9 * max(1, np.abs(R).max())
    taken = sum(row.bias + row.stabiliser for row in table)
    assert np.abs(R + taken - table[0].incoming).max() < 1e-9 * max(1, np.abs(taken).max())


def test_the_ledgers_bias_is_the_share_of_the_bias():
    model, x = chain((7,), dense(6, "relu", name="one"), dense(4, name="two")), noise(5, 7)
    table = {(row.layer, row.kind): row for row in relevance_ledger(model, x, 2, EPSILON)}
    (W1, b1), (W2, b2) = ([w.numpy() for w in layer.weights] for layer in model.layers[1:])
    h = x @ W1 + b1
    z = plus(h) @ W2 + b2
    s2 = z[:, 2] / stable(z[:, 2])
    R1 = plus(h) * W2[:, 2] * s2[:, None]
    s1 = R1 / stable(h)
    assert np.abs(table["two", "Linear"].bias - b2[2] * s2).max() < 1e-12
    assert np.abs(table["one", "Linear"].bias - (s1 * b1).sum(1)).max() < 1e-12
    assert np.abs(table["two", "Linear"].stabiliser - EPS * np.sign(z[:, 2]) * s2).max() < 1e-12
    assert np.abs(table["one", "Linear"].stabiliser - (EPS * np.sign(h) * s1).sum(1)).max() < 1e-12
    assert np.abs(table["one", "ReLU"].bias).max() < 1e-15


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


def test_alpha1_beta0_hands_a_norm_by_itself_all_that_comes():
    # one input for each output: there is nothing to choose between, so relevance stays but for the shift's share
    model, x = chain((6,), norm(), dense(3)), noise(4, 6)
    affine, one = (relevance_ledger(model, x, 1, table)[1] for table in (ALPHA1_BETA0, DEEP_TAYLOR_UNBOUNDED))
    assert affine.kind == one.kind == "Affine"
    scale = model.layers[1].gamma.numpy() / np.sqrt(model.layers[1].moving_variance.numpy() + 1e-3)
    shift = model.layers[1].beta.numpy() - model.layers[1].moving_mean.numpy() * scale
    above = np.zeros((4, 6))
    W, b = model.layers[2].kernel.numpy().T, model.layers[2].bias.numpy()
    for k, image in enumerate(x * scale + shift):
        above[k] = oracle("alpha1_beta0", W, b, image, W @ image + b)[1]
    expected = (above * (scale * x) / stable(scale * x + shift)).sum(1)
    assert np.abs(affine.inputs - expected).max() < 1e-10 * np.abs(expected).max()


def rescaled_net(by_operations):
    x = y = keras.Input((8, 7, 2), **F)
    y = y * 2.0 - 1.0 if by_operations else L.Rescaling(2.0, -1.0, **F)(y)
    y = (0.5 + y) / 4.0 if by_operations else L.Rescaling(0.25, 0.125, **F)(y)
    y = L.Conv2D(5, 3, activation="relu", **F)(y)
    return randomize(keras.Model(x, dense(4)(L.Flatten(**F)(y))))


@pytest.mark.parametrize("composite", [name for name in NAMED if name not in ("EPSILON_GAMMA_BOX", "DEEP_TAYLOR")])
def test_pixels_rescaled_by_operations_are_as_by_a_layer(composite):
    x = np.random.default_rng(0).random((3, 8, 7, 2))
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


def test_an_equal_table_is_compiled_once():
    model, x = plain_net(), pixels(3, 8, 7, 2)
    for low in (np.zeros(2), np.zeros(2)):
        lrp(model, x, 1, {FIRST: rules.z_box(low, np.ones(2))} | EPSILON)
        lrp(model, x, 1, {Linear: rules.gamma(0.3)} | EPSILON)
    assert len(network.network_of(model).compiled) == 2
    lrp(model, x, 1, {FIRST: rules.z_box(np.ones(2) - 2, np.ones(2))} | EPSILON)
    assert len(network.network_of(model).compiled) == 3


def test_a_table_decides_by_position_name_and_type():
    model, x = plain_net(), np.random.default_rng(0).random((2, 8, 7, 2))
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


# --- deep Taylor


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (None, None), (-0.5, np.array([1.0, 2.0]))])
@pytest.mark.parametrize("net", ["plain", "average", "no biases"])
def test_deep_taylor_is_never_negative_on_chains(net, bounds):
    model, x = net_of(net)[0], np.random.default_rng(5).random((20, 8, 7, 2))
    target = model(x).numpy().argmax(1)
    positive = model(x).numpy().max(1) > 0
    R = deep_taylor(model, x, target, *bounds)[positive]
    assert positive.sum() > 5 and R.min() > -1e-12


def test_deep_taylor_takes_the_bounds_that_it_is_given():
    model, x = chain((6,), dense(4)), np.random.default_rng(0).random(6)
    (W, b), low, high = kernel_and_bias(model), -0.3 - np.arange(6), np.full(6, 1.7)
    for bounds in ((low, high), (-0.3, 1.7), (None, None)):
        name = "w_square" if bounds[0] is None else "z_box"
        expected = oracle(name, W, b, x, W @ x + b, *bounds)
        assert np.abs(deep_taylor(model, np.repeat(x[None], 4, 0), np.arange(4), *bounds) - expected).max() < 1e-10


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
    layer, x = dense(4), np.random.default_rng(0).random((6, 5))
    rescaled = chain((5,), L.Rescaling(2.0, -1.0, **F), layer)
    bare = keras.Model(y := keras.Input((5,), **F), layer(y))
    expected = deep_taylor(bare, 2 * x - 1, 0, -1.0, 1.0)
    try:
        ours = deep_taylor(rescaled, x, 0, 0.0, 1.0)
    except ValueError as error:
        assert rescaled.layers[1].name in str(error)  # refused by name: as right as an answer
    else:
        assert np.abs(ours - expected).max() < 1e-10


# --- DeepLIFT


def product_net():
    x = keras.Input((5,), **F)
    return randomize(keras.Model(x, dense(3)(L.Multiply(**F)([dense(6, "relu")(x), dense(6, "sigmoid")(x)]))))


def maximum_net():
    x = keras.Input((5,), **F)
    return randomize(keras.Model(x, dense(3)(L.Maximum(**F)([dense(6, "elu")(x), dense(6, "relu")(x)]))))


def squared_net():
    x = keras.Input((5,), **F)
    hidden = dense(6, "tanh")(x)
    return randomize(keras.Model(x, dense(3)(L.Multiply(**F)([hidden, hidden]))))


def three_factors():
    x = keras.Input((5,), **F)
    factors = [dense(6, "relu")(x), dense(6, "sigmoid")(x), dense(6, "tanh")(x)]
    return randomize(keras.Model(x, dense(3)(L.Multiply(**F)(factors))))


def overlapping_net():
    return chain((6, 6, 2), L.Conv2D(3, 3, activation="relu", **F), L.MaxPooling2D(3, 1, **F), L.Flatten(**F), dense(3))


def one_channel_max_net():
    return chain((6, 6, 2), L.Conv2D(3, 3, **F), L.GlobalMaxPooling2D(**F), L.PReLU(**F), dense(3))


DIFFERENCES = {
    **NETS,
    "product": (product_net, (5,)),
    "maximum": (maximum_net, (5,)),
    "a square": (squared_net, (5,)),
    "three factors": (three_factors, (5,)),
    "overlapping windows": (overlapping_net, (6, 6, 2)),
    "global maximum": (one_channel_max_net, (6, 6, 2)),
}


@pytest.mark.parametrize(
    ("net", "baseline"), [*((net, "each") for net in DIFFERENCES), ("plain", "zeros"), ("product", "zeros")]
)
@pytest.mark.parametrize("rule", ["rescale", "reveal_cancel"])
def test_deeplift_sums_to_the_difference(net, rule, baseline):
    model, shape = net_of(net)
    x = noise(6, *shape)
    reference = {"zeros": None, "each": noise(6, *shape, seed=8)}[baseline]
    R, error = deeplift(model, x, 1, reference, rule, return_completeness_error=True)
    start = np.broadcast_to(0.0 if reference is None else reference, x.shape)
    gain = (model(x) - model(start)).numpy()[:, 1]
    assert np.abs(R.reshape(6, -1).sum(1) - gain).max() < 1e-9 * max(1, np.abs(gain).max())
    assert np.abs(error).max() < 1e-9 * max(1, np.abs(gain).max())


def test_one_reference_for_all_is_the_same_one_for_each():
    model, x, one = plain_net(), noise(7, 8, 7, 2), noise(8, 7, 2, seed=9)
    for rule in ("rescale", "reveal_cancel"):
        full = deeplift(model, x, 1, np.repeat(one[None], 7, 0), rule)
        for baseline in (one, one[None]):
            assert np.abs(deeplift(model, x, 1, baseline, rule) - full).max() < 1e-12
    assert np.abs(deeplift(model, x, 1, 0.5) - deeplift(model, x, 1, np.full_like(x, 0.5))).max() < 1e-12


def test_rescale_is_difference_over_difference():
    model, x, ref = chain((5,), dense(6, "relu"), dense(4, "tanh"), dense(3)), noise(4, 5), noise(4, 5, seed=2)
    (W1, b1), (W2, b2), (W3, _) = ([w.numpy() for w in layer.weights] for layer in model.layers[1:])
    h, h_ref = x @ W1 + b1, ref @ W1 + b1
    g, g_ref = plus(h) @ W2 + b2, plus(h_ref) @ W2 + b2
    m = (np.tanh(g) - np.tanh(g_ref)) / (g - g_ref) * W3[:, 2]
    m = (plus(h) - plus(h_ref)) / (h - h_ref) * (m @ W2.T)
    assert np.abs(deeplift(model, x, 2, ref) - (x - ref) * (m @ W1.T)).max() < 1e-12


def test_without_a_difference_deeplift_has_the_gradients_multiplier_and_no_relevance():
    model, x = plain_net(), noise(3, 8, 7, 2)
    for rule in ("rescale", "reveal_cancel"):
        assert np.array_equal(deeplift(model, x, 1, x, rule), np.zeros_like(x))
        near = deeplift(model, x, 1, x - 1e-9, rule)
        assert np.abs(near - 1e-9 * attributions.gradient(model, x, 1)).max() < 1e-14


def minimum():
    """min(x1, x2) for x1, x2 > 0, as in the paper: x1 - relu(x1 - x2)."""
    x = keras.Input((2,), **F)
    first, gap, last = dense(1, use_bias=False), dense(1, "relu", use_bias=False), dense(1, use_bias=False)
    model = keras.Model(x, last(L.Concatenate(**F)([first(x), gap(x)])))
    first.kernel.assign([[1.0], [0.0]])
    gap.kernel.assign([[1.0], [-1.0]])
    last.kernel.assign([[1.0], [-1.0]])
    return model


@pytest.mark.parametrize("x", [(2.0, 1.0), (1.0, 2.0), (3.0, 0.5)])
def test_the_papers_minimum(x):
    x, least = np.array([x]), min(x)
    taken = [[0, least]] if x[0, 1] < x[0, 0] else [[least, 0]]
    assert np.allclose(deeplift(minimum(), x, 0), taken, atol=1e-12)
    assert np.allclose(deeplift(minimum(), x, 0, rule="reveal_cancel"), [[least / 2, least / 2]], atol=1e-12)


def test_reveal_cancel_is_a_loop_over_units():
    model, x, ref = chain((5,), dense(6, "relu"), dense(3)), noise(4, 5), noise(4, 5, seed=2)
    (W1, b1), (W2, _) = ([w.numpy() for w in layer.weights] for layer in model.layers[1:])
    expected = np.zeros_like(x)
    for n in range(4):
        for k in range(6):
            C, z = (x[n] - ref[n]) * W1[:, k], ref[n] @ W1[:, k] + b1[k]
            up, down = plus(C).sum(), minus(C).sum()
            more = (plus(z + up) - plus(z) + plus(z + up + down) - plus(z + down)) / 2
            less = (plus(z + down) - plus(z) + plus(z + up + down) - plus(z + up)) / 2
            m = np.where(C > 0, more / up if up else 0, less / down if down else 0)
            expected[n] += C * m * W2[k, 1]
    assert np.abs(deeplift(model, x, 1, ref, "reveal_cancel") - expected).max() < 1e-12


# --- the same function in another dress

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
    assert np.abs(METHODS[name](model, x) - expected).max() < 1e-10 * max(1, np.abs(expected).max())


def test_a_norm_over_another_axis():
    norm_, top = L.BatchNormalization(axis=1, **F), [L.ReLU(**F), L.Flatten(**F), dense(3)]
    model = chain((4, 4, 3), L.Conv2D(4, 1, **F), norm_, *top)
    turn = [L.Permute((3, 2, 1), **F), norm(), L.Permute((3, 2, 1), **F)]
    turned = chain((4, 4, 3), L.Conv2D(4, 1, **F), *turn, L.ReLU(**F), L.Flatten(**F), dense(3))
    turned.set_weights(model.get_weights())
    x = noise(3, 4, 4, 3)
    assert np.allclose(turned(x), model(x), atol=1e-12)
    try:
        rebuilt = with_rules(model, EPSILON)
    except ValueError as error:
        assert norm_.name in str(error)  # refused by name: as right as an answer
    else:
        assert np.allclose(rebuilt(x), model(x), atol=1e-12)
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
    assert np.abs(METHODS[name](one, x) - expected).max() < 1e-12 * max(1, np.abs(expected).max())


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


@pytest.mark.parametrize("name", BACKWARD)
def test_batches_of_1_7_and_64(name):
    method, model = attributions.METHODS[name], residual_net()
    x = np.random.default_rng(4).random((64, 6, 6, 2))
    whole = method(model, x, np.arange(64) % 3, batch_size=64)
    for size in (1, 7, None):
        assert np.abs(method(model, x, np.arange(64) % 3, batch_size=size) - whole).max() < 1e-12
    assert np.abs(method(model, x[5:6], 2) - whole[5:6]).max() < 1e-12


def test_batches_of_deeplift_with_references_of_their_own():
    model, x, ref = plain_net(), noise(64, 8, 7, 2), noise(64, 8, 7, 2, seed=3)
    for rule in ("rescale", "reveal_cancel"):
        whole = deeplift(model, x, 1, ref, rule, batch_size=64)
        for size in (1, 7):
            assert np.abs(deeplift(model, x, 1, ref, rule, batch_size=size) - whole).max() < 1e-12


# --- inner layers


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
    assert np.abs(ours - expected).max() < 1e-11 * max(1, np.abs(expected).max())


def test_relevance_of_an_inner_layer_of_a_nested_model():
    inner = keras.Sequential([keras.Input((8, 7, 2), **F), L.Conv2D(3, 3, activation="relu", name="deep", **F)])
    x = keras.Input((8, 7, 2), **F)
    model = randomize(keras.Model(x, dense(3)(L.Flatten(**F)(inner(x)))))
    images = noise(2, 8, 7, 2)
    upper = keras.Sequential([keras.Input((6, 5, 3), **F), L.Flatten(**F), model.layers[-1]])
    expected = lrp(upper, inner(images).numpy(), 1, EPSILON)
    assert np.abs(lrp(model, images, 1, EPSILON, layer="deep") - expected).max() < 1e-12


# --- nothing stays behind


def test_the_model_that_was_passed_is_untouched():
    model, x = residual_net(), np.random.default_rng(0).random((2, 6, 6, 2))
    model.compile("adam", "mse")
    for layer in model.layers[:4]:
        layer.trainable = False
    weights, config, output = model.get_weights(), model.to_json(), model(x).numpy()
    operations = list(model.operations)
    nodes = [(len(layer._inbound_nodes), len(layer._outbound_nodes)) for layer in operations]
    trainable, state = [layer.trainable for layer in model.layers], (model.compiled, model.optimizer, model.loss)
    for name in BACKWARD:
        attributions.METHODS[name](model, x)
    lrp(model, x, 0, "EPSILON_GAMMA_BOX")
    relevance_ledger(model, x, 0)
    lrp(model, x, layer=model.layers[1].name)
    assert all(np.array_equal(a, b) for a, b in zip(weights, model.get_weights()))
    assert model.to_json() == config and np.array_equal(model(x).numpy(), output)
    assert [layer.trainable for layer in model.layers] == trainable
    assert (model.compiled, model.optimizer, model.loss) == state
    now = [(len(layer._inbound_nodes), len(layer._outbound_nodes)) for layer in operations]
    assert now == nodes


def test_with_rules_shows_later_weights_and_names_its_layers():
    model, x = plain_net(), noise(2, 8, 7, 2)
    rebuilt = with_rules(model, EPSILON)
    assert {name for name, tensor in rebuilt.layer_outputs.items() if tensor is None} == {"conv2"}
    model.set_weights([0.9 * w for w in model.get_weights()])
    assert np.allclose(rebuilt(x), model(x), atol=1e-12)
    for name in ("conv", "norm", "hidden"):
        ours = keras.Model(rebuilt.inputs[0], rebuilt.layer_outputs[name])(x)
        theirs = keras.Model(model.inputs[0], model.get_layer(name).output)(x)
        assert np.allclose(ours, theirs, atol=1e-12)


def late_relu_net():
    """ReLUs behind a pooling, before padding, beside a sum that reads the same units, and one with a ceiling."""
    x = keras.Input((8, 7, 2), **F)
    y = L.ReLU(**F)(L.MaxPooling2D(2, **F)(L.Conv2D(5, 3, padding="same", **F)(x)))
    z = L.Conv2D(4, 3, **F)(L.ZeroPadding2D(1, **F)(y))
    y = L.Flatten(**F)(L.Add(**F)([z, L.ReLU(6.0, **F)(z)]))
    y = dense(6, "relu", name="upper")(dense(5)(y))
    return randomize(keras.Model(x, dense(4)(y)))


def spared(model, composite):
    """How many parts take the shorter way, in a model of which relevance begins at the scores."""
    rebuilt = with_rules(model, composite, from_scores=True)
    return sum(layer.part.only_active for layer in rebuilt.layers if hasattr(layer, "part"))


WHOLE_TABLES = dict(NAMED) | {
    "flat on top": {L.Dense: rules.flat()} | EPSILON,
    "w-square above": {"upper": rules.w_square(), "conv2": rules.w_square(), "hidden": rules.flat()} | EPSILON,
    "gamma without the bias": {Linear: rules.gamma(0.5, bias=False)} | EPSILON,
    "epsilon without the bias": {Linear: rules.epsilon(bias=False), Mixing: rules.epsilon(0.1)} | EPSILON,
    "gamma": {Linear: rules.gamma(0.5)} | EPSILON,
}


@pytest.mark.parametrize("composite", WHOLE_TABLES)
@pytest.mark.parametrize("build", [plain_net, residual_net, late_relu_net])
def test_relevance_that_begins_at_the_scores_is_that_of_the_general_rules(build, composite):
    table, model = WHOLE_TABLES[composite], build()
    names = {layer.name for layer in model.layers}
    table = {test: rule for test, rule in table.items() if not isinstance(test, str) or test in (FIRST, *names)}
    x = np.random.default_rng(5).random((6, *model.input_shape[1:]))
    points, general = tf.constant(x), with_rules(model, table)
    with tf.GradientTape() as tape:
        tape.watch(points)
        scores = general(points)
    expected = tape.gradient(scores, points, tf.one_hot([1] * 6, scores.shape[1], dtype=scores.dtype) * scores)
    assert np.abs(lrp(model, x, 1, table) - expected).max() < 1e-10 * max(1, np.abs(expected).max())


def test_what_gets_relevance_below_zero_is_not_spared(monkeypatch):
    assert spared(plain_net(), EPSILON) == 3  # the two convolutions and the hidden layer
    assert spared(late_relu_net(), EPSILON) == 3  # the convolution and its pooling, and the upper layer
    flat = {"scores": rules.flat()} | EPSILON
    assert spared(plain_net(), flat) == 2  # not the layer under the flat rule
    monkeypatch.setattr("utils.surgery.PROPORTIONAL", (rules.epsilon, rules.flat))
    assert spared(plain_net(), flat) == 3
    with pytest.raises(AssertionError):  # and this would be wrong
        monkeypatch.setitem(WHOLE_TABLES, "flat", flat)
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
    for call in calls.values():
        call(3, 0)
        call(1, 0)
    count = collections.Counter()
    for name in ("epsilon", "pullback", "divide", "shares"):
        original = getattr(rules, name)
        monkeypatch.setattr(
            rules, name, lambda *args, _f=original, _n=name, **how: count.update([_n]) or _f(*args, **how)
        )
    for name, call in calls.items():
        for n, target in ((3, 1), (2, None), (1, 2), (3, [0, 1, 2])):
            call(n, target)
        assert not count, name  # a rule that runs as Python runs because something is traced again


def test_fifty_models_that_are_gone_leave_nothing():
    gone, x = [], noise(2, 5)
    for k in range(50):
        model = chain((5,), dense(3, "softmax" if k % 2 else None), seed=k)
        attributions.METHODS["deeplift" if k % 5 == 0 else "lrp"](model, x, 0)
        gone += [weakref.ref(model), weakref.ref(model.layers[0]), weakref.ref(network.network_of(model))]
    model = None
    gc.collect()
    assert not any(reference() for reference in gone)


def test_a_loop_over_parameters_does_not_fill_the_memory():
    model, x = chain((5,), dense(3)), noise(2, 5)
    for k in range(34):
        lrp(model, x, 0, {Linear: rules.epsilon(10.0**-k)} | EPSILON)
    assert len(network.network_of(model).compiled) <= 32
