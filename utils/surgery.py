"""Rebuilding a Keras model with the same weights: without the softmax at its end, or with other backward rules."""

import os

import keras
import tensorflow as tf
from keras import layers

from utils.composites import FIRST, rule_for
from utils.parts import (
    CONVOLUTIONS,
    ZERO_PADDING,
    Activation,
    Affine,
    Linear,
    LinearThenActivation,
    Part,
    Softmax,
    Through,
    UnsupportedLayerError,
    inherits_call,
    is_positive,
    parts_of,
    with_normalization,
    with_padding,
)
from utils.rules import z_box

# what turns scores into probabilities
SOFTMAX = (keras.activations.softmax, keras.ops.softmax, tf.nn.softmax)
HEADS = (*SOFTMAX, keras.activations.log_softmax, keras.ops.log_softmax, tf.nn.log_softmax)
HEADS += (keras.activations.sigmoid, keras.ops.sigmoid, tf.nn.sigmoid)
HEAD_OPERATIONS = ("Softmax", "LogSoftmax", "Sigmoid")
# layers whose activation is the last thing that they compute
ACTIVATED = (layers.Dense, layers.EinsumDense, *CONVOLUTIONS)
# layers and operations that move values or leave them as they are: a softmax below them is still the head
PASSES_ON = (layers.Dropout, layers.Flatten, layers.Identity, layers.Reshape, layers.Permute)
# layers that do nothing to an image when a model is used
HARMLESS = (layers.Dropout, layers.SpatialDropout2D, layers.GaussianNoise, layers.GaussianDropout)
# operations that change probabilities, so that neither they nor the logits are the output
CHANGES = (
    "Rescaling",
    "GetItem",
    "Log",
    "Exp",
    "Cast",
    "Clip",
    "Power",
    "Negative",
    "Divide",
    "TrueDivide",
    "Multiply",
)


def check_model(model, several_inputs=False):
    """Raise a ValueError unless the connections of `model` are known: a built functional or Sequential model."""
    if not isinstance(model, keras.Model):
        raise ValueError(f"Expected a Keras 3 model. Received: {type(model).__module__}.{type(model).__name__}.")
    if isinstance(model, keras.Sequential) and not hasattr(model, "outputs"):
        raise ValueError(
            f"The model {model.name!r} is not built: the shape of its input is not known. "
            "Begin it with keras.Input(shape), or call it once on an image."
        )
    check_connections(model)
    for side in ("outputs",) if several_inputs else ("inputs", "outputs"):
        if len(getattr(model, side)) != 1:
            raise ValueError(
                f"Expected a model with one input and one output. Received: {model.name!r} with "
                f"{len(getattr(model, side))} {side}. keras.Model(inputs, outputs) makes one that has the one you mean."
            )


_CALL, _KERAS = keras.Model.__call__, os.path.dirname(keras.__file__)


def _is_of_keras(function):
    return function.__code__.co_filename.startswith(_KERAS)


def check_connections(model):
    """Raise a ValueError unless `model` is its graph: not subclassed, and without a `call` of its own."""
    its_own = "call" in vars(model) or not _is_of_keras(type(model).call) or type(model).__call__ is not _CALL
    if its_own or not hasattr(model, "outputs"):
        raise ValueError(
            f"The model {model.name!r} is subclassed ({type(model).__name__}): its layers are known, their "
            "connections are not. Expected: a functional or Sequential model. If its call is a chain of layers, "
            "x = keras.Input(shape); keras.Model(x, model.call(x)) gives a functional model with the same weights."
        )


def logits_of(model, verbose=True):
    """Return `model` up to its logits: the same network, with the same weights, without its final softmax.

    The softmax may be the activation of the last layer, a `Softmax` or `Activation` layer, an
    operation of `keras.ops`, or the end of a nested model; a sigmoid or log-softmax counts too.
    `model` itself stays as it is, and later changes of its weights show in what is returned.

    Args:
        model: a built functional or Sequential Keras model with one output.
        verbose: print a line that says what was dropped.

    Returns:
        A functional `keras.Model`; `model` itself if it has no such head.

    Raises:
        ValueError: the connections of `model` are not known (see the message).
    """
    check_model(model, several_inputs=True)
    logits, dropped = _without_head(model.outputs[0])
    if verbose:
        print(f"logits_of: {'dropped ' + dropped if dropped else 'no softmax to drop'}.")
    inputs = model.inputs if len(model.inputs) > 1 else model.inputs[0]
    return keras.Model(inputs, logits, name=f"{model.name}_logits") if dropped else model


class _Borrowed(keras.layers.Layer):
    """What `owner` computes, as a layer of its own: `owner`, whose weights it uses, is not called again.

    A Keras layer keeps a record of each symbolic call for ever; borrowed, it stays as it was.
    """

    def __init__(self, owner, drop_activation=False):
        super().__init__(name=owner.name, dtype=owner.dtype_policy)
        self.owner, self.drop_activation = owner, drop_activation

    def call(self, x):
        return (_without_activation(self.owner) if self.drop_activation else self.owner).call(x)


def _without_activation(layer):
    """A twin of `layer` that shares its weights and has no activation; only its `call` may be used."""
    twin = object.__new__(type(layer))
    twin.__dict__.update(layer.__dict__)
    twin.__dict__["activation"] = keras.activations.linear
    return twin


def _without_head(tensor):
    """Symbolic output -> the symbolic logits below it, and what was dropped (None: nothing)."""
    operation, node_index, tensor_index = tensor._keras_history
    node = operation._inbound_nodes[node_index]
    if len(node.input_tensors) != 1:
        return tensor, None
    (below,) = node.input_tensors
    if isinstance(operation, keras.Model):
        if not hasattr(operation, "outputs"):
            return tensor, None
        check_connections(operation)
        inner, dropped = _without_head(operation.outputs[tensor_index])
        if not dropped:
            return tensor, None
        return _on_top(keras.Model(operation.inputs[0], inner), below), f"{dropped} in {operation.name!r}"
    if inherits_call(operation, (layers.Softmax, layers.Activation)) and _is_head(operation):
        return below, _described(operation)
    if inherits_call(operation, ACTIVATED) and _is_head(operation):
        if getattr(operation, "quantization_mode", None):
            raise ValueError(
                f"The head {operation.name!r} is quantized ({operation.quantization_mode}), and its logits cannot be "
                "had without its softmax. Pass explain='output', or a model that is not quantized."
            )
        return _on_top(_Borrowed(operation, drop_activation=True), below), _described(operation)
    kind, of_keras = type(operation).__name__, type(operation).__module__.startswith("keras.")
    if kind in HEAD_OPERATIONS and of_keras and not isinstance(operation, keras.layers.Layer):
        return below, f"the operation {operation.name!r}"
    if inherits_call(operation, PASSES_ON) or _is_linear_activation(operation):
        scores, dropped = _without_head(below)
        return (_on_top(_Borrowed(operation), scores), dropped) if dropped else (tensor, None)
    if kind in CHANGES and of_keras:
        _, dropped = _without_head(below)
        if dropped:
            raise ValueError(
                f"After {dropped} comes {operation.name!r} ({kind}), so the output is neither probabilities nor "
                "logits. Pass explain='output' to explain it as it is, or a model that ends at the logits."
            )
    return tensor, None


def _on_top(layer, below):
    """`layer(below)`, without the record that the layer below keeps of it."""
    records = below._keras_history.operation._outbound_nodes
    number = len(records)
    output = layer(below)
    del records[number:]
    return output


def _is_head(layer):
    softmax = layer if isinstance(layer, layers.Softmax) else layer.activation
    if inherits_call(softmax, (layers.Softmax,)):
        return softmax.axis in (-1, 1)  # of scores [n, classes]
    return softmax in HEADS


def _is_linear_activation(operation):
    return inherits_call(operation, (layers.Activation,)) and operation.activation is keras.activations.linear


def _described(layer):
    activation = getattr(layer, "activation", layer)
    name = getattr(activation, "__name__", type(activation).__name__).lower()
    return f"the {name} of layer {layer.name!r} ({type(layer).__name__})"


# --- with other backward rules


class _Local(keras.layers.Layer):
    """Computes `part`; its gradient is what `rule(part, inputs, output, R)` returns."""

    def __init__(self, part, rule, dtype):
        precision = getattr(part.layer, "compute_dtype", dtype)  # an operation has none of its own
        if rule is not None and precision not in ("float32", "float64"):
            raise UnsupportedLayerError(
                f"{part.layer.name!r} computes in {precision}, in which the stabiliser of a rule is lost. Expected: "
                "float32 or float64. Build the model again with that dtype policy and copy the weights."
            )
        super().__init__(dtype=getattr(part.layer, "dtype_policy", dtype), trainable=False)
        self.part, self.rule = part, rule

    def call(self, *inputs):
        if self.rule is None:
            return self.part(*inputs)

        @tf.custom_gradient
        def compute(*inputs):
            output = self.part(*inputs)

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


def with_rules(model, composite):
    """Return a model with the values and weights of `model`, whose gradients are made by the rules of `composite`.

    Each layer becomes its parts (see `parts`): a batch normalization behind a linear part, and zero padding before
    one, are merged with it. `model` stays as it is, and later changes of its weights show.

    Args:
        model: a built functional or Sequential Keras model.
        composite: a table from tests to rules: see `composites`.

    Returns:
        A functional `keras.Model`. Its attribute `layer_outputs` is a dictionary, name of a layer -> the tensor in
        this model that is this layer's output (None where several layers have that name, or where it has been merged).

    Raises:
        UnsupportedLayerError: there is no part or no rule for a layer.
        ValueError: the connections of `model` are not known, or `composite` names a layer that it does not have.
    """
    check_model(model)
    rebuilder = _Rebuilder(composite)
    old = model.inputs[0]
    new = keras.Input(batch_shape=old.shape, dtype=old.dtype)
    (output,) = rebuilder.walk(model, [new])
    outputs = {
        name: None if tensor is None or id(tensor) in rebuilder.merged else tensor
        for name, tensor in rebuilder.outputs.items()
    }
    unused = [test for test in composite if isinstance(test, str) and test not in (FIRST, *outputs)]
    if unused:
        raise ValueError(f"The composite names layers that {model.name!r} does not have: {unused}.")
    rebuilt = keras.Model(new, output)
    rebuilt.layer_outputs = outputs
    return rebuilt


class _Walker:
    """Walks through a model along its graph; inner models are walked through too, so nested is as flat."""

    def walk(self, model, inputs):
        """The new outputs of `model`, on new inputs."""
        check_connections(model)
        graph = keras.Model(model.inputs, model.outputs)  # what a Sequential or compiled model is, as a graph
        # keras.models.clone_model offers the same walk, but makes an opaque layer of each inner model
        return keras.tree.flatten(graph._run_through_graph(inputs, operation_fn=lambda layer: layer, call_fn=self.call))

    def call(self, layer, *args, **kwargs):
        """The new output of a layer or operation, on new inputs."""
        kwargs = {name: value for name, value in kwargs.items() if name not in ("training", "mask")}
        is_tensor = keras.backend.is_keras_tensor
        flat = keras.tree.flatten((args, kwargs))
        inputs = [value for value in flat if is_tensor(value)]
        if isinstance(layer, keras.Model):
            outputs = self.walk(layer, inputs)
            output = outputs[0] if len(outputs) == 1 else outputs
        else:

            def function(*tensors):  # `layer` as a function of its tensors alone
                rest = iter(tensors)
                values = [next(rest) if is_tensor(value) else value for value in flat]
                args_now, kwargs_now = keras.tree.pack_sequence_as((args, kwargs), values)
                return layer(*args_now, **kwargs_now)

            output = self.place(layer, function, inputs, has_constants=len(flat) > len(inputs))
        self.note(layer.owner if isinstance(layer, _Borrowed) else layer, inputs, output)
        return output


class _Unfolder(_Walker):
    """Keeps each layer as it is; `steps` are (layer, its inputs, its output), in the order in which they compute."""

    def __init__(self):
        self.steps = []

    def place(self, layer, function, inputs, has_constants):
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
        self.depth = {}  # id of a tensor -> the number of linear parts on the way to it
        self.source = {}  # id of a tensor -> (the part that made it, the inputs of that part)
        self.positive = set()  # ids of tensors that cannot be below 0
        self.merged = set()  # ids of tensors that are no longer computed: what made them is part of the next
        self.outputs = {}  # name of a layer -> its output
        self.kept = []  # all tensors, so that no id is used twice

    def place(self, layer, function, inputs, has_constants):
        chain = parts_of(layer.owner if isinstance(layer, _Borrowed) else layer, function)
        if isinstance(layer, _Borrowed) and layer.drop_activation:
            chain = [part for part in chain if not isinstance(part, (Activation, Softmax))]
        for part in chain:
            inputs = [self.emit(*self.merge(part, inputs), has_constants)]
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
        rule, found = rule_for(part, depth == 0, self.composite)
        if not found:
            raise UnsupportedLayerError(
                f"The composite has no rule for {part.layer.name!r}, of type {type(part.layer).__name__}: a part of "
                f"kind {type(part).__name__}. Add a line for it, {{{type(part).__name__}: rule}}, if you know one."
            )
        part.inputs_are_positive = all(id(x) in self.positive for x in inputs)
        part.output_is_positive = is_positive(part) and (isinstance(part, Activation) or not has_constants)
        if depth == 0 and getattr(rule, "func", rule) is z_box:
            self.refuse_rescaled(part, inputs[0])
        output = _Local(part, rule, inputs[0].dtype)(*inputs)
        self.depth[id(output)] = depth + isinstance(part, (Linear, LinearThenActivation))
        self.source[id(output)] = part, inputs
        if part.output_is_positive:
            self.positive.add(id(output))
        self.kept.append(output)
        return output

    def refuse_rescaled(self, part, tensor):
        """Raise if pixels are rescaled before `part`: the bounds of its box would be those of other numbers."""
        below, inputs = self.source.get(id(tensor), (None, None))
        while below is not None:
            if isinstance(below, (Affine, Through)) and not inherits_call(below.layer, HARMLESS):
                raise UnsupportedLayerError(
                    f"{below.layer.name!r} rescales the pixels before {part.layer.name!r}, so the bounds of the z-box "
                    "rule are not those of what this layer sees. Explain the model behind the rescaling, on rescaled "
                    "images and with their bounds, or choose another first rule (w_square, epsilon)."
                )
            below, inputs = self.source.get(id(inputs[0]), (None, None))
