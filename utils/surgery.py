"""Rebuilding a Keras model with the same weights: as a flat list of layers, or with other backward rules."""

import contextlib

import keras
import tensorflow as tf
from keras import layers
from tensorflow.python.framework import ops

from utils.composites import FIRST, checked_composite, kinds_of, tests_for
from utils.heads import Borrowed, check_connections, check_model, in_order, logits_of  # noqa: F401  (logits_of: found here too)
from utils.parts import (
    AUGMENTATION,
    ZERO_PADDING,
    Activation,
    Affine,
    Linear,
    LinearThenActivation,
    Part,
    ReLU,
    Routing,
    Softmax,
    Through,
    UnsupportedLayerError,
    inherits_call,
    is_positive,
    parts_of,
    rescaling,
    with_normalization,
    with_padding,
)
from utils.rules import alpha_beta, epsilon, gamma, through, z_box, z_plus

# layers that do nothing to an image when a model is used
HARMLESS = (layers.Dropout, layers.SpatialDropout2D, layers.GaussianNoise, layers.GaussianDropout, *AUGMENTATION)
PROPORTIONAL = (epsilon, gamma, alpha_beta, z_plus)  # an input that is 0 gets nothing by these rules


class _Local(keras.layers.Layer):
    """Computes `part`; its gradient is what `rule(part, inputs, output, R)` returns."""

    watch = None  # of a tape that is to watch the output

    def __init__(self, part, rule, dtype):
        precision = getattr(part.layer, "compute_dtype", dtype)  # an operation has none of its own
        if rule is not None and precision not in ("float32", "float64"):
            raise UnsupportedLayerError(
                f"{part.layer.name!r} computes in {precision}, in which the stabiliser of a rule is lost. Expected: "
                "float32 or float64. Build the model again with that dtype policy and copy the weights."
            )
        if rule is None:  # the layer casts what it wants cast; nobody else does
            super().__init__(dtype="float32", autocast=False, trainable=False)
        else:
            super().__init__(dtype=getattr(part.layer, "dtype_policy", dtype), trainable=False)
        self.part, self.rule = part, rule
        self.supports_masking = True  # the layer itself has set the mask of its output, or dropped it

    def compute_mask(self, inputs, mask):
        return None

    def call(self, *inputs):
        if self.rule is None:
            output = self.part(*inputs)
            if self.watch is not None:
                self.watch(output)
            return output

        @tf.custom_gradient
        def compute(*inputs):
            output = self.part(*inputs)
            if _at_reference:
                self.part.reference = inputs, output

            def backward(R, variables=None):
                lower = self.rule(self.part, list(inputs), output, R)
                for a, r in zip(inputs, lower, strict=True):
                    if not a.shape.is_compatible_with(r.shape):
                        raise ValueError(
                            f"The rule for {self.part.layer.name!r} returned shape {r.shape} for an input of {a.shape}."
                        )
                return (lower, [None] * len(variables)) if variables else lower

            return output, backward

        return compute(*inputs)


_at_reference = []  # not empty while `at_reference` is open


@contextlib.contextmanager
def at_reference():
    """What rebuilt models compute inside are references: each part keeps its inputs and its output, for DeepLIFT."""
    _at_reference.append(True)
    try:
        yield
    finally:
        _at_reference.pop()


def with_rules(model, composite, from_scores=False):
    """Return a model with the values and weights of `model`, whose gradients are made by the rules of `composite`.

    Each layer becomes its parts (see `parts`): a batch normalization behind a linear part, and zero padding before
    one, are merged with it. `model` stays as it is, and later changes of its weights show.

    Args:
        model: a built functional or Sequential Keras model.
        composite: a table from tests to rules: see `composites`.
        from_scores: all relevance will begin at the model's output, which spares the rules some work: a unit that
            its ReLU has silenced then gets none.

    Returns:
        A functional `keras.Model`. Its attribute `layer_outputs` is a dictionary, name of a layer -> the tensor in
        this model that is this layer's output (None where several layers have that name, or where it has been merged).

    Raises:
        UnsupportedLayerError: there is no part or no rule for a layer.
        ValueError: the connections of `model` are not known; `composite` is no such table, names a layer that the
            model does not have, or has a line that is never reached.
    """
    check_model(model)
    rebuilder = _Rebuilder(checked_composite(composite))
    old = model.inputs[0]
    new = keras.Input(batch_shape=old.shape, dtype=old.dtype)
    with gradients_forgotten():
        (output,) = rebuilder.walk(model, [new])
    if from_scores:
        rebuilder.note_what_is_silent(output)
    outputs = {
        name: None if tensor is None or id(tensor) in rebuilder.merged else tensor
        for name, tensor in rebuilder.outputs.items()
    }
    if rebuilder.hidden:
        line, before = rebuilder.hidden.popitem()
        raise ValueError(
            f"The line {line!r} of the composite is never reached: {before} stands before it. Put yours in front: "
            f"{{{line!r}: rule}} | composite."
        )
    unused = [test for test in composite if isinstance(test, str) and test not in (FIRST, *outputs)]
    if unused:
        raise ValueError(f"The composite names layers that {model.name!r} does not have: {unused}.")
    rebuilt = keras.Model(new, output)
    rebuilt.layer_outputs = outputs
    return rebuilt


@contextlib.contextmanager
def gradients_forgotten():
    """Forget the gradients of `tf.custom_gradient` that are registered inside.

    TensorFlow keeps them for ever, and with them the weights that they use, after the model has gone. Once a graph
    has been differentiated, nothing asks for them again.
    """
    registry = getattr(ops.gradient_registry, "_registry", {})
    before = set(registry)
    try:
        yield
    finally:
        for name in [name for name in registry if name not in before]:
            del registry[name]


class _Walker:
    """Walks through a model along its graph; inner models are walked through too, so nested is as flat."""

    keeps_masks = False

    def walk(self, model, inputs):
        """The new outputs of `model`, on new inputs."""
        check_connections(model)
        graph = keras.Model(model.inputs, model.outputs)  # what a Sequential or compiled model is, as a graph
        # keras.models.clone_model offers the same walk, but makes an opaque layer of each inner model
        return keras.tree.flatten(graph._run_through_graph(inputs, operation_fn=lambda layer: layer, call_fn=self.call))

    def call(self, layer, *args, **kwargs):
        """The new output of a layer or operation, on new inputs."""
        is_tensor = keras.backend.is_keras_tensor
        kwargs = {
            name: value
            for name, value in kwargs.items()
            if name != "training" and (name != "mask" or self.keeps_masks and is_tensor(value))
        }
        flat = keras.tree.flatten((args, kwargs))
        inputs = [value for value in flat if is_tensor(value)]
        if isinstance(layer, keras.Model):
            outputs = self.walk(layer, in_order(layer, args, kwargs))
            output = outputs[0] if len(outputs) == 1 else outputs
        else:

            def function(*tensors):  # `layer` as a function of its tensors alone
                rest = iter(tensors)
                values = [next(rest) if is_tensor(value) else value for value in flat]
                args_now, kwargs_now = keras.tree.pack_sequence_as((args, kwargs), values)
                return layer(*args_now, **kwargs_now)

            output = self.place(layer, function, inputs, flat)
        self.note(layer.owner if isinstance(layer, Borrowed) else layer, inputs, output)
        return output


class _Unfolder(_Walker):
    """Keeps each layer as it is; `steps` are (layer, its inputs, its output), in the order in which they compute."""

    keeps_masks = True

    def __init__(self):
        self.steps = []

    def place(self, layer, function, inputs, values):
        return _Local(Part(layer, function), None, inputs[0].dtype)(*inputs)

    def note(self, layer, inputs, output):
        self.steps.append((layer, inputs, output))


def unfolded(model):
    """Return a flat model with the values of `model` and its steps: (layer, its new inputs, its new output).

    The layers of inner models are among the steps, and an inner model itself as well, behind its layers. `model`
    stays as it is, and later changes of its weights show.
    """
    unfolder = _Unfolder()
    inputs = [keras.Input(batch_shape=old.shape, dtype=old.dtype, name=old.name) for old in model.inputs]
    (output,) = unfolder.walk(model, inputs)
    return keras.Model(inputs if len(inputs) > 1 else inputs[0], output), unfolder.steps


class _Rebuilder(_Walker):
    """Makes parts of each layer, and keeps, for each new tensor, what the choice and the speed of rules depend on."""

    def __init__(self, composite):
        self.composite = composite
        self.hidden = {}  # a line for FIRST or a name that is never reached -> the words for the line before it
        self.depth = {}  # id of a tensor -> the number of linear parts on the way to it
        self.source = {}  # id of a tensor -> (the part that made it, the inputs of that part)
        self.positive = set()  # ids of tensors that cannot be below 0
        self.readers = {}  # id of a tensor -> the (part, rule, output) that it is an input of
        self.merged = set()  # ids of tensors that are no longer computed: what made them is part of the next
        self.outputs = {}  # name of a layer -> its output
        self.kept = []  # all tensors, so that no id is used twice

    def place(self, layer, function, inputs, values):
        of_pixels = all(self.depth.get(id(x), 0) == 0 for x in inputs)
        rescales = rescaling(layer, function, values, of_pixels)
        chain = [rescales] if rescales else parts_of(layer.owner if isinstance(layer, Borrowed) else layer, function)
        if isinstance(layer, Borrowed) and layer.drop_activation:
            chain = [part for part in chain if not isinstance(part, (Activation, Softmax))]
        for part in chain:
            inputs = [self.emit(*self.merge(part, inputs), has_constants=len(values) > len(inputs))]
        return inputs[0]

    def note(self, layer, inputs, output):
        if not isinstance(layer, keras.Model):
            self.outputs[layer.name] = None if layer.name in self.outputs else output

    def merge(self, part, inputs):
        """`part` as one with the part below it, where a rule should see both as one."""
        below, below_inputs = self.source.get(id(inputs[0]), (None, None))
        if isinstance(part, Affine) and type(below) is Linear:
            merged = with_normalization(below, part.layer)
        elif type(part) is Linear and below is not None and isinstance(below.layer, ZERO_PADDING):
            merged = with_padding(below, part)
        elif isinstance(part, Activation) and type(below) is Linear and LinearThenActivation in self.composite:
            merged = LinearThenActivation(below, part)
        else:
            return part, inputs
        self.merged.add(id(inputs[0]))
        return merged, below_inputs

    def emit(self, part, inputs, has_constants):
        """The new output of a part, with the rule that the composite has for it; constants may be below 0."""
        depth = max((self.depth.get(id(x), 0) for x in inputs), default=0)
        tests = tests_for(part, depth == 0, self.composite)
        if not tests:
            raise UnsupportedLayerError(
                f"The composite has no rule for {part.layer.name!r}, of type {type(part.layer).__name__}: a part of "
                f"kind {type(part).__name__}. Add a line for it, {{{type(part).__name__}: rule}}, if you know one."
            )
        rule = self.composite[tests[0]]
        if not isinstance(tests[0], str):  # a name may stand before FIRST, a kind of part is meant for all others
            names = ", ".join(kind.__name__ for kind in kinds_of(tests[0]))
            self.hidden |= {test: names for test in tests[1:] if isinstance(test, str)}
        part.inputs_are_positive = all(id(x) in self.positive for x in inputs)
        part.output_is_positive = is_positive(part) and (isinstance(part, Activation) or not has_constants)
        if depth == 0 and getattr(rule, "func", rule) is z_box:
            self.refuse_rescaled(part, inputs[0])
        output = _Local(part, rule, inputs[0].dtype)(*inputs)
        self.depth[id(output)] = depth + isinstance(part, (Linear, LinearThenActivation))
        self.source[id(output)] = part, inputs
        for x in inputs:
            self.readers.setdefault(id(x), []).append((part, rule, output))
        if part.output_is_positive:
            self.positive.add(id(output))
        self.kept.append(output)
        return output

    def note_what_is_silent(self, scores):
        """Note of each part whether relevance that begins at `scores` comes only to outputs above 0."""
        for output in self.kept:
            part, _ = self.source[id(output)]
            below_zero = id(output) not in self.positive and output is not scores
            part.only_active = below_zero and self.gets_no_relevance_below(output)

    def gets_no_relevance_below(self, tensor):
        """Whether relevance comes to no value of `tensor` that is 0 or less, by the rules of all that reads it."""

        def gives_none(part, rule, output):
            if getattr(rule, "func", rule) in PROPORTIONAL:
                return id(tensor) in self.positive  # so the others are 0
            # each output that is above 0 is one of the inputs
            selects = isinstance(part, (ReLU, Routing)) and rule in (None, through)
            return selects and self.gets_no_relevance_below(output)

        readers = self.readers.get(id(tensor), [])
        computed = [reader for reader in readers if id(reader[2]) not in self.merged or id(reader[2]) in self.readers]
        return bool(computed) and all(gives_none(*reader) for reader in computed)

    def refuse_rescaled(self, part, tensor):
        """Raise if pixels are rescaled before `part`: the bounds of its box would be those of other numbers."""
        below, inputs = self.source.get(id(tensor), (None, None))
        while below is not None:
            if isinstance(below, (Affine, Through)) and not inherits_call(below.layer, HARMLESS):
                raise UnsupportedLayerError(
                    f"{below.layer.name!r} rescales the pixels before {part.layer.name!r}, so the bounds of the z-box "
                    "rule are not those of what this layer sees. Explain the model behind the rescaling (in a chain, "
                    "keras.Sequential([keras.Input(shape), *model.layers[k:]]) with its first layer k), on rescaled "
                    "images and with their bounds, or choose another first rule (w_square, epsilon)."
                )
            below, inputs = self.source.get(id(inputs[0]), (None, None))
