"""Experts for activation maximization: functions of images `[n, ...]` that return log p(x), up to a constant, `[n]`.

They are written in TensorFlow, so that their gradient is known, and take arrays, too. Any other function of that kind
is an expert:

    def bright(images):  # prefers bright images
        return tf.reduce_sum(images, [1, 2, 3])

Montavon, Samek and Müller (2018, arXiv:1706.07979), section 3.2.
"""

import numpy as np
import tensorflow as tf

from .checks import as_array

# (a^2 + SMOOTH)^(1/2) in place of |a|, which has no slope at 0
SMOOTH = 1e-6


def l2_expert(centre=0.0):
    """Minus the squared distance from `centre`: with the weight lambda, the penalty `lambda |x - centre|^2`.

    Args:
        centre: a number, or an image `[...]`: the mean of a class, say.
    """
    centre = _finite(centre, "centre")

    def expert(images):
        images = _images(images)
        return -_sum(tf.square(images - tf.cast(_fitting(centre, images, "centre"), images.dtype)))

    return expert


def total_variation_expert(images):
    """Minus the sum of the absolute differences of neighbouring pixels in rows and columns, `[n]`.

    Rudin, Osher and Fatemi (1992, doi:10.1016/0167-2789(92)90242-F); a difference a counts as (a^2 + 1e-6)^(1/2), less
    what that is for a = 0, so that it has a slope everywhere. It is an expert itself: pass it without calling it.
    """
    images = _images(images)
    if images.shape.rank != 4:
        raise ValueError(f"Total variation needs images [n, height, width, channels]. Received: {images.shape}.")
    down, right = images[:, 1:] - images[:, :-1], images[:, :, 1:] - images[:, :, :-1]
    return -sum(_sum(tf.sqrt(tf.square(a) + SMOOTH) - SMOOTH**0.5) for a in (down, right))


def gaussian_expert(images):
    """The log-density of a normal distribution with the mean and the covariance of `images`, but for its constant.

    The covariance is shrunk towards a multiple of the identity, by as much as Ledoit and Wolf advise (2004,
    doi:10.1016/S0047-259X(03)00096-4), so that it can be inverted also where pixels are always 0.

    Args:
        images: `[n, ...]`, at least two.
    """
    from sklearn.covariance import LedoitWolf  # slow to import, and of use here alone

    images = _finite(images, "images")
    if images.ndim < 2 or len(images) < 2:
        raise ValueError(f"Expected: at least two images [n, ...]. Received: shape {images.shape}.")
    fit = LedoitWolf().fit(images.reshape(len(images), -1).astype("float64"))
    if not fit.covariance_.any():
        raise ValueError("All images are the same, so that there is no distribution. Expected: different images.")
    mean, precision = fit.location_.reshape(images.shape[1:]), fit.get_precision()

    def expert(images):
        images = _images(images)
        away = images - tf.cast(_fitting(mean, images, "the mean"), images.dtype)
        away = tf.reshape(away, [tf.shape(images)[0], -1])
        return -tf.reduce_sum(tf.matmul(away, tf.cast(precision, away.dtype)) * away, 1) / 2

    return expert


def rbm_expert(weights, visible_bias, hidden_bias):
    """Minus the free energy of a restricted Boltzmann machine, which is log p(x) but for its constant.

        -F(x) = a.x + sum_j log(1 + exp(b_j + x.W_j))

    Hinton (2012, doi:10.1007/978-3-642-35289-8_32), section 16.1. Pixels from 0 to 1.

    Args:
        weights: W `[visible, hidden]`.
        visible_bias, hidden_bias: a `[visible]` and b `[hidden]`.
    """
    W, a, b = (
        _finite(values, name)
        for values, name in ((weights, "weights"), (visible_bias, "visible_bias"), (hidden_bias, "hidden_bias"))
    )
    if W.ndim != 2 or a.shape != W.shape[:1] or b.shape != W.shape[1:]:
        raise ValueError(
            f"Expected: weights [visible, hidden] and a bias for each of these. Received: {W.shape}, {a.shape} visible "
            f"and {b.shape} hidden."
        )

    def expert(images):
        images = _images(images)
        if images.shape[1:].num_elements() not in (None, len(a)):
            raise ValueError(f"The machine has {len(a)} visible units. Received: images {images.shape}.")
        x = tf.reshape(images, [-1, len(a)])
        below = tf.matmul(x, tf.cast(W, x.dtype)) + tf.cast(b, x.dtype)
        return tf.linalg.matvec(x, tf.cast(a, x.dtype)) + tf.reduce_sum(tf.math.softplus(below), 1)

    return expert


def denoiser_expert(denoiser, sigma):
    """An expert of which only the gradient is known, (r(x) - x) / sigma^2; its value is 0 everywhere.

    A denoiser r that has been trained to find x in x + sigma noise, with the squared error, knows the gradient of the
    log-density of the noisy images: Alain and Bengio (2014, arXiv:1211.4246), theorem 1; for all sigma Miyasawa's
    formula, in Raphan and Simoncelli (2011, doi:10.1162/NECO_a_00076).

    Args:
        denoiser: a Keras model, or a function of images, that returns images of the same shape.
        sigma: the standard deviation of the noise that it was trained with, in the unit of the pixels.
    """
    if isinstance(sigma, bool) or not isinstance(sigma, (int, float, np.number)) or not 0 < sigma < np.inf:
        raise ValueError(f"sigma is the standard deviation of the denoiser's noise, above 0. Received: {sigma!r}.")

    if not callable(denoiser):
        raise ValueError(f"denoiser must be a model or a function of images. Received: {denoiser!r}.")

    @tf.custom_gradient
    def expert(images):
        def gradient(upstream):
            restored = tf.cast(
                denoiser(images, training=False) if hasattr(denoiser, "layers") else denoiser(images), images.dtype
            )
            if not restored.shape.is_compatible_with(images.shape):
                raise ValueError(f"The denoiser makes {restored.shape} of images {images.shape}. Expected: the same.")
            return tf.reshape(upstream, [-1] + [1] * (images.shape.rank - 1)) * (restored - images) / sigma**2

        return tf.zeros(tf.shape(images)[:1], images.dtype), gradient

    return lambda images: expert(_images(images))


def _images(images):
    """Images as a tensor of floats, so that nothing is cut off to whole numbers."""
    images = tf.convert_to_tensor(images)
    return images if images.dtype.is_floating else tf.cast(images, tf.float32)


def _sum(values):
    return tf.reduce_sum(values, list(range(1, values.shape.rank)))


def _finite(values, name):
    values = as_array(values, name)
    if values.dtype.kind not in "iuf" or not values.size or not np.isfinite(values).all():
        raise ValueError(f"{name} must hold finite numbers. Received: {values.dtype}, shape {values.shape}.")
    return values.astype("float64") if values.dtype.kind != "f" else values


def _fitting(values, images, name):
    """`values`, a number or an image of the shape of `images`."""
    if values.ndim and not images.shape[1:].is_compatible_with(values.shape):
        raise ValueError(f"{name} does not fit the images. Received: {values.shape}. Expected: {images.shape[1:]}.")
    return values
