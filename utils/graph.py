"""The forward walk: a model computed layer by layer, the layers of inner models too, so that nested is as flat."""

import contextlib
import threading

import keras
import tensorflow as tf

from .checks import check_connections
from .parts import UnsupportedLayerError

# Keras notes each symbolic call in the layers themselves, which models may share: one thread at a time
BUILDING = threading.RLock()


def walk(model, inputs, place, note=lambda layer, inputs, output: None):
    """Compute the outputs of `model`, which is only read; a list.

    Args:
        model: a functional or Sequential model.
        inputs: a list of tensors.
        place: a function of (layer, the layer as a function of its tensors alone, its tensors, for each operand whether
            it is one of these) that returns the layer's output, or a model that is walked through in place of the
            layer. Its tensors are those that depend on the inputs; what else a call holds (numbers, weights, masks) is
            a constant; the function has them in its list `constants`.
        note: a function of (layer or inner model, its tensors, its output), called after each.
    """
    known = {id(x): x for x in inputs}

    def through(model, inputs):
        check_connections(model)
        # a Sequential model as a graph; what keras.models.clone_model offers works on symbolic tensors alone
        graph = model if hasattr(model, "_run_through_graph") else keras.Model(model.inputs, model.outputs)
        return keras.tree.flatten(graph._run_through_graph(inputs, operation_fn=lambda layer: layer, call_fn=call))

    def call(layer, *args, **kwargs):
        values = keras.tree.flatten((args, kwargs))
        is_tensor = [id(value) in known for value in values]
        tensors = [value for value, known in zip(values, is_tensor) if known]

        def function(*tensors, compute=layer):
            rest = iter(tensors)
            given = [next(rest) if known else value for value, known in zip(values, is_tensor)]
            args_now, kwargs_now = keras.tree.pack_sequence_as((args, kwargs), given)
            if getattr(layer, "_call_has_training_arg", False):
                kwargs_now["training"] = False
            return compute(*args_now, **kwargs_now)

        function.constants = [v for v, known in zip(values, is_tensor) if not known and v is not None]
        if isinstance(layer, keras.Model):
            output = through(layer, in_order(layer, args, kwargs))
        elif not tensors:
            output = function()
        else:
            output = place(layer, function, tensors, is_tensor)
            if isinstance(output, keras.Model):
                try:
                    output = through(output, tensors)
                except UnsupportedLayerError as error:
                    what = f"In {layer.name!r}, of type {type(layer).__name__}: "
                    raise UnsupportedLayerError(what + str(error)) from error
        if isinstance(output, list) and len(output) == 1:
            (output,) = output
        # a comparison or a mask has no slope: what it returns is a constant for what comes after
        known.update((id(t), t) for t in keras.tree.flatten(output) if tensors and t.dtype.is_floating)
        note(getattr(layer, "borrowed_from", layer), tensors, output)
        return output

    return through(model, inputs)


def whole_layer(layer, function, tensors, is_tensor):
    """For `walk`: the output of a layer as it is, on a tensor of its own."""
    if is_leaky(layer):
        tensors = kept_apart(tensors)
    output = function(*tensors)
    # a dropout returns its input, and each place has a tensor of its own
    return keras.tree.map_structure(lambda t: tf.identity(t) if any(t is x for x in tensors) else t, output)


def is_leaky(layer):
    """Whether TensorFlow's graph optimizer would lose the slope of a layer or operation: see `kept_apart`."""
    activation = getattr(layer, "activation", layer)
    name = getattr(activation, "__name__", type(activation).__name__).lower()
    return name in ("leakyrelu", "leaky_relu", "mish") or bool(getattr(activation, "negative_slope", 0))


def kept_apart(tensors):
    """The tensors, behind a barrier for TensorFlow's graph optimizer.

    It makes one operation of a convolution, its bias, a sum and a LeakyReLU, and loses the slope on the way, so that
    `model.predict` itself is wrong (seen with 2.20 and 2.21).
    """
    return [tf.ensure_shape(x, x.shape) for x in tensors]


def as_model(layer, function, tensors):
    """What the call of `layer` does to its tensors, as a functional model of the layers and operations in it.

    Args:
        layer, function, tensors: as `place` of `walk` is given them.

    Raises:
        Exception: of any kind, where `call` does something that Keras cannot follow symbolically.
    """
    symbols = [keras.Input(batch_shape=x.shape, dtype=x.dtype.name) for x in tensors]
    with without_record([], list(layer._flatten_layers(include_self=False))):
        return keras.Model(symbols, function(*symbols, compute=layer.call))


def opened(layer, function, inputs):
    """A layer that is made of others as a model of them, a comparison as its result; None for anything else."""
    if not isinstance(layer, keras.Layer):
        output = function(*inputs)
        # a comparison, such as that which makes a mask, has no slope, and so no relevance goes through it
        return None if any(t.dtype.is_floating for t in keras.tree.flatten(output)) else output
    if type(layer).__module__.startswith("keras.src.layers."):
        return None
    try:
        return as_model(layer, function, inputs)
    except Exception:  # whatever a call of the reader's own does with symbolic tensors
        return None


@contextlib.contextmanager
def without_record(tensors, layers=()):
    """Drop the records that layers keep of the symbolic calls inside: of their own, and of those that read them.

    A record would stay for as long as the layer.
    """
    with BUILDING:
        records = [tensor._keras_history.operation._outbound_nodes for tensor in tensors]
        records += [getattr(layer, name) for layer in layers for name in ("_inbound_nodes", "_outbound_nodes")]
        numbers = [len(record) for record in records]
        try:
            yield
        finally:
            for record, number in zip(records, numbers):
                del record[number:]


def in_order(model, args, kwargs):
    """What a call hands to each of `model.inputs`: a dictionary goes by its names, whatever their order."""
    given, expected = args[0] if args else kwargs["inputs"], getattr(model, "_inputs_struct", None)
    if isinstance(given, dict) and isinstance(expected, dict):
        given = {name: given[name] for name in expected}
    elif isinstance(given, dict):
        given = [given[tensor.name] for tensor in model.inputs]
    return keras.tree.flatten(given)
