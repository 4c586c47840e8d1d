"""DeepLIFT's rescale rule at a max-pooling: one window after the other, in plain Python."""

import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L

from utils import rules
from utils.parts import MaxPooling


def rounded(*shape, seed=0):
    """Few different numbers, so that windows have equal values, and many of those of the reference."""
    return np.random.default_rng(seed).integers(-2, 3, shape) / 2


def by_loops(x, x_ref, R, p, q):
    """The winner of the image, the first largest value, gets max(y - y', 0) / (x - x') R, or R where x = x'; that of
    the reference min(y - y', 0) / (x - x') R."""
    m = np.zeros_like(x)
    for n, row, column, c in np.ndindex(R.shape):
        here = n, slice(row * p, row * p + p), slice(column * q, column * q + q), c
        a, b, r = x[here].ravel(), x_ref[here].ravel(), R[n, row, column, c]
        window, gain = np.zeros(p * q), a.max() - b.max()
        for k, part in ((a.argmax(), max(gain, 0)), (b.argmax(), min(gain, 0))):
            if a[k] != b[k]:
                window[k] += part / (a[k] - b[k]) * r
        if a[a.argmax()] == b[a.argmax()]:
            window[a.argmax()] = r
        m[here] = window.reshape(p, q)
    return m


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize(
    ("size", "padding"), [((2, 2), "valid"), ((3, 2), "valid"), ((2, 3), "same"), ((2, 2), "same")]
)
@pytest.mark.parametrize("references", [1, 4])
def test_a_pooling_whose_windows_are_separate(size, padding, references, dtype):
    height, width = (4, 6) if padding == "same" else (7, 5)  # the last row and column lie in no window
    x, x_ref = rounded(4, height, width, 3), rounded(references, height, width, 3, seed=1)
    pooling = L.MaxPooling2D(size, padding=padding, dtype=dtype)
    part = MaxPooling(pooling, pooling)
    inputs, reference = tf.constant(x, dtype), tf.constant(x_ref, dtype)
    y, y_ref = pooling(inputs), pooling(reference)
    R = rounded(*y.shape, seed=2)
    part = part.given(reference=([reference], y_ref))
    m = rules.rescale_max(part, [inputs], y, tf.constant(R, dtype))[0].numpy()
    expected = by_loops(x, np.broadcast_to(x_ref, x.shape), R, *size)
    assert (x == x_ref).mean() > 0.1 and np.abs(expected).max() > 0.5
    assert np.abs(m - expected).max() < {"float64": 1e-12, "float32": 1e-6, "float16": 1e-2}[dtype]
