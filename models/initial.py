"""Initial weights drawn by NumPy: the same on every backend of Keras, so that "before training" needs no file.

The numbers are those that Keras draws on PyTorch, on which the networks for photographs were trained.
"""

import math

import keras
import numpy as np

# the standard deviation of a standard normal distribution that is cut off at -2 and 2
CUT_OFF_DEVIATION = 0.87962566103423978


class HeNormal(keras.initializers.HeNormal):
    """Truncated normal, mean 0, standard deviation sqrt(2 / fan_in). He et al. (2015, arXiv:1502.01852)."""

    def __call__(self, shape, dtype=None):
        candidates = _normal(4 * math.prod(shape), self.seed).reshape(-1, 4)  # the first within two deviations counts
        drawn = np.take_along_axis(candidates, np.argmax(np.abs(candidates) < 2, 1)[:, None], 1)
        deviation = math.sqrt(2 / math.prod(shape[:-1])) / CUT_OFF_DEVIATION
        return keras.ops.convert_to_tensor((deviation * drawn).reshape(shape), dtype or keras.config.floatx())


class GlorotUniform(keras.initializers.GlorotUniform):
    """Uniform in plus or minus sqrt(6 / (fan_in + fan_out)), for a 1 x 1 convolution. Glorot and Bengio (2010)."""

    def __call__(self, shape, dtype=None):
        limit = math.sqrt(6 / (shape[-2] + shape[-1]))
        drawn = limit * (2 * _uniform(math.prod(shape), self.seed) - 1)
        return keras.ops.convert_to_tensor(drawn.reshape(shape), dtype or keras.config.floatx())


def _uniform(n, seed):
    """`n` numbers in [0, 1), multiples of 2^-24, from the Mersenne Twister."""
    bits = np.random.RandomState(seed).randint(0, 2**32, n, dtype="uint32")  # noqa: NPY002
    return (bits & 0xFFFFFF) * 2.0**-24


def _normal(n, seed):
    """`n` normal numbers, a multiple of 16, by the Box-Muller transform in blocks of eight pairs."""
    u = _uniform(n, seed).reshape(-1, 2, 8)
    radius, angle = np.sqrt(-2 * np.log(1 - u[:, 0])), 2 * np.pi * u[:, 1]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).reshape(-1)
