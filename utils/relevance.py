"""Explanations by backward rules: one forward pass, and a backward pass in which each part follows its rule.

All take the arguments that `attributions` describes, and are called from there.
"""

import collections
import warnings

import keras
import numpy as np
import tensorflow as tf

from utils import composites, rules
from utils.network import checked, warn_where_empty
from utils.parts import ReLU
from utils.surgery import at_reference, gradients_forgotten, with_rules


def lrp(
    model,
    x,
    target=None,
    composite=composites.EPSILON_PLUS,
    layer=None,
    *,
    explain="logit",
    batch_size=None,
):
    """Layer-wise relevance propagation: the score, handed down layer by layer by the rules of a composite.

        R_j = sum_k (share of input j in z_k) R_k,  beginning with f_c(x)

    Bach et al. (2015, doi:10.1371/journal.pone.0130140). The map sums to the score but for what biases and
    stabilisers take: see `relevance_ledger`. Batch normalization is folded into the linear part before it.

    Args:
        composite: a table from `composites`, its name, or your own.
        layer: the name of a layer: return the relevance of its output instead of that of the input.
    """
    network, x, target = checked(model, x, target, explain, batch_size)
    composite = named(composite)
    _check_box(x, composite)
    return _backward(network, x, target, composite, "score", batch_size, layer)


def deep_taylor(model, x, target=None, low=0.0, high=1.0, layer=None, *, explain="logit", batch_size=None):
    """Deep Taylor decomposition: the z-box rule at the pixels, z-plus above, w-square where pixels have no bounds.

    Montavon et al. (2017, doi:10.1016/j.patcog.2016.11.008), equations 13, 17 and 19. On a chain of layers no map has
    a negative value if the score is positive. Where branches are added (a residual sum) and one of them is negative,
    there can be negative values: the root point of the sum gives that branch a share with its sign.

    Args:
        low, high: the bounds of the pixels, numbers or arrays that broadcast over an image; both None for no bounds.
        layer: as in `lrp`.
    """
    if (low is None) != (high is None):
        raise ValueError(f"low and high are both bounds or both None. Received: {low!r} and {high!r}.")
    composite = composites.DEEP_TAYLOR_UNBOUNDED
    network, x, target = checked(model, x, target, explain, batch_size)
    if low is not None:
        low, high = np.asarray(low, network.dtype), np.asarray(high, network.dtype)
        composite = {composites.FIRST: rules.z_box(low=low, high=high)} | composites.DEEP_TAYLOR
        _check_box(x, composite)
    return _backward(network, x, target, composite, "score", batch_size, layer)


def _check_box(x, composite):
    """Raise unless the images lie in the box of the z-box rule, where a composite has that for the first layer."""
    rule = composite.get(composites.FIRST)
    if getattr(rule, "func", rule) is not rules.z_box:
        return
    given = {"low": 0.0, "high": 1.0} | getattr(rule, "keywords", {})
    low, high = np.asarray(given["low"], x.dtype), np.asarray(given["high"], x.dtype)
    try:
        inside = np.all(low < high) and np.all(x >= low) and np.all(x <= high)
    except ValueError:  # bounds for what a layer makes of the pixels, of another shape
        inside = np.all(low < high)
    if not inside:
        raise ValueError(
            f"x must lie between low and high. Received: x from {x.min():.4g} to {x.max():.4g}, bounds {low} and "
            f"{high}. Give the bounds of your pixels, z_box(low=, high=), or choose another first rule: w_square is "
            "for pixels without bounds (deep_taylor: low=None, high=None)."
        )


def guided_backprop(model, x, target=None, *, explain="logit", batch_size=None):
    """Guided backpropagation: the gradient, in which a ReLU passes only what is positive, forward and backward.

        g_j = [a_j > 0] max(0, g_k)

    Springenberg et al. (2015, arXiv:1412.6806). Only ReLUs (relu, relu6) are changed; other activations keep
    their gradient.
    """
    network, x, target = checked(model, x, target, explain, batch_size)
    return _backward(network, x, target, composites.GUIDED, "one", batch_size)


def deconvolution(model, x, target=None, *, explain="logit", batch_size=None):
    """Deconvolution: the gradient, in which a ReLU passes what is positive on the way back, whatever went forward.

        g_j = max(0, g_k)

    Zeiler and Fergus (2014, arXiv:1311.2901); max-pooling goes back through its switches. Only ReLUs are changed.
    """
    network, x, target = checked(model, x, target, explain, batch_size)
    return _backward(network, x, target, composites.DECONVOLUTION, "one", batch_size)


def deeplift(
    model,
    x,
    target=None,
    baseline=None,
    rule="rescale",
    *,
    explain="logit",
    batch_size=None,
    return_completeness_error=False,
):
    """DeepLIFT: differences from a reference, handed down so that they sum to the difference of the scores.

        R_i = m_i (x_i - x'_i),  sum_i R_i = f_c(x) - f_c(x')

    Shrikumar, Greenside and Kundaje (2017, arXiv:1704.02685), sections 3.2 and 3.5.

    Args:
        baseline: x', the reference: None for zeros, a number, one image, or one image for each of x.
        rule: "rescale" or "reveal_cancel".
        return_completeness_error: also return `[n]`, the sum of R minus (f_c(x) - f_c(x')), in the score's unit.
    """
    if rule not in ("rescale", "reveal_cancel"):
        raise ValueError(f"There is no such rule. Received: {rule!r}. Expected: 'rescale' or 'reveal_cancel'.")
    network, x, target = checked(model, x, target, explain, batch_size)
    references = network.baselines(baseline, x)
    shared = len(x) == 1 or np.ndim(baseline) < x.ndim or len(baseline) == 1 or baseline is None
    run = _compiled(network, composites.deeplift_composite(rule), "one", None, references=True)
    R, size = np.zeros_like(x), network.batch_size(batch_size, x)
    for k in range(0, len(x), size):
        part = slice(k, k + size)
        R[part] = run(x[part], references[:1] if shared else references[part], target[part])
    network.refuse_unless_finite(R, "multipliers")
    R *= x - references
    if not return_completeness_error:
        return R
    return R, network.completeness_error(R, x, references, target, batch_size)


LedgerRow = collections.namedtuple("LedgerRow", "layer kind incoming inputs bias stabiliser")


def relevance_ledger(model, x, target=None, composite=composites.EPSILON_PLUS, *, explain="logit"):
    """Where relevance goes: for each part of the network, what came in and who got it.

    Args:
        composite: as in `lrp`.

    Returns:
        A list of rows, from the output down to the input: `layer` (its name), `kind` (of part), and four arrays
        `[n]`, sums over the part: `incoming`, `inputs` (what goes on), `stabiliser` (what eps takes) and `bias` (the
        rest: what biases take). inputs + bias + stabiliser = incoming. A layer with an activation has two rows.
    """
    network, x, target = checked(model, x, target, explain, None)
    rows = []

    def recorded(rule):
        def record(part, inputs, output, R):
            with rules.absorption() as absorbed:
                lower = rules.pullback(part, inputs, R) if rule is None else rule(part, inputs, output, R)
            incoming, going, taken = (_sums(tensors, len(x)) for tensors in ([R], lower, absorbed))
            kind = type(part).__name__
            rows.append(LedgerRow(part.layer.name, kind, incoming, going, incoming - going - taken, taken))
            return lower

        record.func = getattr(rule, "func", rule)  # by which it is known, like a rule with parameters
        return record

    composite = named(composite)
    _check_box(x, composite)
    table = {test: recorded(rule) for test, rule in composite.items()}
    rebuilt = with_rules(network.model, table)
    _check_values(network, rebuilt, None)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        points = tf.constant(x)
        tape.watch(points)
        scores = rebuilt(points, training=False)
    tape.gradient(scores, points, tf.one_hot(target, network.classes, dtype=scores.dtype) * scores)
    return rows


def named(composite):
    """The composite of that name; a composite itself stays as it is."""
    if isinstance(composite, dict):
        return composite
    if not isinstance(composite, str) or composite not in composites.NAMED:
        raise ValueError(
            f"There is no such composite. Received: {composite!r}. Expected: a dictionary of rules, or one of: "
            f"{', '.join(composites.NAMED)}."
        )
    return composites.NAMED[composite]


def _sums(tensors, n):
    return sum((tf.reduce_sum(tf.reshape(t, (n, -1)), 1).numpy() for t in tensors), np.zeros(n))


def _backward(network, x, target, composite, seed, batch_size, layer=None):
    """The map of each image, in chunks: of the input, or of the output of `layer`."""
    run = _compiled(network, composite, seed, layer)
    size = network.batch_size(batch_size, x)
    chunks = [run(x[k : k + size], target[k : k + size]) for k in range(0, len(x), size)]
    R = np.concatenate([chunk.numpy() for chunk in chunks]) if chunks else np.zeros_like(x)
    network.refuse_unless_finite(R, "relevances")
    if seed == "score":
        advice = "Is its score 0, or so small that stabilisers or biases take all of it? relevance_ledger knows."
        warn_where_empty(R, advice, stacklevel=3)
    return R


def _compiled(network, composite, seed, layer, references=False):
    """A compiled function of (images, targets), with `references` of (images, references, targets); made once."""
    key = composites.key_of(composite), seed, layer, references
    return network.once(key, lambda: _compile(network, composite, seed, layer, references))


def _compile(network, composite, seed, layer, references):
    rebuilt = with_rules(network.model, composite, from_scores=True)
    relus = [inner for inner in rebuilt.layers if isinstance(getattr(inner, "part", None), ReLU)]
    if composite in (composites.GUIDED, composites.DECONVOLUTION) and not relus:
        warnings.warn(f"{network.name!r} has no ReLU, so this map is its gradient.", stacklevel=5)
    if layer is not None:
        inner = rebuilt.layer_outputs.get(layer)
        if inner is None:
            names = [name for name, tensor in rebuilt.layer_outputs.items() if tensor is not None]
            state = (
                "is merged with the next, or stands in several places"
                if layer in rebuilt.layer_outputs
                else "is not there"
            )
            raise ValueError(f"The layer {layer!r} {state}. Expected one of: {', '.join(names)}.")
        rebuilt = keras.Model(rebuilt.inputs[0], [rebuilt.outputs[0], inner])

    def of_images(x, target):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            outputs = rebuilt(x, training=False)
        scores, point = (outputs, x) if layer is None else outputs
        start = tf.one_hot(target, network.classes, dtype=scores.dtype)
        return tape.gradient(scores, point, start * scores if seed == "score" else start)

    def of_images_and_references(x, others, target):
        with at_reference():
            rebuilt(others, training=False)
        return of_images(x, target)

    _check_values(network, rebuilt, layer)
    images, labels = network.spec, tf.TensorSpec([None], "int64")
    function = of_images_and_references if references else of_images
    signature = [images, images, labels] if references else [images, labels]
    with gradients_forgotten():
        return tf.function(function, input_signature=signature, autograph=False).get_concrete_function()


def _check_values(network, rebuilt, layer):
    """Raise unless the rebuilt model computes what the model computes: on noise, once for each composite."""
    shape = [size or 32 for size in network.shape]
    x = np.random.default_rng(0).random((2, *shape)).astype(network.dtype)
    ours = rebuilt(x, training=False)
    ours, theirs = np.asarray(ours[0] if layer is not None else ours), network.scores(x)
    network.check_outputs(x, theirs)
    if not np.allclose(ours, theirs, rtol=1e-3, atol=1e-3 * np.abs(theirs).max()):
        raise ValueError(
            f"The parts of {network.name!r} do not compute what the model computes: scores differ by up to "
            f"{np.abs(ours - theirs).max():.3g}. A layer of it does something that `utils.parts` does not know."
        )
