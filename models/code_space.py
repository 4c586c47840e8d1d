"""How the generator is trained: from the code of a digit, to the digit, under three losses.

Four networks: E, which makes a code c of a digit x (`mnist_cnn` up to its layer `dense1`); G, which makes a digit of
the code; D, which tells digits from those that G made; and C, which reads digits (the rest of `mnist_cnn`), and in
whose name codes are searched once G is there. With r = G(c), c = E(x):

    image        mean over pixels of (r - x)^2                 in the space of images
    code         mean over units of (E(r) - c)^2 / s^2         in the space of features; s: the deviation of codes
    adversarial  log(1 + exp(-D(r)))                           what D cannot tell from a digit

Dosovitskiy and Brox (2016, arXiv:1602.02644); Nguyen et al. (2016, arXiv:1605.09304).
"""

import time
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from models.generators import mnist_discriminator, mnist_generator

WEIGHTS = {"image": 20.0, "code": 0.5, "adversarial": 0.05}
LEARNING_RATES = {"mnist_generator": 1e-3, "mnist_discriminator": 2e-4}
LOG = (
    "epoch",
    *(f"{name}_loss" for name in WEIGHTS),
    "test_image_loss",
    "test_code_loss",
    "discriminator_accuracy",
    "minutes",
)


class Codes(NamedTuple):
    """What is known of the codes of the training digits, for whoever has the generator but not the digits."""

    mean: np.ndarray  # [256]
    std: np.ndarray  # [256], of each unit
    class_means: np.ndarray  # [10, 256]


class Trained(NamedTuple):
    """What `fit` returns."""

    generator: keras.Model
    discriminator: keras.Model
    codes: Codes
    rows: list  # of the log, dictionaries with the keys `LOG`
    steps: np.ndarray  # [k], how many steps had been taken when a snapshot was made
    snapshots: np.ndarray  # [k, 10, 28, 28], uint8: ten test digits, reconstructed


def encoder(classifier):
    """E: images `[n, 28, 28, 1]` -> codes `[n, 256]`, what `dense1` of `mnist_cnn` says."""
    return keras.Model(classifier.inputs[0], classifier.get_layer("dense1").output, name="encoder")


def describe(codes, labels):
    """Mean and deviation of codes `[n, 256]`, and the mean of each class; of a class that is not there, NaN."""
    empty = np.full(codes.shape[1], np.nan, "float32")
    means = [codes[labels == k].mean(0) if (labels == k).any() else empty for k in range(10)]
    return Codes(codes.mean(0), codes.std(0), np.stack(means))


def deviation(codes):
    """s, one number for all units, some of which never vary: s^2 is the mean of their variances."""
    return float(np.sqrt(np.mean(np.square(codes.std))))


def fit(classifier, splits, epochs, seed=0, weights=None, batch_size=128):
    """Train a generator and its discriminator together.

    Args:
        classifier: `mnist_cnn`, trained; it stays as it is.
        splits: `(x_train, y_train), (x_test, y_test)`, digits in [0, 1] and classes.
        weights: what the three losses count, some of `image`, `code`, `adversarial`; those that are not named count
            as in `WEIGHTS`. A loss of weight 0 is left out: it is measured, but not followed.

    Returns:
        `Trained`. The log has the mean losses of each epoch, the share of digits and reconstructions that the
        discriminator told apart meanwhile, and the losses on the test digits after it. Snapshots: eight (fewer if there
        are few steps) of the first test digit of each class, the first before training, the others at steps that grow
        by a constant factor.
    """
    weights = checked(weights)
    (x, y), (x_test, y_test) = splits
    keras.utils.set_random_seed(seed)
    generator, discriminator, encode = mnist_generator(), mnist_discriminator(), encoder(classifier)
    c, c_test = (encode.predict(images, batch_size=500, verbose=0) for images in (x, x_test))
    codes = describe(c, y)
    step = one_step(generator, discriminator, encode, deviation(codes), weights)
    shown = c_test[[np.flatnonzero(y_test == k)[0] for k in np.unique(y_test)]]
    per_epoch = -(-len(x) // batch_size)
    last = epochs * per_epoch
    steps = np.unique(np.round(np.append(0, np.geomspace(max(1, min(10, last // 10)), last, 7))).astype(int))
    snapshots, rows, rng = [snapshot(generator, shown)], [], np.random.default_rng(seed)
    for epoch in range(epochs):
        start, sums = time.time(), 0
        print(f"Epoch {epoch + 1}/{epochs}")
        bar, order = keras.utils.Progbar(per_epoch), rng.permutation(len(x))
        for k in range(per_epoch):
            chosen = order[k * batch_size : (k + 1) * batch_size]
            measured = np.asarray(step(tf.constant(x[chosen]), tf.constant(c[chosen])))
            sums += measured * len(chosen)
            bar.update(k + 1, zip((*WEIGHTS, "accuracy"), measured))
            if epoch * per_epoch + k + 1 in steps:
                snapshots.append(snapshot(generator, shown))
        *losses, accuracy = sums / len(x)
        values = *losses, *reconstruction(generator, encode, codes, x_test, c_test), accuracy
        values = *values, (time.time() - start) / 60
        rows.append(dict(zip(LOG, (epoch + 1, *(round(float(value), 5) for value in values)))))
    return Trained(generator, discriminator, codes, rows, steps, np.stack(snapshots))


def checked(weights):
    """The weights of all three losses; refused if one is unknown, below 0 or no number, or if none is left."""
    unknown = set(weights or {}) - set(WEIGHTS)
    weights = WEIGHTS | (weights or {})
    if unknown or not all(np.isfinite(value) and value >= 0 for value in weights.values()) or not any(weights.values()):
        raise ValueError(
            f"The losses cannot be weighted so. Received: {weights}. Expected: numbers from 0 for some of "
            f"{', '.join(WEIGHTS)}, and one of the three above 0."
        )
    return weights


def one_step(generator, discriminator, encode, s, weights):
    """The compiled step of both networks: digits and codes -> the three losses and the discriminator's accuracy."""
    optimizers = []
    for network in (generator, discriminator):
        optimizers.append(keras.optimizers.Adam(LEARNING_RATES[network.name]))
        optimizers[-1].build(network.trainable_variables)

    @tf.function(reduce_retracing=True)
    def step(x, c):
        with tf.GradientTape() as tape:
            made = generator(c, training=True)
            losses = {
                "image": tf.reduce_mean(tf.square(made - x)),
                "code": tf.reduce_mean(tf.square((encode(made) - c) / s)),
                "adversarial": tf.reduce_mean(tf.nn.softplus(-discriminator(made))),
            }
            followed = tf.add_n([weights[name] * losses[name] for name in WEIGHTS if weights[name]])
        follow(tape, followed, generator, optimizers[0])
        with tf.GradientTape() as tape:
            by_hand, by_network = discriminator(x, training=True), discriminator(made, training=True)
            mistaken = tf.reduce_mean(tf.nn.softplus(-by_hand)) + tf.reduce_mean(tf.nn.softplus(by_network))
        follow(tape, mistaken, discriminator, optimizers[1])
        right = tf.concat([by_hand > 0, by_network < 0], 0)
        return tf.stack([*losses.values(), tf.reduce_mean(tf.cast(right, x.dtype))])

    return step


def follow(tape, loss, network, optimizer):
    """One step of `optimizer` against the gradient of `loss` in the weights of `network`."""
    variables = network.trainable_variables
    optimizer.apply(tape.gradient(loss, variables), variables)


def snapshot(generator, codes):
    """Images of `codes`, as grey levels: uint8 `[n, 28, 28]`."""
    return np.round(255 * np.asarray(generator(codes))[..., 0]).astype("uint8")


def reconstruction(generator, encode, codes, x, c):
    """The losses in the spaces of images and of codes, for digits `x` `[n, 28, 28, 1]` and their codes `c`."""
    made = generator.predict(c, batch_size=500, verbose=0)
    again = encode.predict(made, batch_size=500, verbose=0)
    return float(np.mean(np.square(made - x))), float(np.mean(np.square((again - c) / deviation(codes))))
