"""Which models can be looked into, and what their scores are: the model without the softmax at its end."""

import os

import keras
import tensorflow as tf
from keras import layers

from utils.parts import CONVOLUTIONS, inherits_call

# what turns scores into probabilities
SOFTMAX = (keras.activations.softmax, keras.ops.softmax, tf.nn.softmax)
HEADS = (*SOFTMAX, keras.activations.log_softmax, keras.ops.log_softmax, tf.nn.log_softmax)
HEADS += (keras.activations.sigmoid, keras.ops.sigmoid, tf.nn.sigmoid)
HEAD_OPERATIONS = ("Softmax", "LogSoftmax", "Sigmoid")
# layers whose activation is the last thing that they compute
ACTIVATED = (layers.Dense, layers.EinsumDense, *CONVOLUTIONS)
# layers and operations that move values or leave them as they are: a softmax below them is still the head
PASSES_ON = (layers.Dropout, layers.Flatten, layers.Identity, layers.Reshape, layers.Permute)
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


class Borrowed(keras.layers.Layer):
    """What `owner` computes, as a layer of its own: `owner`, whose weights it uses, is not called again.

    A Keras layer keeps a record of each symbolic call for ever; borrowed, it stays as it was.
    """

    def __init__(self, owner, drop_activation=False):
        super().__init__(dtype=owner.dtype_policy)  # a name of its own: `owner` may stand elsewhere too
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
    if isinstance(operation, keras.Model):
        if not hasattr(operation, "outputs"):
            return tensor, None
        check_connections(operation)
        inner, dropped = _without_head(operation.outputs[tensor_index])
        if not dropped:
            return tensor, None
        given = in_order(operation, node.arguments.args, node.arguments.kwargs)
        inputs, given = (operation.inputs, given) if len(given) > 1 else (operation.inputs[0], given[0])
        return _on_top(keras.Model(inputs, inner), given), f"{dropped} in {operation.name!r}"
    if len(node.input_tensors) != 1:
        return tensor, None
    (below,) = node.input_tensors
    if inherits_call(operation, (layers.Softmax, layers.Activation)) and is_head(operation):
        return below, _described(operation)
    if inherits_call(operation, ACTIVATED) and is_head(operation):
        if getattr(operation, "quantization_mode", None):
            raise ValueError(
                f"The head {operation.name!r} is quantized ({operation.quantization_mode}), and its logits cannot be "
                "had without its softmax. Pass explain='output', or a model that is not quantized."
            )
        return _on_top(Borrowed(operation, drop_activation=True), below), _described(operation)
    kind, of_keras = type(operation).__name__, type(operation).__module__.startswith("keras.")
    if kind in HEAD_OPERATIONS and of_keras and not isinstance(operation, keras.layers.Layer):
        return below, f"the operation {operation.name!r}"
    if inherits_call(operation, PASSES_ON) or _is_linear_activation(operation):
        scores, dropped = _without_head(below)
        return (_on_top(Borrowed(operation), scores), dropped) if dropped else (tensor, None)
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
    records = [tensor._keras_history.operation._outbound_nodes for tensor in keras.tree.flatten(below)]
    numbers = [len(record) for record in records]
    output = layer(below)
    for record, number in zip(records, numbers):
        del record[number:]
    return output


def in_order(model, args, kwargs):
    """What a call hands to each of `model.inputs`: a dictionary goes by its names, whatever their order."""
    given, expected = args[0] if args else kwargs["inputs"], getattr(model, "_inputs_struct", None)
    if isinstance(given, dict) and isinstance(expected, dict):
        given = {name: given[name] for name in expected}
    elif isinstance(given, dict):
        given = [given[tensor.name] for tensor in model.inputs]
    return keras.tree.flatten(given)


def is_head(layer):
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
