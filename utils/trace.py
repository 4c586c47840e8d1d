"""The forward pass of a model, kept step by step, and the one loop that walks it back."""

import copy
import typing

import keras
import numpy as np
import tensorflow as tf

from . import describe
from .checks import checked_array, one_of
from .composites import checked_composite, kinds_of, refuse_lines_without_effect, tests_for
from .graph import kept_apart, opened, walk
from .logits import Borrowed, logits_of
from .parts import (
    Activation,
    Affine,
    Linear,
    LinearThenActivation,
    Opaque,
    Part,
    Product,
    ReLU,
    Routing,
    Softmax,
    UnsupportedLayerError,
    Weighted,
    can_take_normalization,
    is_positive,
    pads_zeros,
    parts_of,
    rescaling,
    with_normalization,
    with_padding,
)
from .rules import Rule, pullback, through, z_box
from .upstream import bounds_at, signal_of


class Step(typing.NamedTuple):
    """A part at work."""

    part: Part
    rule: Rule | None  # None: the ordinary gradient
    inputs: list
    output: tf.Tensor


class Passage(typing.NamedTuple):
    """What a step was handed on the way back, and what it handed on."""

    step: Step
    incoming: tf.Tensor
    lower: list  # for each input of the step, None for nothing
    absorbed: list | None  # what stabilisers took, if that was asked for


class Trace:
    """What `model` computes of `x`, part by part, with the backward rule of each part.

    `model` is only read. Each layer becomes its parts (see `parts`), and neighbours that are one linear map become one
    part (canonization): a batch normalization behind a linear part, and zero padding before one.

    Args:
        model: a built functional or Sequential Keras model.
        x: images `[n, ...]`, in the range that the model was trained on.
        composite: a table from `composites`, its name, or your own.
        explain: "logit" for the scores before a softmax head, "output" for the model's own output.

    Attributes:
        steps: a list of `Step`, in the order in which they compute.
        scores: what the model computes, `[n, classes]`.
        hidden: a line of the composite that is never reached -> the words for the line before it.
        boxes: pairs of bounds, low and high, of the z-box rules that read pixels.
        outputs: name of a layer -> its output; None where several layers have that name, or where it has been merged
            with the next.

    Raises:
        UnsupportedLayerError: there is no part or no rule for a layer.
        ValueError: the connections of `model` are not known; `composite` is no such table, names a layer that the
            model does not have, or has a line that is never reached.
    """

    def __init__(self, model, x, composite, explain="logit"):
        self.composite = checked_composite(composite)
        self.name = model.name
        network = logits_of(model, verbose=False) if explain == "logit" else model
        one_of(explain, "score to explain", ("logit", "output"))
        first = network.inputs[0]
        if not tf.is_tensor(x):
            x = checked_array(x, "x", tuple(first.shape[1:]), np.dtype(first.dtype), self.name)
            if not len(x):
                raise ValueError("A trace needs at least one image. Received: none.")
        self.x = tf.convert_to_tensor(x, first.dtype)
        self.steps, self.outputs, self.boxes, self.hidden = [], {}, [], {}
        self._made = {}  # id of a tensor -> the step that made it
        self._depth = {}  # id of a tensor -> the number of linear parts on the way to it
        self._merged = set()  # ids of tensors that are no longer read: what made them is part of the next
        (self.scores,) = walk(network, [self.x], self._place, self._note)
        self.outputs = {name: None if id(t) in self._merged else t for name, t in self.outputs.items()}
        refuse_lines_without_effect(self)

    # --- back

    def back(self, R, ledger=False):
        """Hand `R` down from the scores, step by step: the backward pass of every method. Yields a `Passage` for each.

        A step comes after all that read its output, so what has come to it is complete.
        """
        # id of a tensor -> what has come to it so far, and whether none of that came to values of 0 or less
        came = {id(self.scores): (R, False)}
        for step in reversed(self.steps):
            if id(step.output) not in came:
                continue  # it is part of the next, or the scores do not depend on it
            R, only_active = came.pop(id(step.output))
            only_above_zero = only_active and not step.part.output_is_positive
            part = step.part.given(only_active=only_above_zero, absorbed=[] if ledger else None)
            step = step._replace(part=part)
            lower = _handed_down(step, R)
            yield Passage(step, R, lower, part.absorbed)
            for a, r in zip(step.inputs, lower):
                if r is not None:
                    so_far, active_so_far = came.get(id(a), (None, True))
                    active = active_so_far and self._spares_zeros(step, a, only_active)
                    came[id(a)] = r if so_far is None else so_far + r, active

    def _spares_zeros(self, step, a, only_active):
        """Whether what `step` hands to its input `a` is 0 wherever `a` is 0 or less."""
        if step.rule is not None and step.rule.keeps_zeros:
            return id(a) in self._made and self._made[id(a)].part.output_is_positive
        # each output that is above 0 is one of the inputs
        return only_active and isinstance(step.part, (ReLU, Routing)) and step.rule in (None, through)

    def relevance(self, R, layer=None):
        """What comes of `R`, in the shape of the scores, to the input, or to the output of the layer of that name."""
        self.check_layer(layer)
        of_input = None
        for passage in self.back(R):
            if layer is not None and passage.step.output is self.outputs[layer]:
                return passage.incoming
            for a, r in zip(passage.step.inputs, passage.lower):
                if a is self.x and r is not None:
                    of_input = r if of_input is None else of_input + r
        if layer is not None:
            return tf.zeros_like(self.outputs[layer])
        return tf.zeros_like(self.x) if of_input is None else of_input

    def check_layer(self, layer):
        """Raise a ValueError unless `layer` is None or the name of a layer whose output is here."""
        if layer is None or self.outputs.get(layer) is not None:
            return
        names = [name for name, tensor in self.outputs.items() if tensor is not None]
        state = "is merged with the next, or stands in several places" if layer in self.outputs else "is not there"
        raise ValueError(f"The layer {layer!r} {state}. Expected one of: {', '.join(names)}.")

    def beside(self, reference):
        """This trace, with parts that know what they computed in `reference`, a trace of the baseline: for DeepLIFT."""
        pair = copy.copy(self)
        pair.steps = [
            step._replace(part=step.part.given(reference=(other.inputs, other.output)))
            for step, other in zip(self.steps, reference.steps, strict=True)
        ]
        return pair

    def describe(self, target=None):
        """Which rule serves which layer: a table, which prints as text and shows as a table in a notebook.

        Args:
            target: the class whose score is handed down, one class or one for each image; None for the predicted.
        """
        return describe.description(self, target)

    # --- forward

    def _place(self, layer, function, inputs, is_tensor):
        """The output of a layer, part by part; a model, if the layer is made of others that can be looked at."""
        owner = layer.borrowed_from if isinstance(layer, Borrowed) else layer
        of_pixels = all(self._depth.get(id(x), 0) == 0 for x in inputs)
        rescales = rescaling(layer, function, is_tensor, of_pixels)
        try:
            chain = [rescales] if rescales else parts_of(owner, function)
        except UnsupportedLayerError:
            opaque = Opaque(owner, function)
            if tests_for(opaque, False, self.composite):
                chain = [opaque]
            else:
                inner = opened(owner, function, inputs)
                if inner is None:
                    raise
                return inner
        if isinstance(layer, Borrowed) and layer.drop_activation:
            chain = [part for part in chain if not isinstance(part, (Activation, Softmax))]
        if pads_zeros(owner, function):
            chain = [part.given(pads_zeros=True) for part in chain]
        for part in chain:
            part, inputs = self._canonized(part, inputs)
            inputs = [self._emit(part, inputs, has_constants=len(is_tensor) > len(inputs))]
        return inputs[0]

    def _note(self, layer, inputs, output):
        if not isinstance(layer, keras.Model):
            several = layer.name in self.outputs or not tf.is_tensor(output)
            self.outputs[layer.name] = None if several else output

    def _canonized(self, part, inputs):
        """`part` as one with the part below it, where a rule should see both as one, and the inputs of that."""
        below = self._made.get(id(inputs[0]))
        if below is None:
            return part, inputs
        if isinstance(part, Affine) and type(below.part) is Linear and can_take_normalization(below.part):
            merged = with_normalization(below.part, part.layer)
        elif type(part) is Linear and below.part.pads_zeros:
            merged = with_padding(below.part, part)
        elif isinstance(part, Activation) and type(below.part) is Linear and LinearThenActivation in self.composite:
            merged = LinearThenActivation(below.part, part)
        else:
            return part, inputs
        self._merged.add(id(inputs[0]))
        return merged, below.inputs

    def _emit(self, part, inputs, has_constants):
        """The output of a part, kept as a step with the rule that the composite has for it."""
        depth = max((self._depth.get(id(x), 0) for x in inputs), default=0)
        below = [self._made.get(id(x)) for x in inputs]
        part = part.given(
            reads_pixels=depth == 0,
            inputs_are_positive=all(step is not None and step.part.output_is_positive for step in below),
        )
        part = part.given(output_is_positive=is_positive(part) and (isinstance(part, Activation) or not has_constants))
        if isinstance(part, Weighted):
            kernel_and_bias = part.weights()  # computed once, for the way forward and for the rule
            part = part.given(weights=lambda: kernel_and_bias)
        if isinstance(part, Product):
            part = part.given(signal=signal_of(inputs, self._made))
        rule = self._rule_for(part, inputs, depth)
        given = inputs
        if rule is not None:
            precision = getattr(part.layer, "compute_dtype", inputs[0].dtype.name)  # an operation has none of its own
            if precision not in ("float32", "float64"):
                raise UnsupportedLayerError(
                    f"{part.layer.name!r} computes in {precision}, in which the stabiliser of a rule is lost. "
                    "Expected: float32 or float64. Build the model again with that dtype policy and copy the weights."
                )
            given = [tf.cast(x, precision) for x in inputs]
        if isinstance(part, Activation) and not isinstance(part, ReLU):
            given = kept_apart(given)
        output = part(*given)
        output = tf.identity(output) if any(output is x for x in given) else output  # a dropout returns its input
        self.steps.append(Step(part, rule, inputs, output))
        self._made[id(output)] = self.steps[-1]
        self._depth[id(output)] = depth + isinstance(part, (Linear, LinearThenActivation))
        return output

    def _rule_for(self, part, inputs, depth):
        tests = tests_for(part, depth == 0, self.composite)
        if not tests:
            return Rule(_refuse)  # only if relevance comes here at all: a gate gets none
        if not isinstance(tests[0], str):  # a name may stand before FIRST, a kind of part is meant for all others
            names = ", ".join(kind.__name__ for kind in kinds_of(tests[0]))
            self.hidden |= {test: names for test in tests[1:] if isinstance(test, str)}
        rule = self.composite[tests[0]]
        by_kind = all(isinstance(one, type) and issubclass(one, Part) for one in kinds_of(tests[0]))
        if isinstance(part, Affine) and depth == 0 and by_kind and any(map(_is_box, self.composite.values())):
            return through  # it rescales pixels, as a Rescaling layer does, and their bounds with them
        if depth == 0 and _is_box(rule):
            self.boxes.append((rule.value("low"), rule.value("high")))
            low, high = bounds_at(inputs[0], rule.value("low"), rule.value("high"), self._made, part)
            return rule(low=low, high=high)
        return rule


def _handed_down(step, R):
    """What the rule of a step hands to each of its inputs, in their types and shapes."""
    if step.rule is None:
        lower = pullback(step.part, step.inputs, R)
    else:
        lower = step.rule(step.part, [tf.cast(a, R.dtype) for a in step.inputs], step.output, R)
    name = step.part.layer.name
    if not isinstance(lower, (list, tuple)) or len(lower) != len(step.inputs):
        raise ValueError(
            f"The rule for {name!r} must return a list, what goes on to each of its {len(step.inputs)} inputs (None "
            f"for nothing). Received: {type(lower).__name__}."
        )
    for a, r in zip(step.inputs, lower):
        if r is not None and not a.shape.is_compatible_with(r.shape):
            raise ValueError(f"The rule for {name!r} returned shape {r.shape} for an input of {a.shape}.")
    return [r if r is None else tf.cast(r, a.dtype) for a, r in zip(step.inputs, lower)]


def _refuse(part, inputs, output, R):
    raise UnsupportedLayerError(
        f"The table has no rule for {part.layer.name!r}, of type {type(part.layer).__name__}: a part of kind "
        f"{type(part).__name__}.\nWhat works here: lrp with a line for it, {{{type(part).__name__}: rule}} | "
        "composite; the gradient methods; the class activation maps."
    )


def _is_box(rule):
    return rule is not None and rule.function is z_box.function
