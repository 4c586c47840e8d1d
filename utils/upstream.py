"""What a tensor of a trace comes from: a gate or a signal, pixels with which bounds."""

import numpy as np
import tensorflow as tf

from .parts import (
    AUGMENTATION,
    DROPOUT,
    Affine,
    Mixing,
    Product,
    ReLU,
    Routing,
    Through,
    UnsupportedLayerError,
    inherits_call,
    is_gate,
)

HARMLESS = (*DROPOUT, *AUGMENTATION)  # layers that do nothing to an image at inference


def signal_of(factors, made):
    """Which factor of a product is the signal: the only one that is no gate; None where nothing tells.

    A gate comes out of a sigmoid, a hard sigmoid or a softmax, or has the smaller shape.

    Args:
        factors: the tensors that are multiplied.
        made: id of a tensor -> the step that made it.
    """
    rank = max(x.shape.rank for x in factors)
    # as Keras's Multiply: a factor of fewer axes gets new ones behind the first; an unknown size is no 1
    shapes = [[1] * (rank - x.shape.rank) + [0 if n is None else n for n in x.shape[1:]] for x in factors]
    full = [next((n for n in sizes if n != 1), 1) for sizes in zip(*shapes)]
    smaller = [any(a == 1 != b for a, b in zip(shape, full)) for shape in shapes]
    signals = [k for k, x in enumerate(factors) if not (smaller[k] or _comes_from_gate(x, made))]
    return signals[0] if len(signals) == 1 else None


def _comes_from_gate(x, made, scaled=False):
    """Whether `x` comes out of a gate, or a product of gates, be it moved or scaled since then, or taken from 1."""
    step = made.get(id(x))
    if step is None:
        return False
    from_one = type(step.part.layer).__name__ == "Subtract" and len(step.inputs) == 1
    if isinstance(step.part, (Routing, Through, Product)) or from_one:
        scaled = scaled or (isinstance(step.part, Through) and not inherits_call(step.part.layer, HARMLESS))
        return all(_comes_from_gate(below, made, scaled) for below in step.inputs)
    return is_gate(step.part, scaled)


def bounds_at(tensor, low, high, made, first):
    """The bounds of pixels, as they are in `tensor`: behind a rescaling, they are rescaled too.

    Args:
        tensor: the input of the part `first`, which has the z-box rule.
        low, high: the bounds of the pixels, numbers or arrays that broadcast over an image.
        made: id of a tensor -> the step that made it.
    """
    steps = []
    while id(tensor) in made:
        steps.insert(0, made[id(tensor)])
        tensor = steps[0].inputs[0]
    steps = [step for step in steps if not inherits_call(step.part.layer, HARMLESS)]
    # a number bounds pixels wherever they are moved to
    moved = not all(isinstance(step.part, Routing) for step in steps)
    if not steps or not (moved or np.ndim(low) or np.ndim(high)):
        return low, high
    for step in steps:
        grows = isinstance(step.part, (Affine, Through, Mixing, Routing, ReLU))
        if not grows or len(step.inputs) > 1 or _overshoots(step.part):
            raise UnsupportedLayerError(
                f"The z-box rule of {first.layer.name!r} needs the bounds of its inputs, and {step.part.layer.name!r} "
                f"({type(step.part.layer).__name__}) changes the pixels before it in a way that has none. Choose "
                "another first rule: {FIRST: w_square()} | composite; deep_taylor: low=None, high=None."
            )
    shape = tf.shape(tensor)[1:]  # the pixels
    low, high = (tf.broadcast_to(tf.convert_to_tensor(bound, tensor.dtype), shape)[None] for bound in (low, high))
    for step in steps:
        low, high = step.part(low), step.part(high)
        low, high = tf.minimum(low, high), tf.maximum(low, high)
    return low[0], high[0]


def _overshoots(part):
    """Whether weights below 0 take part, so that what is between two bounds can leave them."""
    overshoots = getattr(part.layer, "interpolation", "") in ("bicubic", "lanczos3", "lanczos5")
    return isinstance(part, Mixing) and (overshoots or type(part.layer).__name__ == "Subtract")
