"""Backward rules: what a part hands down to each of its inputs, given what came from above.

Every rule is called as `rule(part, inputs, output, R)`: a part (see `parts`), its inputs a_j, its output z_k and
what has come down to the output, R_k (a relevance, a gradient or a multiplier, `[n, ...]`); it returns a list, what
goes on to each input. Called with parameters alone, `gamma(0.25)` or `z_box(low=0, high=1)`, a rule returns itself
with these parameters, for a table in `composites`.

Notation: w_jk a weight, b_k a bias, (x)+ = max(0, x), (x)- = min(0, x). The stabiliser of all rules moves the
denominator away from zero, z -> z + eps sign(z) with sign(0) = 1.
"""

import contextlib
import functools
import inspect

import numpy as np
import tensorflow as tf

from utils.parts import Part

EPS = 1e-6
NEAR = 1e-7  # a difference from the reference below which DeepLIFT takes the gradient


def rule(function):
    """Make `function(part, inputs, output, R, **parameters)` a rule that takes its parameters beforehand too."""
    names = list(inspect.signature(function).parameters)[4:]

    @functools.wraps(function)
    def called(*arguments, **parameters):
        if arguments and isinstance(arguments[0], Part):
            return function(*arguments, **parameters)
        parameters = dict(zip(names, arguments)) | parameters
        unknown = sorted(set(parameters) - set(names))
        if unknown or len(arguments) > len(names):
            raise ValueError(f"{function.__name__} takes the parameters {names}. Received: {unknown or arguments}.")
        return functools.partial(called, **parameters)

    return called


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


@rule
def epsilon(part, inputs, output, R, eps=EPS, bias=True):
    """LRP-epsilon: R_j = sum_k a_j w_jk / (z_k + eps sign(z_k)) R_k, z_k = sum_j a_j w_jk + b_k; LRP-0 for eps -> 0.

    Bach et al. (2015, doi:10.1371/journal.pone.0130140), equation 58. `bias=False` leaves b_k out of z_k.
    """
    if not bias and _bias_of(part) is not None:
        s = divide(R, output - _bias_of(part), eps)
    elif part.only_active:  # tf.nn.relu, the ReLU itself, is not computed twice
        s = divide(R, tf.nn.relu(output), eps, sign=1)
    else:
        s = divide(R, output, eps, sign=1 if part.output_is_positive else None)
    return [a * c for a, c in zip(inputs, pullback(part, inputs, s))]


@rule
def gamma(part, inputs, output, R, gamma=0.25, eps=EPS, bias=True):
    """LRP-gamma: R_j = sum_k a_j (w_jk + gamma w_jk+) / sum_j (a_j (w_jk + gamma w_jk+)) R_k, for a_j >= 0.

    Montavon et al. (2019, doi:10.1007/978-3-030-28954-6_10), section 10.2.1. Inputs of both signs as zennit's
    generalization has them: where z_k > 0, positive contributions are favoured, where z_k < 0 negative ones.
    """
    (a,), (w, b) = inputs, _weights(part, bias)
    up, down = w + gamma * positive(w), w + gamma * negative(w)
    b_up, b_down = (None, None) if b is None else (b + gamma * positive(b), b + gamma * negative(b))
    keeps_bias = bias or _bias_of(part) is None
    if part.only_active and keeps_bias:
        return [shares(part, a, up, down, b_up, R, eps)]
    z = output if keeps_bias else output - _bias_of(part)
    above, below = where_positive(z, R), where_positive(-z, R)
    raised = shares(part, a, up, down, b_up, above, eps)
    # under a ReLU, no relevance comes to what is below 0, and half of the work is saved
    lowered = if_any(below != 0, lambda: shares(part, a, down, up, b_down, below, eps), lambda: tf.zeros_like(a))
    return [raised + lowered]


@rule
def alpha_beta(part, inputs, output, R, alpha=2.0, beta=1.0, eps=EPS, bias=True):
    """LRP-alpha-beta: R_j = sum_k (alpha (a_j w_jk)+ / z_k+  -  beta (a_j w_jk)- / z_k-) R_k, alpha - beta = 1.

    Bach et al. (2015), equation 60; z_k+ and z_k- are the sums of the positive and of the negative contributions,
    the bias among them. Not conservative at a unit that has only one kind.
    """
    if abs(alpha - beta - 1) > 1e-9 or beta < 0:
        raise ValueError(f"alpha - beta must be 1, and beta not below 0. Received: alpha={alpha}, beta={beta}.")
    (a,), (w, b) = inputs, _weights(part, bias)
    excites = shares(part, a, positive(w), negative(w), positive(b), alpha * R, eps, sign=1)
    if beta == 0:
        return [excites]
    return [excites + shares(part, a, negative(w), positive(w), negative(b), -beta * R, eps, sign=-1)]


@rule
def z_plus(part, inputs, output, R, eps=EPS, bias=False):
    """z+: R_j = sum_k (a_j w_jk)+ / sum_j (a_j w_jk)+ R_k.

    Montavon et al. (2017, doi:10.1016/j.patcog.2016.11.008), equation 17 of deep Taylor decomposition, for a_j >= 0;
    written for contributions, it takes inputs of both signs. Equal to alpha_beta(1, 0).
    """
    (a,), (w, b) = inputs, _weights(part, bias)
    return [shares(part, a, positive(w), negative(w), positive(b), R, eps, sign=1)]


@rule
def z_box(part, inputs, output, R, low=0.0, high=1.0, eps=EPS):
    """z-box: R_j = sum_k (a_j w_jk - l_j w_jk+ - h_j w_jk-) / sum_j (the same) R_k, for inputs in [l_j, h_j].

    Montavon et al. (2017), equation 19; for the first layer, where inputs are pixels. `low` and `high` are numbers,
    or arrays that broadcast over an image, such as one number for each channel. Biases play no part: of b - b+ - b-
    nothing is left.
    """
    (a,), (w, _) = inputs, _weights(part, False)
    z = output if _bias_of(part) is None else output - _bias_of(part)
    corners = [
        (tf.broadcast_to(tf.constant(bound, a.dtype), tf.shape(a)[1:])[None], kernel)
        for bound, kernel in ((low, positive(w)), (high, negative(w)))
        if np.any(bound)  # most often low is 0
    ]
    s = divide(R, z - sum(part.map(corner, kernel) for corner, kernel in corners), eps)
    lower = a * pullback(part, inputs, s)[0]
    for corner, kernel in corners:
        lower -= corner * pullback(lambda t, kernel=kernel: part.map(t, kernel), inputs, s)[0]
    return [lower]


@rule
def w_square(part, inputs, output, R, eps=EPS, bias=False):
    """w-square: R_j = sum_k w_jk^2 / sum_j w_jk^2 R_k, for inputs without bounds.

    Montavon et al. (2017), equation 13. The value of the input plays no part. With `bias`, b_k^2 joins the sum.
    """
    w, b = _weights(part, bias)
    return _by_weight(part, inputs, tf.square(w), None if b is None else tf.square(b), R, eps)


@rule
def flat(part, inputs, output, R, eps=EPS, bias=False):
    """Flat: R_j = sum_k 1 / sum_j 1 R_k: all inputs that the unit sees get the same.

    Lapuschkin et al. (2019, doi:10.1038/s41467-019-08987-4), supplement.
    """
    w, b = _weights(part, bias)
    return _by_weight(part, inputs, tf.ones_like(w), None if b is None else tf.ones_like(b), R, eps)


# --- relevance through all other parts


@rule
def through(part, inputs, output, R):
    """R_j = R_k: relevance stays where it is, at an activation for example."""
    return [R]


@rule
def signal(part, inputs, output, R):
    """All of R to the first input: in a product the signal takes it, the gates get nothing (a convention: see
    Arras et al., 2017, arXiv:1706.07206, section 3.2)."""
    if inputs[0].shape[1:] != output.shape[1:]:
        raise ValueError(f"The first input of {part.layer.name!r} is not of its output's shape, so it is no signal.")
    return [R, *(tf.zeros_like(gate) for gate in inputs[1:])]


# --- DeepLIFT: `part.reference` is (x', y'), the inputs of the part and its output at the reference, in one row for all
# images or in one for each


@rule
def rescale(part, inputs, output, R):
    """DeepLIFT's rescale rule: m_j = (y - y') / (x - x') m_k, the gradient where x - x' is next to nothing.

    Shrikumar, Greenside and Kundaje (2017, arXiv:1704.02685), section 3.5.2; R is the multiplier m_k.
    """
    (x,), ((x_ref,), y_ref) = inputs, part.reference
    return [ratio(R * (output - y_ref), x - x_ref, otherwise=pullback(part, inputs, R)[0])]


@rule
def rescale_max(part, inputs, output, R):
    """Rescale at a maximum: the difference of two maxima goes to the winner of the image and that of the reference.

    With t = max(y, y'), the image's winner accounts for t - y', the reference's for y - t, both over x - x'; so the
    parts sum to y - y'. As captum does it.
    """
    references, y_ref = part.reference
    references = [tf.broadcast_to(x_ref, tf.shape(x)) for x_ref, x in zip(references, inputs)]
    top = tf.maximum(output, y_ref)
    at_image, at_reference = pullback(part, inputs, R * (top - y_ref)), pullback(part, references, R * (output - top))
    plain = pullback(part, inputs, R)
    return [
        ratio(one + other, x - x_ref, otherwise=slope)
        for one, other, x, x_ref, slope in zip(at_image, at_reference, inputs, references, plain)
    ]


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
        others = sum(functools.reduce(tf.multiply, some) for some in (factors, references)) / 2
        R, back = pullback(tf.multiply, [others, last], R)
        lower.insert(0, back)
    return [R, *lower]


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


# --- what the rules are made of


def pullback(function, inputs, upper):
    """The vector-Jacobian product: `upper` taken back through `function` at `inputs`; a list, one for each input."""
    if len(inputs) > 1:
        inputs = [tf.identity(x) for x in inputs]  # a tensor that comes in twice counts once each time
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(inputs)
        output = function(*inputs)
    return tape.gradient(output, inputs, upper, unconnected_gradients="zero")


def positive(x):
    return None if x is None else tf.maximum(x, tf.zeros((), x.dtype))


def negative(x):
    return None if x is None else tf.minimum(x, tf.zeros((), x.dtype))


_absorbed = []  # where `divide` notes what the stabiliser takes, while `absorption` is open


def divide(R, z, eps, sign=None):
    """R / (z + eps sign(z)) with sign(0) = 1; `sign`, where it is known that all z are at least 0, or at most 0."""
    if sign is None:
        sign = tf.sign(z + np.finfo(z.dtype.as_numpy_dtype).tiny)  # 1 at 0; tf.where takes twice the time
    s = R / (z + tf.constant(eps, z.dtype) * sign)
    if _absorbed:
        _absorbed[-1].append(R - s * z)
    return s


@contextlib.contextmanager
def absorption():
    """Collect, in a list, the relevance that stabilisers take: R - s z for each division inside."""
    _absorbed.append([])
    try:
        yield _absorbed[-1]
    finally:
        _absorbed.pop()


def where_positive(z, R):
    """R where z > 0, and 0 elsewhere."""
    return tf.raw_ops.ReluGrad(gradients=R, features=z)


def if_any(condition, then, otherwise):
    """`then()` if `condition` holds anywhere, or else `otherwise()`; only one of the two is computed."""
    return tf.cond(tf.reduce_any(condition), then, otherwise)


def shares(part, a, up, down, b, R, eps, sign=None):
    """R in proportion to the terms (a)+ up + (a)- down (+ b): kernel `up` for positive inputs, `down` for negative.

    `sign`, where it is known, is that of all terms.
    """

    def of(terms):
        z = sum(part.map(x, kernel) for x, kernel in terms)
        s = divide(R, z if b is None else z + b, eps, sign)
        return sum(x * pullback(lambda t, kernel=kernel: part.map(t, kernel), [x], s)[0] for x, kernel in terms)

    if part.inputs_are_positive:
        return of([(a, up)])
    return if_any(a < 0, lambda: of([(positive(a), up), (negative(a), down)]), lambda: of([(a, up)]))


def ratio(difference, by, otherwise):
    """difference / by, and `otherwise` where `by` is below `NEAR`."""
    # tf.where, which broadcasts, takes twice the time
    return tf.raw_ops.Select(condition=tf.abs(by) < NEAR, x=otherwise, y=difference / by)


def _weights(part, bias):
    if not hasattr(part, "weights"):
        raise ValueError(
            f"The rule needs a kernel, and {part.layer.name!r} is a part of kind {type(part).__name__}, without one. "
            "Expected there: epsilon, through, or None for the gradient."
        )
    w, b = part.weights()
    return w, b if bias else None


def _bias_of(part):
    return part.weights()[1] if hasattr(part, "weights") else None


def _by_weight(part, inputs, w, b, R, eps):
    ones = tf.ones_like(inputs[0])
    z = part.map(ones, w)
    return pullback(lambda t: part.map(t, w), [ones], divide(R, z if b is None else z + b, eps))
