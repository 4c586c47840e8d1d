"""Methods with backward rules against loops over the units of small networks."""

import numpy as np
from keras import layers as L

from tests.helpers import EPS, F, chain, dense, kernel_and_bias, minus, noise, norm, plus, relevance_of_units, stable
from utils import attributions
from utils.attributions import deep_taylor, deeplift
from utils.composites import ALPHA1_BETA0, DEEP_TAYLOR_UNBOUNDED, EPSILON
from utils.relevance import relevance_ledger

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


# --- the ledger, and deep Taylor


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
        above[k] = relevance_of_units("alpha1_beta0", W, b, image, W @ image + b)[1]
    expected = (above * (scale * x) / stable(scale * x + shift)).sum(1)
    assert np.abs(affine.inputs - expected).max() < 1e-10 * np.abs(expected).max()


def test_deep_taylor_takes_the_bounds_that_it_is_given():
    model, x = chain((6,), dense(4)), np.random.default_rng(0).random(6)
    (W, b), low, high = kernel_and_bias(model), -0.3 - np.arange(6), np.full(6, 1.7)
    for bounds in ((low, high), (-0.3, 1.7), (None, None)):
        name = "w_square" if bounds[0] is None else "z_box"
        expected = relevance_of_units(name, W, b, x, W @ x + b, *bounds)
        assert np.abs(deep_taylor(model, np.repeat(x[None], 4, 0), np.arange(4), *bounds) - expected).max() < 1e-10


# --- DeepLIFT


def test_rescale_is_difference_over_difference():
    model, x, ref = chain((5,), dense(6, "relu"), dense(4, "tanh"), dense(3)), noise(4, 5), noise(4, 5, seed=2)
    (W1, b1), (W2, b2), (W3, _) = ([w.numpy() for w in layer.weights] for layer in model.layers[1:])
    h, h_ref = x @ W1 + b1, ref @ W1 + b1
    g, g_ref = plus(h) @ W2 + b2, plus(h_ref) @ W2 + b2
    m = (np.tanh(g) - np.tanh(g_ref)) / (g - g_ref) * W3[:, 2]
    m = (plus(h) - plus(h_ref)) / (h - h_ref) * (m @ W2.T)
    assert np.abs(deeplift(model, x, 2, ref) - (x - ref) * (m @ W1.T)).max() < 1e-12


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
