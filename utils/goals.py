"""What activation maximization maximizes: a class or a unit, one for each image."""

import numpy as np
import tensorflow as tf

from .cam.features import whole
from .checks import as_array, as_many, checked_target, one_of
from .inside.layers import check_walk, outputs_at, place_of
from .logits import head_of


def of_classes(f, model, target, objective):
    """What is asked of a class: a function of (images, rows) that returns `[n]`, and the rows, one for each target.

    Args:
        f: the scores of `model`, its logits.
        target: a class, or k classes, or None.
        objective: "log_probability", "logit", or logits `[classes]` or `[k, classes]` that are to be met.
    """
    if not isinstance(objective, str):
        return (lambda x, goal: -tf.reduce_sum(tf.square(f.compute(x) - goal), 1)), _logits(f, target, objective)
    one_of(objective, "objective", ("log_probability", "logit"))
    if target is None:
        raise ValueError(f"target is missing. Expected: a class from 0 to {f.classes - 1}, or several.")
    n = max(1, as_array(target, "target").size)
    goal = checked_target(target, n, f.classes, f.name)
    if objective == "logit":
        return (lambda x, goal: tf.gather(f.compute(x), goal, axis=1, batch_dims=1)), goal
    # a model that ends in logits is taken to have a softmax behind them, one with a single score a sigmoid
    head = head_of(model) or ("sigmoid" if f.classes == 1 else "softmax")
    log = tf.math.log_sigmoid if head == "sigmoid" else tf.nn.log_softmax
    return (lambda x, goal: tf.gather(log(f.compute(x)), goal, axis=1, batch_dims=1)), goal


def _logits(f, target, objective):
    v = as_array(objective, "objective")
    if v.dtype.kind not in "iuf" or v.ndim not in (1, 2) or v.shape[-1] != f.classes or not np.isfinite(v).all():
        raise ValueError(
            f"objective must be 'log_probability', 'logit', or finite logits [{f.classes}] or [k, {f.classes}]. "
            f"Received: {v.dtype}, shape {v.shape}."
        )
    v = np.atleast_2d(v).astype(f.model.outputs[0].dtype)
    if target is not None:
        own = checked_target(target, max(len(v), as_array(target, "target").size), f.classes, f.name)
        v, own = as_many(objective=v, target=own)
        if (v[np.arange(len(v)), own] < v.max(1)).any():
            raise ValueError(
                f"The logits of objective are not largest at target. Received: target {own.tolist()}, largest at "
                f"{v.argmax(1).tolist()}. The logits say all: leave target out."
            )
    return v


def of_units(f, layer, unit, target, x):
    """As `of_classes`, for units of a layer, behind its activation: a channel's mean, or a channel at one place."""
    if target is not None:
        raise ValueError(f"A unit of {layer!r} is named by unit. Received: target={target!r} as well. Leave it out.")
    place = place_of(f, layer)
    check_walk(f, x)
    shape = tuple(place.output.shape[1:])
    if None in shape:  # a model of images of any size
        shape = tuple(outputs_at(f, [place], tf.constant(x[:1]))[0].shape[1:])
    if not shape or shape[-1] is None:
        raise ValueError(f"{place.layer.name!r} has no known channels. Received: an output {place.output.shape}.")
    listed = unit if isinstance(unit, list) else [unit]
    expected = f"a channel from 0 to {shape[-1] - 1}"
    if len(shape) > 1:
        expected += f", its place and channel in {shape}, or a list of either"
    received = [np.atleast_1d(as_array(one, "unit")) for one in listed]
    one_place = len(shape) > 1 and all(one.shape == (len(shape),) for one in received)
    sizes = shape if one_place else shape[-1:]
    if not received or not all(one.dtype.kind in "iu" and one.shape == (len(sizes),) for one in received):
        raise ValueError(f"unit names no unit of {place.layer.name!r}. Received: {unit!r}. Expected: {expected}.")
    goal = np.stack(received).astype("int64")
    if goal.min() < 0 or (goal.max(0) >= sizes).any():
        raise ValueError(f"{place.layer.name!r} has no such unit. Received: {unit!r}. Expected: {expected}.")

    def answer(x, goal):
        A = whole(outputs_at(f, [place], x)[0])
        A = A if one_place else tf.reduce_mean(A, list(range(1, A.shape.rank - 1)))
        return tf.gather_nd(A, goal, batch_dims=1)

    return answer, goal
