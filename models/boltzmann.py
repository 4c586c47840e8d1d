"""A restricted Boltzmann machine: it says how probable an image is as a digit, but for a factor 1 / Z.

Visible units v (pixels) and hidden units h are 0 or 1:

    E(v, h) = -b v - c h - v W h,    p(v) = sum over h of exp(-E(v, h)) / Z = exp(-F(v)) / Z
    F(v) = -b v - sum over j of log(1 + exp(c_j + v W_j))        the free energy

The gradient of -F is that of log p, without Z, and F takes grey pixels too: it serves as an expert on what a digit is.
Hinton (2002), Training products of experts by minimizing contrastive divergence.
"""

from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from scipy.special import expit

from utils.experts import rbm_expert

HIDDEN, BATCH_SIZE = 500, 100
LEARNING_RATE, CONSTANT_RATE = 0.3, 0.02  # a rate that falls may begin high
CRITERION = (
    "the log likelihood of test digits, with log Z by annealed importance sampling. A gap between digits and pixels in "
    "disorder alone would not do: it grows with any scale of the weights. The gap between test and training digits, "
    "in nats, says how much of the likelihood was learnt by heart."
)


class RBM(NamedTuple):
    """The parameters of a restricted Boltzmann machine, float32."""

    weights: np.ndarray  # W [784, 500]
    visible_bias: np.ndarray  # b [784]
    hidden_bias: np.ndarray  # c [500]


def free_energy(rbm, v):
    """F(v) = -b v - sum over j of log(1 + exp(c_j + v W_j)): `[n, 784]` -> a tensor `[n]`, for gradients too."""
    return -rbm_expert(*rbm)(tf.convert_to_tensor(v))


def draw(p, rng):
    """0 or 1 for each probability in `p`."""
    return (rng.random(p.shape, "float32") < p).astype("float32")


def gibbs(rbm, v, steps, rng):
    """Draw hidden units given the visible ones and the reverse, `steps` times: `[n, 784]` -> v and its p(v = 1 | h)."""
    for _ in range(steps):
        h = draw(expit(v @ rbm.weights + rbm.hidden_bias), rng)
        p = expit(h @ rbm.weights.T + rbm.visible_bias)
        v = draw(p, rng)
    return v, p


def means(x):
    """The mean of each pixel `[784]`, kept off 0 and 1, whose logits would be infinite."""
    return np.clip(x.mean(0), 0.01, 0.99).astype("float32")


def fit(x, epochs, seed=0, hidden=HIDDEN, batch_size=BATCH_SIZE, learning_rate=LEARNING_RATE):
    """Train by persistent contrastive divergence, on binary digits that are drawn anew from the grey levels.

    The gradient of log p(v) is <v h> of the digits less <v h> of the machine; the latter comes from chains that are
    never set back to a digit. Tieleman (2008), Training restricted Boltzmann machines using approximations to the
    likelihood gradient. Units are centred at their means over the digits, which leaves the machine as it is and the
    gradient better scaled: Montavon and Mueller (2012, arXiv:1203.3783), with mu and lambda for those means,

        dW = <(v - mu)(h - lambda)> - the same of the chains,   db = <v> - <v> - dW lambda,   dc = <h> - <h> - mu dW

    Args:
        x: `[n, 784]` in [0, 1].
        learning_rate: the first; it falls to 0 along a line, so that the chains keep up.
    """
    rng = np.random.default_rng(seed)
    mu = means(x)
    weights = rng.normal(0, 0.01, (x.shape[1], hidden)).astype("float32")
    rbm = RBM(weights, np.log(mu / (1 - mu)), np.zeros(hidden, "float32"))
    middle, v = np.full(hidden, 0.5, "float32"), draw(np.tile(mu, (batch_size, 1)), rng)
    per_epoch = len(x) // batch_size
    for epoch in range(epochs):
        print(f"Epoch {epoch + 1}/{epochs}")
        bar, order = keras.utils.Progbar(per_epoch), rng.permutation(len(x))
        for k in range(per_epoch):
            rate = np.float32(learning_rate * (1 - (epoch + k / per_epoch) / epochs))
            data = draw(x[order[k * batch_size : (k + 1) * batch_size]], rng)
            v, _ = gibbs(rbm, v, 1, rng)
            of_data, of_chains = (expit(units @ rbm.weights + rbm.hidden_bias) for units in (data, v))
            change = (data - mu).T @ (of_data - middle) / len(data) - (v - mu).T @ (of_chains - middle) / len(v)
            middle += np.float32(0.01) * (of_data.mean(0) - middle)
            rbm.weights[:] += rate * change
            rbm.visible_bias[:] += rate * (data.mean(0) - v.mean(0) - change @ middle)
            rbm.hidden_bias[:] += rate * (of_data.mean(0) - of_chains.mean(0) - mu @ change)
            bar.update(k + 1)
    return rbm


def fit_scikit_learn(x, epochs, seed=0, hidden=HIDDEN):
    """The same machine by scikit-learn's `BernoulliRBM`, on binary digits that are drawn once, for comparison."""
    from sklearn.neural_network import BernoulliRBM

    machine = BernoulliRBM(hidden, learning_rate=CONSTANT_RATE, batch_size=BATCH_SIZE, n_iter=epochs, random_state=seed)
    machine.set_params(verbose=1).fit(draw(x, np.random.default_rng(seed)))
    parameters = machine.components_.T, machine.intercept_visible_, machine.intercept_hidden_
    return RBM(*(np.ascontiguousarray(array, "float32") for array in parameters))


def quality(rbm, x, x_test, seed=0, temperatures=10_000):
    """What the card says of a machine: log likelihood of test digits and gaps of the mean free energy, in nats."""
    rng, n, logits = np.random.default_rng(seed), min(len(x), len(x_test)), np.log(means(x) / (1 - means(x)))
    test, train = draw(x_test[:n], rng), draw(x[rng.permutation(len(x))[:n]], rng)
    of_test, of_train, of_shuffled = (np.mean(free_energy(rbm, v)) for v in (test, train, rng.permuted(test, axis=1)))
    log_z, error = log_partition(rbm, logits, temperatures=temperatures, seed=seed)
    return {
        "test_log_likelihood": round(float(-of_test) - log_z, 2),
        "log_z_standard_error": round(error, 2),
        "free_energy_test_less_training": round(float(of_test - of_train), 2),
        "free_energy_shuffled_less_test": round(float(of_shuffled - of_test), 2),
    }


def log_partition(rbm, base, chains=100, temperatures=5_000, seed=0):
    """log Z and its standard error, by annealed importance sampling from a machine without weights.

    Salakhutdinov and Murray (2008), On the quantitative analysis of deep belief networks. The first machine has the
    visible bias `base` `[784]` alone; at inverse temperature t the visible bias is (1 - t) base + t b, weights and
    hidden bias are t W and t c.
    """
    rng = np.random.default_rng(seed)
    v = draw(np.tile(expit(base), (chains, 1)), rng)
    inverse = np.linspace(0, 1, temperatures + 1).astype("float32")

    def minus_free_energy(pixels, inputs, t):
        return pixels @ ((1 - t) * base + t * rbm.visible_bias) + np.logaddexp(0, t * inputs).sum(1)

    log_weights = np.zeros(chains)
    for before, t in zip(inverse, inverse[1:]):
        inputs = v @ rbm.weights + rbm.hidden_bias
        log_weights += minus_free_energy(v, inputs, t) - minus_free_energy(v, inputs, before)
        h = draw(expit(t * inputs), rng)
        v = draw(expit(t * (h @ rbm.weights.T) + (1 - t) * base + t * rbm.visible_bias), rng)
    highest = log_weights.max()
    ratios = np.exp(log_weights - highest)
    log_z = len(rbm.hidden_bias) * np.log(2) + np.logaddexp(0, base.astype("float64")).sum()
    error = ratios.std() / ratios.mean() / np.sqrt(chains)
    return float(log_z + highest + np.log(ratios.mean())), float(error)
