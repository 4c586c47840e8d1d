"""Explanations by backward rules: one forward pass, and a backward pass in which each part follows its rule.

All take the arguments that `attributions` describes, and are called from there.
"""

import collections

import numpy as np
import tensorflow as tf

from . import composites, rules
from .checks import one_of, refuse_unless_finite, warn, warn_where_empty
from .composites import checked_composite
from .outputs import refuse_other_values
from .parts import ReLU
from .scores import LABELS, checked
from .trace import Trace

ABSORBED = 0.05  # the share of a score above which what stabilisers take is worth a warning
CANCELS = 1000  # how many times the score the absolute relevance may be before that is worth one


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
    f, x, target = checked(model, x, target, explain, batch_size)
    return _backward(f, x, target, composite, "score", batch_size, layer)


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
    f, x, target = checked(model, x, target, explain, batch_size)
    if low is not None:
        low, high = np.asarray(low, f.dtype), np.asarray(high, f.dtype)
        composite = {composites.FIRST: rules.z_box(low=low, high=high)} | composites.DEEP_TAYLOR
    return _backward(f, x, target, composite, "score", batch_size, layer)


def _check_boxes(x, boxes):
    """Raise unless the images lie in the boxes `(low, high)` of z-box rules that read pixels."""
    for bounds in boxes:
        low, high = (np.asarray(bound, x.dtype) for bound in bounds)
        try:
            inside = np.all(low < high) and np.all(x >= low) and np.all(x <= high)
        except ValueError:  # bounds for what a layer makes of the pixels, of another shape
            inside = np.all(low < high)
        if not inside:
            raise ValueError(
                f"x must lie between low and high. Received: x from {x.min():.4g} to {x.max():.4g}, bounds {low} and "
                f"{high}. Give the bounds of your pixels, z_box(low=, high=), or choose another first rule: w_square "
                "is for pixels without bounds (deep_taylor: low=None, high=None)."
            )


def guided_backprop(model, x, target=None, *, explain="logit", batch_size=None):
    """Guided backpropagation: the gradient, in which a ReLU passes only what is positive, forward and backward.

        g_j = [a_j > 0] max(0, g_k)

    Springenberg et al. (2015, arXiv:1412.6806). Only ReLUs (relu, relu6) are changed; other activations keep
    their gradient.
    """
    f, x, target = checked(model, x, target, explain, batch_size)
    return _backward(f, x, target, composites.GUIDED, "one", batch_size)


def deconvolution(model, x, target=None, *, explain="logit", batch_size=None):
    """Deconvolution: the gradient, in which a ReLU passes what is positive on the way back, whatever went forward.

        g_j = max(0, g_k)

    Zeiler and Fergus (2014, arXiv:1311.2901); max-pooling goes back through its switches. Only ReLUs are changed.
    """
    f, x, target = checked(model, x, target, explain, batch_size)
    return _backward(f, x, target, composites.DECONVOLUTION, "one", batch_size)


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
    table = checked_composite(composites.deeplift_composite(one_of(rule, "rule", ("rescale", "reveal_cancel"))))
    f, x, target = checked(model, x, target, explain, batch_size)
    references = f.baselines(baseline, x)
    shared = len(x) == 1 or np.ndim(baseline) < x.ndim or len(baseline) == 1 or baseline is None

    def relevance(x, target, references):
        trace = Trace(f.model, x, table, explain="output")
        beside = trace.beside(Trace(f.model, references, table, explain="output"))
        return trace.scores, beside.relevance(tf.one_hot(target, f.classes, dtype=trace.scores.dtype))

    run = _compiled(f, ("deeplift", composites.key_of(table)), relevance, LABELS, f.spec)
    if shared and len(x):
        _, R = f.in_batches(lambda x, target: run(x, target, references[:1]), x, target, batch_size=batch_size)
    else:
        _, R = f.in_batches(run, x, target, references, batch_size=batch_size)
    refuse_unless_finite(R, "multipliers", f.name)
    R = R * (x - references)
    if not return_completeness_error:
        return R
    return R, f.completeness_error(R, x, references, target, batch_size)


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
    f, x, target = checked(model, x, target, explain, None)
    trace = Trace(f.model, x, composite, explain="output")
    _check_boxes(x, trace.boxes)
    _check_values(f, x, trace.scores)
    rows = []
    for step, R, lower, absorbed in trace.back(_start(trace.scores, target), ledger=True):
        incoming, inputs, stabiliser = (
            _sums(tensors, len(x)) for tensors in ([R], lower, [taken for taken, _ in absorbed])
        )
        kind = type(step.part).__name__
        rows.append(LedgerRow(step.part.layer.name, kind, incoming, inputs, incoming - inputs - stabiliser, stabiliser))
    return rows


def _sums(tensors, n):
    return sum((tf.reduce_sum(tf.reshape(t, (n, -1)), 1).numpy() for t in tensors if t is not None), np.zeros(n))


def _start(scores, target):
    """The relevance of the scores: each image's own score for its `target`, 0 for the others."""
    return tf.one_hot(target, scores.shape[1], dtype=scores.dtype) * scores


def _backward(f, x, target, composite, seed, batch_size, layer=None):
    """The map of each image, of the input or of the output of `layer`."""
    composite, boxes = checked_composite(composite), []

    def relevance(x, target):
        trace = Trace(f.model, x, composite, explain="output")
        if composite in (composites.GUIDED, composites.DECONVOLUTION):
            _warn_without_relus(f, trace)
        boxes.extend(trace.boxes)
        start = _start(trace.scores, target)
        start = start if seed == "score" else tf.one_hot(target, f.classes, dtype=trace.scores.dtype)
        return trace.scores, trace.relevance(start, layer)

    run = _compiled(f, (composites.key_of(composite), seed, layer), relevance, LABELS)
    run.boxes = run.boxes or boxes  # of the trace that has been compiled
    if len(x):
        _check_boxes(x, run.boxes)
    scores, R = f.in_batches(run, x, target, batch_size=batch_size)
    refuse_unless_finite(R, "relevances", f.name)
    if seed == "score" and len(x):
        warn_where_empty(
            R, "Is its score 0, or so small that stabilisers or biases take all of it? relevance_ledger knows."
        )
        _warn_of_losses(f, run, R, scores, x, target, composite, layer)
    return R


def _warn_without_relus(f, trace):
    if not any(isinstance(step.part, ReLU) for step in trace.steps):
        warn(f"{f.name!r} has no ReLU, so this map is its gradient.")


class _Compiled:
    """A compiled function of (images, ...) -> (scores, maps), whose first scores are compared with the model's own."""

    def __init__(self, f, function):
        self.f, self.function = f, function
        self.checked, self.boxes = False, ()
        self.explained_loss = 0.0  # the largest loss of relevance that turned out not to be the stabilisers'

    def __call__(self, x, *others):
        scores, maps = self.function(x, *others)
        if not self.checked:
            _check_values(self.f, x, scores)
            self.checked = True
        return scores, maps


def _compiled(f, key, function, *more):
    """A `_Compiled` of `function`, of (images, ...) with the specifications `more`; made once for `key`."""
    return f.compiled(key, lambda: _Compiled(f, f.concrete(function, *more)))


def _check_values(f, x, scores):
    """Raise unless the parts compute what the model computes of the images `x`."""
    theirs = f.model(x, training=False)  # not compiled: that would take longer than all of this
    f.check_outputs(x, theirs, compiled=False)
    refuse_other_values(scores, theirs, f"The parts of {f.name!r} do not compute what the model computes", 1e-3)


def _warn_of_losses(f, run, R, scores, x, target, composite, layer):
    """Warn where stabilisers take more than `ABSORBED` of a score, or where relevance far larger than it cancels."""
    score = scores[np.arange(len(scores)), target].astype("float64")
    flat = R.reshape(len(R), -1)
    total, size, unit = flat.sum(1, dtype="float64"), np.abs(flat).sum(1, dtype="float64"), np.abs(score)
    lost = np.abs(score - total)
    if not (lost > ABSORBED * unit).any() and not (size > CANCELS * unit).any():
        return
    unit = np.where(unit == 0, np.inf, unit)  # a score of 0 has an empty map
    worst = int(np.argmax(size / unit))
    if size[worst] > CANCELS * unit[worst]:
        warn(
            f"The absolute relevance of image {worst} is {size[worst] / unit[worst]:.3g} times its score of "
            f"{score[worst]:.3g}: large terms of both signs cancel, and the map shows them, not the score. A larger "
            "stabiliser, epsilon(0.01, relative=True), or z_plus damps them; relevance_ledger shows where they arise."
        )
    worst = int(np.argmax(lost / unit))
    loss = lost[worst] / unit[worst]
    if loss <= max(ABSORBED, 1.5 * run.explained_loss):
        return
    # biases take relevance too, and rightly: only a ledger tells which of the two it was
    trace = Trace(f.model, x[worst : worst + 1], composite, explain="output")
    taken = 0.0
    for passage in trace.back(_start(trace.scores, target[worst : worst + 1]), ledger=True):
        if layer is not None and passage.step.output is trace.outputs[layer]:
            break
        # where a unit has no contributions at all, as of one sign in alpha-beta, that is not the stabiliser's doing
        taken += sum(float(tf.reduce_sum(all_of_it - of_nothing)) for all_of_it, of_nothing in passage.absorbed)
    if abs(taken) > ABSORBED * abs(score[worst]):
        warn(
            f"Stabilisers take {abs(taken / score[worst]):.0%} of the score {score[worst]:.3g} of image {worst}: they "
            "are large beside what the layers compute. epsilon(1e-6, relative=True), and relative=True in the other "
            "rules, measures them by each layer's values; relevance_ledger shows where they take it."
        )
    else:
        run.explained_loss = loss
