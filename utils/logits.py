"""The scores of a model: what it computes before the softmax at its end."""

import keras
import tensorflow as tf
from keras import layers

from .checks import check_connections, check_model
from .graph import in_order, without_record
from .parts import LINEAR, inherits_call

# what turns scores into probabilities
SOFTMAX = (keras.activations.softmax, keras.ops.softmax, tf.nn.softmax)
HEADS = (*SOFTMAX, keras.activations.log_softmax, keras.ops.log_softmax, tf.nn.log_softmax)
HEADS += (keras.activations.sigmoid, keras.ops.sigmoid, tf.nn.sigmoid)
HEAD_OPERATIONS = ("Softmax", "LogSoftmax", "Sigmoid")
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


def head_of(model):
    """What `logits_of` would drop from `model`: "softmax", "sigmoid" or "log_softmax"; None where there is no head."""
    _, dropped = _without_head(model.outputs[0])
    return dropped and dropped.split()[1]


class Borrowed(keras.layers.Layer):
    """What `owner` computes, as a layer of its own: `owner`, whose weights it uses, is not called again.

    A Keras layer keeps a record of each symbolic call for ever; borrowed, it stays as it was.
    """

    def __init__(self, owner, drop_activation=False):
        super().__init__(dtype=owner.dtype_policy)  # a name of its own: `owner` may stand elsewhere too
        self.borrowed_from, self.drop_activation = owner, drop_activation

    def call(self, x):
        return (_without_activation(self.borrowed_from) if self.drop_activation else self.borrowed_from).call(x)


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
    if inherits_call(operation, LINEAR) and is_head(operation):
        if getattr(operation, "quantization_mode", None):
            raise ValueError(
                f"The head {operation.name!r} is quantized ({operation.quantization_mode}), and its logits cannot be "
                "had without its softmax. Pass explain='output', or a model that is not quantized."
            )
        return _on_top(Borrowed(operation, drop_activation=True), below), _described(operation)
    kind, of_keras = type(operation).__name__, type(operation).__module__.startswith("keras.")
    if kind in HEAD_OPERATIONS and of_keras and not isinstance(operation, keras.layers.Layer):
        return below, f"the {kind.lower()} operation {operation.name!r}"
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
    with without_record(keras.tree.flatten(below)):
        return layer(below)


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
