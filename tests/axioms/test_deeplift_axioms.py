"""DeepLIFT: maps sum to the difference from the reference, and the answers of its paper."""

import functools

import keras
import numpy as np
import pytest
from keras import layers as L

from tests.helpers import NETS, F, chain, dense, net_of, noise, plain_net, randomize, relative_error
from utils import attributions
from utils.attributions import deeplift


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


OTHERS = {
    "product": (product_net, (5,)),
    "maximum": (maximum_net, (5,)),
    "a square": (squared_net, (5,)),
    "three factors": (three_factors, (5,)),
    "overlapping windows": (overlapping_net, (6, 6, 2)),
    "global maximum": (one_channel_max_net, (6, 6, 2)),
}


@functools.cache
def net(name):
    """A network and the shape of its input; one for all tests, so that less is compiled."""
    if name in NETS:
        return net_of(name)
    build, shape = OTHERS[name]
    return build(), shape


@pytest.mark.parametrize(
    ("name", "baseline"), [*((name, "each") for name in (*NETS, *OTHERS)), ("plain", "zeros"), ("product", "zeros")]
)
@pytest.mark.parametrize("rule", ["rescale", "reveal_cancel"])
def test_deeplift_sums_to_the_difference(name, rule, baseline):
    model, shape = net(name)
    x = noise(6, *shape)
    reference = {"zeros": None, "each": noise(6, *shape, seed=8)}[baseline]
    R, error = deeplift(model, x, 1, reference, rule, return_completeness_error=True)
    start = np.broadcast_to(0.0 if reference is None else reference, x.shape)
    gain = (model(x) - model(start)).numpy()[:, 1]
    assert relative_error(R.reshape(6, -1).sum(1), gain) < 1e-9
    assert np.abs(error).max() < 1e-9 * max(1, np.abs(gain).max())


def test_one_reference_for_all_is_the_same_one_for_each():
    model, x, one = plain_net(), noise(7, 8, 7, 2), noise(8, 7, 2, seed=9)
    for rule in ("rescale", "reveal_cancel"):
        full = deeplift(model, x, 1, np.repeat(one[None], 7, 0), rule)
        for baseline in (one, one[None]):
            assert np.abs(deeplift(model, x, 1, baseline, rule) - full).max() < 1e-12
    assert np.abs(deeplift(model, x, 1, 0.5) - deeplift(model, x, 1, np.full_like(x, 0.5))).max() < 1e-12


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


RELUS = {
    "relu": L.ReLU(**F),
    "operation": keras.ops.relu,
    "ceiling": L.ReLU(max_value=0.7, **F),
    "threshold": L.ReLU(threshold=0.5, **F),
    "slope": L.ReLU(negative_slope=0.2, **F),
    "relu6": keras.ops.relu6,
    "a layer as activation": L.Activation(L.ReLU(max_value=0.7, **F), **F),
}


@pytest.mark.parametrize("name", RELUS)
def test_each_kind_of_relu_has_the_ratio_of_its_own_differences(name):
    """A plain ReLU has a formula of its own, which one with a ceiling, a threshold or a slope must not take."""
    i, f = keras.Input((5,), **F), RELUS[name]
    model = randomize(keras.Model(i, dense(3)(f(dense(8)(i)))))
    first, last = (layer for layer in model.layers if isinstance(layer, L.Dense))
    same = np.arange(8) == 3  # a unit that sees only the first input, where x = x'
    first.kernel.assign(np.where(same, np.eye(5)[:, :1], first.kernel))
    x, reference = (6 * noise(9, 5, seed=seed) for seed in (1, 8))
    x[:, 0] = reference[:, 0]
    z, z_ref = first(x).numpy(), first(reference).numpy()
    assert (z == z_ref)[:, same].all() and (z != z_ref)[:, ~same].all()
    y, y_ref, y_beside = (np.array(f(values)) for values in (z, z_ref, z + 1e-7))
    slope = (y_beside - y) / 1e-7  # the gradient, at the unit that does not differ
    slope[:, ~same] = (y - y_ref)[:, ~same] / (z - z_ref)[:, ~same]
    expected = ((slope * last.kernel.numpy()[:, 1]) @ first.kernel.numpy().T) * (x - reference)
    assert np.abs(deeplift(model, x, 1, reference) - expected).max() < 1e-10
