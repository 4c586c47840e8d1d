"""The layers that have no rule of their own: sums, averages, maxima, activations, and what only moves values."""

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

from tests.helpers import (
    F,
    chain,
    dense,
    jacobian,
    kernel_and_bias,
    noise,
    norm,
    randomize,
    relevance_of_units,
)
from utils.attributions import lrp
from utils.composites import ALPHA2_BETA1, EPSILON
from utils.relevance import relevance_ledger


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
    "TimeDistributed": lambda: chain(
        (2, 3, 3, 2), L.TimeDistributed(L.AveragePooling2D(2, 1, **F), **F), L.Flatten(**F)
    ),
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
    (W, b), x = kernel_and_bias(model), noise(*model.inputs[0].shape[1:])
    if name == "an inner norm":
        assert relevance_ledger(model, x[None], 0, EPSILON)[-1].kind == "Affine"
    expected = relevance_of_units("epsilon", W, b, x.ravel(), W @ x.ravel() + b)
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
        expected = (
            relevance_of_units("epsilon", W, 0 * scores, x.ravel(), scores)
            if name == "average"
            else W * scores[:, None]
        )
        assert np.abs(ours - expected).max() < 1e-5


def test_interpolated_upsampling_shares_by_contribution():
    # each output of a bilinear interpolation is a mean of several inputs, so gradients alone would leave f(x) at R
    model = chain((3, 3, 2), L.UpSampling2D(2, interpolation="bilinear", **F), L.Flatten(**F))
    (W, b), x = kernel_and_bias(model), noise(3, 3, 2)
    ours = lrp(model, np.repeat(x[None], len(b), 0), np.arange(len(b)), EPSILON).reshape(W.shape)
    assert (
        np.abs(ours - relevance_of_units("epsilon", W, b, x.ravel(), W @ x.ravel())).max() < 1e-6
    )  # TensorFlow interpolates in float32


def test_of_a_maximum_the_winner_takes_all():
    model, x = mixing(L.Maximum(**F)), noise(1, 6, 2)
    scores, came_from = model(x).numpy().ravel(), jacobian(model, x)
    ours = lrp(model, np.repeat(x, 6, 0), np.arange(6), EPSILON).reshape(6, 12)
    assert np.abs(ours - came_from * scores[:, None]).max() < 1e-10


def test_in_a_product_the_signal_takes_all():
    for order in ((0, 1), (1, 0)):
        x = keras.Input((6, 2), **F)
        factors = x[:, :3], ops.sigmoid(x[:, 3:])
        model = keras.Model(x, L.Flatten(**F)(L.Multiply(**F)([factors[k] for k in order])))
        point = noise(1, 6, 2)
        ours = lrp(model, np.repeat(point, 6, 0), np.arange(6), EPSILON).reshape(6, 12)
        assert np.abs(ours - np.hstack([np.diag(model(point).numpy().ravel()), np.zeros((6, 6))])).max() < 1e-10


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
    assert np.abs(ours - relevance_of_units("epsilon", W, b, hidden, W @ hidden + b)).max() < 1e-10


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
        expected = relevance_of_units("alpha2_beta1", W, b, hidden[0], W @ hidden[0] + b)[:1]
        assert np.abs(ours - expected).max() < 1e-10
