"""What a tensor of a trace comes from: a gate or a signal, pixels with which bounds."""

import tensorflow as tf

from .parts import (
    AUGMENTATION,
    DROPOUT,
    Affine,
    Mixing,
    ReLU,
    Routing,
    Through,
    UnsupportedLayerError,
    inherits_call,
    is_gate,
)

HARMLESS = (*DROPOUT, *AUGMENTATION)  # layers that do nothing to an image when a model is used


def signal_of(factors, made):
    """Which factor of a product is the signal: the only one that is no gate; None where nothing tells.

    A gate comes out of a sigmoid, a hard sigmoid or a softmax, or has the smaller shape.

    Args:
        factors: the tensors that are multiplied.
        made: id of a tensor -> the step that made it.
    """
    full = [max(sizes, key=lambda size: size or 0) for sizes in zip(*(x.shape[1:] for x in factors))]
    smaller = [any(a == 1 != b for a, b in zip(x.shape[1:], full)) for x in factors]
    signals = [k for k, x in enumerate(factors) if not (smaller[k] or _comes_from_gate(x, made))]
    return signals[0] if len(signals) == 1 else None


def _comes_from_gate(x, made):
    """Whether `x` comes out of a gate, be it moved or scaled since then."""
    step, scaled = made.get(id(x)), False
    while step is not None and isinstance(step.part, (Routing, Through)):
        scaled = scaled or isinstance(step.part, Through)
        step = made.get(id(step.inputs[0]))
    return step is not None and is_gate(step.part, scaled)


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
    # a ReLU leaves what is between 0 and a bound there
    moved = [s for s in steps if not isinstance(s.part, (Routing, ReLU)) and not inherits_call(s.part.layer, HARMLESS)]
    if not moved:
        return low, high
    for step in moved:
        if not isinstance(step.part, (Affine, Through, Mixing)) or len(step.inputs) > 1 or _overshoots(step.part):
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
