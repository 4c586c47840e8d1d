"""Rules for gradients that are changed at the ReLUs, and for relevance."""

import numpy as np
import tensorflow as tf

from ..parts import Product
from .base import (
    EPS,
    bias_of,
    divide,
    if_any,
    negative,
    positive,
    pullback,
    rule,
    shares,
    weights_of,
    where_positive,
)

# --- gradients, changed at the ReLUs


@rule
def guided(part, inputs, output, R):
    """Guided backpropagation: g_j = [a_j > 0] (g_k)+, at a ReLU.

    Springenberg et al. (2015, arXiv:1412.6806), section 3.4 and figure 1.
    """
    return pullback(part, inputs, positive(R))


@rule
def deconvolution(part, inputs, output, R):
    """Deconvolution: g_j = (g_k)+, at a ReLU, whatever went in.

    Zeiler and Fergus (2014, arXiv:1311.2901), section 2.1.
    """
    return [positive(R)]


# --- relevance through linear and mixing parts


@rule(keeps_zeros=True)
def epsilon(part, inputs, output, R, eps=EPS, bias=True, relative=False):
    """LRP-epsilon: R_j = sum_k a_j w_jk / (z_k + eps sign(z_k)) R_k, z_k = sum_j a_j w_jk + b_k; LRP-0 for eps -> 0.

    Bach et al. (2015, doi:10.1371/journal.pone.0130140), equation 58. `bias=False` leaves b_k out of z_k. At a product
    of several factors, each accounts for the same share.
    """
    if isinstance(part, Product):
        R = R / len(inputs)
    if not bias and bias_of(part) is not None:
        s = divide(part, R, output - bias_of(part), eps, relative)
    elif part.only_active:  # tf.nn.relu, the ReLU itself, is not computed twice
        s = divide(part, R, tf.nn.relu(output), eps, relative, sign=1)
    else:
        s = divide(part, R, output, eps, relative, sign=1 if part.output_is_positive else None)
    return [a * c for a, c in zip(inputs, pullback(part, inputs, s))]


@rule(keeps_zeros=True)
def gamma(part, inputs, output, R, gamma=0.25, eps=EPS, bias=True, relative=False):
    """LRP-gamma: R_j = sum_k a_j (w_jk + gamma w_jk+) / sum_j (a_j (w_jk + gamma w_jk+)) R_k, for a_j >= 0.

    Montavon et al. (2019, doi:10.1007/978-3-030-28954-6_10), section 10.2.1. Inputs of both signs as zennit's
    generalization has them: where z_k > 0, positive contributions are favoured, where z_k < 0 negative ones.
    """
    (a,), (w, b) = inputs, weights_of(part, bias)
    up, down = w + gamma * positive(w), w + gamma * negative(w)
    b_up, b_down = (None, None) if b is None else (b + gamma * positive(b), b + gamma * negative(b))
    keeps_bias = bias or bias_of(part) is None
    if part.only_active and keeps_bias:
        return [shares(part, a, up, down, b_up, R, eps, relative)]
    z = output if keeps_bias else output - bias_of(part)
    above, below = where_positive(z, R), where_positive(-z, R)
    raised = shares(part, a, up, down, b_up, above, eps, relative)
    # under a ReLU, no relevance comes to what is below 0, and half of the work is saved
    lowered = if_any(
        below != 0, lambda: shares(part, a, down, up, b_down, below, eps, relative), lambda: tf.zeros_like(a)
    )
    return [raised + lowered]


@rule(keeps_zeros=True)
def alpha_beta(part, inputs, output, R, alpha=2.0, beta=1.0, eps=EPS, bias=True, relative=False):
    """LRP-alpha-beta: R_j = sum_k (alpha (a_j w_jk)+ / z_k+  -  beta (a_j w_jk)- / z_k-) R_k, alpha - beta = 1.

    Bach et al. (2015), equation 60; z_k+ and z_k- are the sums of the positive and of the negative contributions,
    the bias among them. Not conservative at a unit that has only one kind.
    """
    if abs(alpha - beta - 1) > 1e-9 or beta < 0:
        raise ValueError(f"alpha - beta must be 1, and beta not below 0. Received: alpha={alpha:g}, beta={beta:g}.")
    (a,), (w, b) = inputs, weights_of(part, bias)
    excites = shares(part, a, positive(w), negative(w), positive(b), alpha * R, eps, relative, sign=1)
    if beta == 0:
        return [excites]
    return [excites + shares(part, a, negative(w), positive(w), negative(b), -beta * R, eps, relative, sign=-1)]


@rule(keeps_zeros=True)
def z_plus(part, inputs, output, R, eps=EPS, bias=False, relative=False):
    """z+: R_j = sum_k (a_j w_jk)+ / sum_j (a_j w_jk)+ R_k.

    Montavon et al. (2017, doi:10.1016/j.patcog.2016.11.008), equation 17 of deep Taylor decomposition, for a_j >= 0;
    written for contributions, it takes inputs of both signs. Equal to alpha_beta(1, 0).
    """
    (a,), (w, b) = inputs, weights_of(part, bias)
    return [shares(part, a, positive(w), negative(w), positive(b), R, eps, relative, sign=1)]


@rule
def z_box(part, inputs, output, R, low=0.0, high=1.0, eps=EPS, relative=False):
    """z-box: R_j = sum_k (a_j w_jk - l_j w_jk+ - h_j w_jk-) / sum_j (the same) R_k, for inputs in [l_j, h_j].

    Montavon et al. (2017), equation 19; for the first layer, where inputs are pixels. `low` and `high` are numbers,
    or arrays that broadcast over an image, such as one number for each channel; where pixels are rescaled before
    the layer, so are the bounds. Biases play no part: of b - b+ - b- nothing is left.
    """
    (a,), (w, b) = inputs, weights_of(part)
    z = output if b is None else output - b
    corners = [
        (tf.broadcast_to(_in_type_of(a, bound), tf.shape(a)[1:])[None], kernel)
        for bound, kernel in ((low, positive(w)), (high, negative(w)))
        if tf.is_tensor(bound) or np.any(bound)  # most often low is 0
    ]
    for corner, kernel in corners:
        z -= part.map(corner, kernel)
    s = divide(part, R, z, eps, relative)
    lower = a * pullback(part, inputs, s)[0]
    for corner, kernel in corners:
        lower -= corner * pullback(lambda t, kernel=kernel: part.map(t, kernel), inputs, s)[0]
    return [lower]


def _in_type_of(a, bound):
    return tf.cast(bound, a.dtype) if tf.is_tensor(bound) else tf.constant(bound, a.dtype)


@rule
def w_square(part, inputs, output, R, eps=EPS, bias=False, relative=False):
    """w-square: R_j = sum_k w_jk^2 / sum_j w_jk^2 R_k, for inputs without bounds.

    Montavon et al. (2017), equation 13. The value of the input plays no part. With `bias`, b_k^2 joins the sum.
    """
    w, b = weights_of(part, bias)
    return _by_weight(part, inputs, tf.square(w), None if b is None else tf.square(b), R, eps, relative)


@rule
def flat(part, inputs, output, R, eps=EPS, bias=False, relative=False):
    """Flat: R_j = sum_k 1 / sum_j 1 R_k: all inputs that the unit sees get the same.

    Lapuschkin et al. (2019, doi:10.1038/s41467-019-08987-4), supplement.
    """
    w, b = weights_of(part, bias)
    return _by_weight(part, inputs, tf.ones_like(w), None if b is None else tf.ones_like(b), R, eps, relative)


def _by_weight(part, inputs, w, b, R, eps, relative):
    ones = tf.ones_like(inputs[0])
    z = part.map(ones, w)
    s = divide(part, R, z if b is None else z + b, eps, relative)
    return pullback(lambda t: part.map(t, w), [ones], s)


# --- relevance through all other parts


@rule
def through(part, inputs, output, R):
    """R_j = R_k: relevance stays where it is, at an activation for example."""
    return [R]


@rule
def signal(part, inputs, output, R):
    """All of R to the signal of a product, nothing to its gates.

    A convention: Arras et al. (2017, arXiv:1706.07206), section 3.2. The gate is what comes out of a sigmoid, a hard
    sigmoid or a softmax, or has the smaller shape, in whatever order the factors come.
    """
    if part.signal is None:
        raise ValueError(
            f"Which factor of the product {part.layer.name!r} is the signal, and which the gate? Received: "
            f"{len(inputs)} factors of the shapes {[tuple(x.shape[1:]) for x in inputs]}. Expected: all but one come "
            "out of a sigmoid, a hard sigmoid or a softmax, or are smaller than the other. Choose a rule for it: "
            "{Product: epsilon()} | composite shares the relevance among the factors, and gradient methods need none."
        )
    return [R if k == part.signal else None for k in range(len(inputs))]
