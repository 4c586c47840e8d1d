"""Threads: those who share a model, and a pool with a model for each, get the maps of a single thread."""

import functools
import sys
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from keras import layers as L

from tests.helpers import METHODS
from utils import cam
from utils.relevance import relevance_ledger

THREADS = len(METHODS)
X = np.random.default_rng(0).random((2, 8, 8, 2), "float32")


def network():
    """Each time with the same weights; keras.utils.set_random_seed is not for threads."""
    generator = np.random.default_rng(0)
    layers = [L.Conv2D(3, 3, activation="relu"), L.Flatten(), L.Dense(4, "relu"), L.Dense(3, "softmax")]
    model = keras.Sequential([keras.Input(X.shape[1:]), *layers])
    model.set_weights([0.4 * generator.standard_normal(w.shape) + 0.05 for w in model.get_weights()])
    return model


def ledger(model, x, target):
    rows = relevance_ledger(model, x, target)
    return np.array([[row.incoming, row.inputs, row.bias, row.stabiliser] for row in rows])


CALLS = [
    *METHODS.values(),
    ledger,
    functools.partial(cam.grad_cam, relu=False, verbose=False),
]


@pytest.fixture(scope="module")
def expected():
    model = network()
    return [call(model, X, 1) for call in CALLS]


@pytest.fixture
def restless():
    """Threads take turns every ten microseconds, not every five milliseconds."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def together(tasks):
    with ThreadPoolExecutor(THREADS) as pool:
        return [future.result() for future in [pool.submit(task) for task in tasks]]


def same(found, expected):
    assert np.isfinite(expected).all() and np.abs(expected).max() > 0
    assert np.abs(found - expected).max() <= 1e-6 * np.abs(expected).max()


def test_threads_share_a_model(expected, restless):
    """First calls and later ones, each thread with another order of methods."""
    model, n = network(), len(CALLS)

    def all_from(k):
        order = [(k + step) % n for step in range(n)]
        return {j: CALLS[j](model, X, 1) for j in order}

    for maps in together([functools.partial(all_from, k) for k in range(THREADS)]):
        for j, found in maps.items():
            same(found, expected[j])


def test_threads_with_models_of_their_own(expected, restless):
    """Built in the threads; each explains by some of the methods, and those behind METHODS several times."""

    def some(k):
        model = network()
        return {j: CALLS[j](model, X, 1) for j in (k, len(CALLS) - 1 - k % 2)}

    for maps in together([functools.partial(some, k) for k in range(THREADS)]):
        for j, found in maps.items():
            same(found, expected[j])
