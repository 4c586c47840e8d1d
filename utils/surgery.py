"""Rebuilding a Keras model with the same weights: here, without the softmax at its end."""

import keras

# what turns scores into probabilities, by the names under which Keras and TensorFlow know it
HEADS = {"softmax", "softmax_v2", "log_softmax", "log_softmax_v2", "logsoftmax", "sigmoid"}
# layers that move values or leave them as they are: a softmax below them is still the head
PASSES_ON = (keras.layers.Dropout, keras.layers.Flatten, keras.layers.Identity, keras.layers.Reshape)


def check_model(model):
    """Raise a ValueError unless the connections of `model` are known: a built functional or Sequential model."""
    if not isinstance(model, keras.Model):
        raise ValueError(f"Expected a Keras 3 model. Received: {type(model).__module__}.{type(model).__name__}.")
    if isinstance(model, keras.Sequential) and not hasattr(model, "outputs"):
        raise ValueError(
            f"The model {model.name!r} is not built: the shape of its input is not known. "
            "Begin it with keras.Input(shape), or call it once on an image."
        )
    calls_its_graph = type(model).call.__module__.startswith("keras.")
    if not (hasattr(model, "outputs") and calls_its_graph):
        raise ValueError(
            f"The model {model.name!r} is subclassed ({type(model).__name__}): its layers are known, their "
            "connections are not. Expected: a functional or Sequential model. If its call is a chain of layers, "
            "x = keras.Input(shape); keras.Model(x, model.call(x)) gives a functional model with the same weights."
        )
    for side in ("inputs", "outputs"):
        if len(getattr(model, side)) != 1:
            raise ValueError(
                f"Expected a model with one input and one output. Received: {model.name!r} with "
                f"{len(getattr(model, side))} {side}. keras.Model(inputs, outputs) makes one that has the one you mean."
            )


def logits_of(model, verbose=True):
    """Return `model` up to its logits: the same network, with the same weights, without its final softmax.

    The softmax may be the activation of the last layer, a `Softmax` or `Activation` layer, an
    operation of `keras.ops`, or the end of a nested model; a sigmoid or log-softmax counts too.
    `model` itself stays as it is, and later changes of its weights show in what is returned.

    Args:
        model: a built functional or Sequential Keras model with one input and one output.
        verbose: print a line that says what was dropped.

    Returns:
        A functional `keras.Model`; `model` itself if it has no such head.

    Raises:
        ValueError: the connections of `model` are not known (see the message).
    """
    check_model(model)
    logits, dropped = _without_head(model.outputs[0])
    if verbose:
        print(f"logits_of: {'dropped ' + dropped if dropped else 'no softmax to drop'}.")
    return keras.Model(model.inputs[0], logits, name=f"{model.name}_logits") if dropped else model


class _Borrowed(keras.layers.Layer):
    """`function` as a layer of its own, so that `owner`, whose weights it uses, is not called again.

    A Keras layer keeps a record of each symbolic call for ever; borrowed, it stays as it was.
    """

    def __init__(self, owner, function):
        super().__init__(dtype=owner.dtype_policy)
        self.owner, self.function = owner, function

    def call(self, x):
        return self.function(x)


def _without_head(tensor):
    """Symbolic output -> the symbolic logits below it, and what was dropped (None: nothing)."""
    operation, node_index, _ = tensor._keras_history
    node = operation._inbound_nodes[node_index]
    if len(node.input_tensors) != 1:
        return tensor, None
    (below,) = node.input_tensors
    if isinstance(operation, keras.Model):
        check_model(operation)
        inner, dropped = _without_head(operation.outputs[0])
        if not dropped:
            return tensor, None
        return keras.Model(operation.inputs[0], inner)(below), f"{dropped} in {operation.name!r}"
    if isinstance(operation, keras.layers.Softmax) or _is_head(getattr(operation, "activation", None)):
        activation = getattr(operation, "activation", operation)
        kind = f"the {_name(activation)} of layer {operation.name!r} ({type(operation).__name__})"
        if isinstance(operation, (keras.layers.Softmax, keras.layers.Activation)):
            return below, kind
        return _Borrowed(operation, _without_activation(operation).call)(below), kind
    if not isinstance(operation, keras.layers.Layer):
        return (below, f"the operation {operation.name!r}") if _is_head(operation) else (tensor, None)
    if isinstance(operation, PASSES_ON) or _is_linear_activation(operation):
        scores, dropped = _without_head(below)
        if dropped:
            return _Borrowed(operation, operation.call)(scores), dropped
    return tensor, None


def _name(function):
    return getattr(function, "__name__", type(function).__name__).lower()


def _is_head(function):
    return _name(function) in HEADS


def _is_linear_activation(operation):
    return isinstance(operation, keras.layers.Activation) and operation.activation is keras.activations.linear


def _without_activation(layer):
    """A twin of `layer` that shares its weights and has no activation; only its `call` may be used."""
    twin = object.__new__(type(layer))
    twin.__dict__.update(layer.__dict__)
    twin.__dict__["activation"] = keras.activations.linear
    return twin
