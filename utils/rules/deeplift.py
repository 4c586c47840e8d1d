"""Rules of DeepLIFT: R is the multiplier m_k, and `part.reference` is (x', y'), the inputs of the part and its output
at the baseline, in one row for all images or in one for each."""

import functools

import tensorflow as tf
from keras import layers

from ..parts import inherits_call, is_plain_relu
from .base import negative, positive, pullback, rule

NEAR = 1e-7  # a difference from the reference below which DeepLIFT takes the gradient
TINY = 1e-20  # lost beside any other number, but TINY / TINY = 1


def ratio(difference, by, otherwise):
    """difference / by, and `otherwise` where `by` is below `NEAR`."""
    # tf.where, which broadcasts, takes twice the time
    return tf.raw_ops.Select(condition=tf.abs(by) < NEAR, x=otherwise, y=difference / by)


@rule
def rescale(part, inputs, output, R):
    """DeepLIFT's rescale rule: m_j = (y - y') / (x - x') m_k, the gradient where x - x' is next to nothing.

    Shrikumar, Greenside and Kundaje (2017, arXiv:1704.02685), section 3.5.2; R is the multiplier m_k. At a ReLU, the
    ratio is `(y + y') / (|x| + |x'|)`: the share of the way from x' to x that lies above 0 if 0 is between them, and
    the gradient if both are on one side, so x = x' needs no case of its own.
    """
    (x,), ((x_ref,), y_ref) = inputs, part.reference
    if is_plain_relu(part):
        return [R * tf.math.divide_no_nan(output + y_ref, tf.abs(x) + tf.abs(x_ref))]
    return [ratio(R * (output - y_ref), x - x_ref, otherwise=pullback(part, inputs, R)[0])]


@rule
def rescale_max(part, inputs, output, R):
    """Rescale at a maximum: the difference of two maxima goes to the winner of the image and that of the reference.

    With t = max(y, y'), the image's winner accounts for t - y', the reference's for y - t, both over x - x'; so the
    parts sum to y - y'. As captum does it.
    """
    if _has_separate_windows(part.layer, inputs[0]):
        return [_rescale_windows(part.layer, inputs[0], output, *part.reference, R)]
    references, y_ref = part.reference
    references = [tf.broadcast_to(x_ref, tf.shape(x)) for x_ref, x in zip(references, inputs)]
    top = tf.maximum(output, y_ref)
    at_image, at_reference = pullback(part, inputs, R * (top - y_ref)), pullback(part, references, R * (output - top))
    plain = pullback(part, inputs, R)
    return [
        ratio(one + other, x - x_ref, otherwise=slope)
        for one, other, x, x_ref, slope in zip(at_image, at_reference, inputs, references, plain)
    ]


def _has_separate_windows(layer, x):
    """Whether no value of `x` is in two windows of the two-dimensional pooling `layer`, in numbers that know `TINY`."""
    if not inherits_call(layer, (layers.MaxPooling2D,)) or layer.pool_size != tuple(layer.strides):
        return False
    sizes = x.shape[1:3]
    if None in sizes or x.dtype == tf.float16:
        return False
    return layer.padding == "valid" or all(size % pool == 0 for size, pool in zip(sizes, layer.pool_size))


def _rescale_windows(layer, x, y, references, y_ref, R):
    """As `rescale_max`, in one backward pass through the pooling, since no window shares a value with another.

    That pass takes what belongs to the image's winners, R max(y - y', 0). The winners of the reference are found once,
    also if it is the same for all images, and multiplied with what belongs to them. `TINY`, added on both sides of the
    division by x - x', leaves the gradient where x = x'.
    """
    (x_ref,), (p, q), channels = references, layer.pool_size, x.shape[-1]
    (height, width), (rows, columns) = x.shape[1:3], y.shape[1:3]
    h, w = rows * p, columns * q  # without what is left over

    def at_winners(values, maximum, upper):
        size = [1, p, q, 1]
        return tf.raw_ops.MaxPoolGrad(
            orig_input=values[:, :h, :w], orig_output=maximum, grad=upper, ksize=size, strides=size, padding="VALID"
        )

    gain = y - y_ref
    of_image, winners = at_winners(x, y, R * (positive(gain) + TINY)), at_winners(x_ref, y_ref, tf.ones_like(y_ref))
    wide = tf.repeat(R * negative(gain), q, axis=2)  # [n, rows, w, channels]
    of_reference = tf.reshape(winners, [-1, rows, p, w, channels]) * wide[:, :, None]
    of_reference = tf.reshape(of_reference, [-1, h, w, channels])
    slope = tf.math.divide_no_nan(of_image + of_reference, (x - x_ref)[:, :h, :w] + TINY)
    return slope if (h, w) == (height, width) else tf.pad(slope, [[0, 0], [0, height - h], [0, width - w], [0, 0]])


@rule
def rescale_product(part, inputs, output, R):
    """Rescale at a product of two: m_a = (b + b') / 2 m_k, m_b = (a + a') / 2 m_k, which sum to ab - a'b' exactly.

    A product of more is taken as a product of the last with that of all others.
    """
    if len(inputs) == 1:
        return pullback(part, inputs, R)
    lower, factors, references = [], list(inputs), list(part.reference[0])
    while len(factors) > 1:
        last = (factors.pop() + references.pop()) / 2
        others = sum(functools.reduce(_times, some) for some in (factors, references)) / 2
        R, back = pullback(_times, [others, last], R)
        lower.insert(0, back)
    return [R, *lower]


def _times(a, b):
    """The product as Keras's `Multiply` has it: a factor of fewer axes gets new ones behind the first."""
    rank = max(a.shape.rank, b.shape.rank)
    for _ in range(rank - a.shape.rank):
        a = tf.expand_dims(a, 1)
    for _ in range(rank - b.shape.rank):
        b = tf.expand_dims(b, 1)
    return a * b


@rule
def reveal_cancel(part, inputs, output, R):
    """DeepLIFT's reveal-cancel rule: positive and negative differences have multipliers of their own.

    With dz+ and dz- the sums of the positive and negative contributions to z - z' and f the activation,
    dy+ = 1/2 (f(z' + dz+) - f(z') + f(z' + dz- + dz+) - f(z' + dz-)), dy- alike, m+ = dy+ / dz+, m- = dy- / dz-.
    Shrikumar et al. (2017), section 3.5.3.
    """
    linear, f, (x,), (w, _) = part.linear, part.activation, inputs, part.linear.weights()
    ((x_ref,), _) = part.reference
    dx, z_ref = x - x_ref, linear(x_ref)
    up = linear.map(positive(dx), positive(w)) + linear.map(negative(dx), negative(w))
    down = linear.map(positive(dx), negative(w)) + linear.map(negative(dx), positive(w))
    both = f(z_ref + up + down)
    dy_up = (f(z_ref + up) - f(z_ref) + both - f(z_ref + down)) / 2
    dy_down = (f(z_ref + down) - f(z_ref) + both - f(z_ref + up)) / 2
    slope = pullback(f, [z_ref + up + down], R)[0]
    m_up, m_down = ratio(R * dy_up, up, otherwise=slope), ratio(R * dy_down, down, otherwise=slope)

    def back(kernel, multiplier):
        return pullback(lambda t: linear.map(t, kernel), [dx], multiplier)[0]

    of_more = back(positive(w), m_up) + back(negative(w), m_down)
    of_less = back(negative(w), m_up) + back(positive(w), m_down)
    return [tf.where(dx > 0, of_more, tf.where(dx < 0, of_less, (of_more + of_less) / 2))]
