"""How the denoiser is trained, and what it knows: r(x + sigma noise) is to be x.

The r with the least mean squared error is the mean of all digits that a noisy one may have been, and

    (r(x) - x) / sigma^2 = d/dx log p(x),    p: the density of digits with noise of deviation sigma added

is the score of the smoothed density; `utils.experts.denoiser_expert` has it as its gradient. Alain and Bengio (2014,
arXiv:1211.4246); Miyasawa (1961).
"""

import keras
import numpy as np
import tensorflow as tf

from models import photographs
from models.generators import mnist_denoiser

SIGMA = 0.3  # one for all: of another smoothed density the score would be another


def fit(x, x_test, epochs, seed=0, batch_size=128, learning_rate=2e-3):
    """Train a denoiser on digits `[n, 28, 28, 1]`; each gets new noise whenever it is seen."""
    keras.utils.set_random_seed(seed)
    denoiser, steps = mnist_denoiser(), -(-len(x) // batch_size)
    denoiser.compile(keras.optimizers.Adam(photographs.one_cycle(learning_rate, epochs * steps)), "mse")
    batches = tf.data.Dataset.from_tensor_slices(x).shuffle(len(x), seed=seed).batch(batch_size).repeat().enumerate()
    batches = batches.map(lambda k, clean: (noisy(clean, (seed, k)), clean), num_parallel_calls=1).prefetch(2)
    test = noisy(x_test[:2000], (seed, -1)), x_test[:2000]  # shown meanwhile; the card has all
    denoiser.fit(
        batches, epochs=epochs, steps_per_epoch=steps, shuffle=False, validation_data=test, validation_batch_size=500
    )
    return denoiser


def noisy(x, seed, sigma=SIGMA):
    """x + sigma noise. Nothing is cut off at 0 or 1, where the noise would no longer be normal."""
    seed = tf.stack([tf.cast(number, "int64") for number in seed])
    return x + sigma * tf.random.stateless_normal(tf.shape(x), seed, alg="philox")


def test_error(denoiser, x, seed=0):
    """Mean over pixels of (r(x + sigma noise) - x)^2; sigma^2 would be left if nothing was taken away."""
    return float(np.mean(np.square(denoiser.predict(noisy(x, (seed, -1)), batch_size=500, verbose=0) - x)))
