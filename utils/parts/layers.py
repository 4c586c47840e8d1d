"""Which layers and operations are supported, and what parts each consists of."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from .kinds import (
    Activation,
    Affine,
    MaxPooling,
    Mixing,
    Normalizing,
    Product,
    ReLU,
    Routing,
    Softmax,
    Through,
    UnsupportedLayerError,
    inherits_call,
    is_linear,
)
from .linear import LINEAR, linear_parts, parts_over_time, refuse_quantized, scale_and_shift

# it does nothing at inference; the newer ones are not in every version of Keras
AUGMENTATION = tuple(
    getattr(layers, f"Random{name}")
    for name in (
        "Flip Rotation Zoom Translation Contrast Brightness Saturation Hue Shear Sharpness Grayscale Invert "
        "Posterization ColorJitter ColorDegeneration Perspective GaussianBlur ElasticTransform Erasing"
    ).split()
    if hasattr(layers, f"Random{name}")
)
ZERO_PADDING = (layers.ZeroPadding1D, layers.ZeroPadding2D, layers.ZeroPadding3D)
DROPOUT = (
    *(layers.Dropout, layers.SpatialDropout1D, layers.SpatialDropout2D, layers.SpatialDropout3D),
    *(layers.AlphaDropout, layers.GaussianDropout, layers.GaussianNoise, layers.ActivityRegularization),
)

# the supported layers; those with weights of a linear map (Dense, convolutions, BatchNormalization) are in `parts_of`
LAYERS = {
    Activation: (layers.Activation, layers.ReLU, layers.LeakyReLU, layers.ELU, layers.PReLU),
    Routing: (
        *(layers.Flatten, layers.Reshape, layers.Permute, layers.RepeatVector, layers.Concatenate, layers.Identity),
        *(layers.UpSampling1D, layers.UpSampling2D, layers.UpSampling3D, *ZERO_PADDING),
        *(layers.Cropping1D, layers.Cropping2D, layers.Cropping3D, layers.CenterCrop, layers.Masking),
    ),
    MaxPooling: (
        *(layers.MaxPooling1D, layers.MaxPooling2D, layers.MaxPooling3D, layers.Maximum),
        *(layers.GlobalMaxPooling1D, layers.GlobalMaxPooling2D, layers.GlobalMaxPooling3D),
    ),
    Mixing: (
        *(layers.Add, layers.Subtract, layers.Average, layers.Resizing),
        *(layers.AveragePooling1D, layers.AveragePooling2D, layers.AveragePooling3D),
        *(layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D, layers.GlobalAveragePooling3D),
    ),
    Through: (*DROPOUT, layers.Rescaling, layers.Normalization, *AUGMENTATION),
    Normalizing: (layers.LayerNormalization, layers.GroupNormalization, layers.UnitNormalization),
    Product: (layers.Multiply,),
    Softmax: (layers.Softmax,),
}
# operations of keras.ops, and layers that keras.applications define for themselves, by the names of their classes
NAMES = {
    Activation: "Relu ReLU Relu6 LeakyRelu Elu Selu Gelu Silu Sigmoid Tanh Softplus Softsign Exp HardSigmoid HardSilu",
    Routing: "GetItem Reshape Transpose Concatenate Stack Squeeze ExpandDims Pad Repeat Flip",
    MaxPooling: "MaxPool Maximum Max",
    Mixing: "Add Subtract Mean Sum AveragePool",
    Through: "LayerScale StochasticDepth",  # and some arithmetic with constants: see `rescaling`
    Product: "Multiply",
    Softmax: "Softmax",
}
LAYER_OF_NAME = {name: kind for kind, names in NAMES.items() for name in names.split()}


def parts_of(layer, function):
    """Return `layer` (or an operation) as a list of parts, in the order in which they act.

    Args:
        layer: a Keras layer or operation.
        function: the layer as a function of its tensors alone.

    Raises:
        UnsupportedLayerError: its type is not in the tables above, or computes something else than the type there.
    """
    if getattr(layer, "data_format", None) == "channels_first":
        raise UnsupportedLayerError(f"{layer.name!r} has channels first. Expected: channels last, Keras's default.")
    if inherits_call(layer, (layers.SpectralNormalization,)):  # after training, the kernel is a normalized one
        return [part.given(merged=(*part.merged, layer)) for part in parts_of(layer.layer, function)]
    if inherits_call(layer, (layers.TimeDistributed,)):
        return _over_time(layer, function)
    if inherits_call(layer, LINEAR):
        refuse_quantized(layer)
        chain, activation = linear_parts(layer), layer.activation
        return chain if is_linear(activation) else [*chain, _activation_part(layer, activation, activation)]
    if inherits_call(layer, (layers.BatchNormalization,)):
        if layer.axis not in (-1, layer.input_spec.ndim - 1):
            raise UnsupportedLayerError(f"{layer.name!r} normalizes axis {layer.axis}. Expected: the last one.")
        return [Affine(layer, ops.multiply, lambda: scale_and_shift(layer))]
    for kind, types in LAYERS.items():
        if inherits_call(layer, types):
            if kind is Routing and getattr(layer, "interpolation", "nearest") != "nearest":
                return [Mixing(layer, function)]
            if kind is not Activation:
                return [kind(layer, function)]
            activation = getattr(layer, "activation", layer)
            return [] if is_linear(activation) else [_activation_part(layer, activation, function)]
    kind = LAYER_OF_NAME.get(type(layer).__name__)
    if kind is None or not type(layer).__module__.startswith("keras."):
        raise UnsupportedLayerError(
            f"There is no backward rule for {layer.name!r}, of type {type(layer).__name__}.\n"
            "Supported: the layers in utils.parts.LAYERS, dense layers, convolutions and batch normalization.\n"
            "What works here: the gradient methods (gradient, integrated_gradients, smoothgrad) and the class "
            "activation maps; or, if you know a rule for it, a line of your own in lrp, "
            f"{{{layer.name!r}: rule}} | composite."
        )
    return [_activation_part(layer, layer, function) if kind is Activation else kind(layer, function)]


def _over_time(layer, function):
    """The parts of a `TimeDistributed` layer: those of the layer inside, at each step of time."""
    chain = parts_of(layer.layer, layer.layer)
    linear = [part for part in chain if hasattr(part, "map")]
    if inherits_call(layer.layer, (layers.BatchNormalization,)):  # of the last axis, whatever comes before
        return [part.given(merged=(layer,)) for part in chain]
    if linear:
        return [*parts_over_time(layer, linear), *chain[len(linear) :]]
    return [type(part).__new__(type(part)).given(layer=layer, function=function) for part in chain[:1]]


def rescaling(layer, function, is_tensor, of_pixels):
    """An operation as a `Through` part if it scales its one tensor by a constant or shifts it; else None.

    So x / 127.5 - 1 is as a `Rescaling` layer. Behind a linear part, a constant that is added is no shift of pixels,
    but a bias, which takes its share.

    Args:
        layer, function: as in `parts_of`.
        is_tensor: for each operand, in their order, whether it is a tensor that depends on the input.
        of_pixels: whether no linear part comes before it.
    """
    if isinstance(layer, keras.Layer) or len(is_tensor) != 2 or sum(is_tensor) != 1:
        return None
    name = type(layer).__name__
    scales = name == "Multiply" or (name in ("Divide", "TrueDivide") and is_tensor[0])
    shifts = name in ("Add", "Subtract") and of_pixels
    return Through(layer, function) if scales or shifts else None


# --- activations

RELUS = (keras.activations.relu, keras.activations.relu6, ops.relu, ops.relu6, tf.nn.relu, tf.nn.relu6)
POSITIVE = (*RELUS, keras.activations.sigmoid, keras.activations.softplus, keras.activations.exponential)
# activations of each value by itself; another function, a softmax or the reader's own, may mix values
ELEMENTWISE = set(
    "relu relu6 leaky_relu elu selu gelu silu swish hard_silu hard_swish sigmoid hard_sigmoid tanh hard_tanh softplus "
    "softsign exponential mish log_sigmoid celu tanh_shrink soft_shrink hard_shrink squareplus".split()
)
GATES = {"sigmoid", "hard_sigmoid", "softmax", "Sigmoid", "HardSigmoid", "Softmax"}
_LAYER_NAMES = [t.__name__ for t in LAYERS[Activation]]


def _activation_part(layer, activation, function):
    """The activation of `layer` as a part: `activation` says which it is, `function` computes it."""
    if isinstance(activation, keras.Layer) or not hasattr(activation, "__name__"):
        kind = type(activation).__name__
        plain = kind in ("Relu", "Relu6") or (kind == "ReLU" and not activation.negative_slope)
        if kind == "Softmax":
            return Softmax(layer, function)
        if not (type(activation).__module__.startswith("keras.") and (kind in LAYER_OF_NAME or kind in _LAYER_NAMES)):
            raise _unsupported_activation(layer, kind)
        return (ReLU if plain else Activation)(layer, function)
    if activation.__name__.startswith("softmax"):
        return Softmax(layer, function)
    if activation.__name__ not in ELEMENTWISE:
        raise _unsupported_activation(layer, activation.__name__)
    return (ReLU if activation in RELUS else Activation)(layer, function)


def _unsupported_activation(layer, name):
    return UnsupportedLayerError(
        f"There is no backward rule for {name!r}, the activation of {layer.name!r}: it is not known to act on each "
        f"value by itself.\nSupported: {', '.join(sorted(ELEMENTWISE))}.\nWhat works here: the gradient methods and "
        "the class activation maps."
    )


def is_positive(part):
    """Whether no output of `part` can be below 0 (given what is known of its inputs)."""
    if isinstance(part, Activation):
        return isinstance(part, ReLU) or getattr(part.layer, "activation", None) in POSITIVE
    keeps_sign = isinstance(part, (Routing, Mixing)) or type(part.layer).__name__.endswith("Dropout")
    overshoots = getattr(part.layer, "interpolation", "") in ("bicubic", "lanczos3", "lanczos5")
    subtracts = type(part.layer).__name__ == "Subtract" or overshoots
    return part.inputs_are_positive and keeps_sign and not subtracts


def is_plain_relu(part):
    """Whether `part` is max(0, x): a ReLU without a ceiling, a threshold or a slope below it."""
    activation = getattr(part.layer, "activation", part.layer)
    if isinstance(activation, layers.ReLU):
        return activation.max_value is None and not activation.threshold and not activation.negative_slope
    return activation in (keras.activations.relu, ops.relu, tf.nn.relu) or type(activation).__name__ == "Relu"


def is_gate(part, scaled=False):
    """Whether `part` squashes what goes through it to values from 0 to 1: a sigmoid, a hard sigmoid or a softmax.

    A ReLU with a ceiling that is `scaled` afterwards is a hard sigmoid, relu6(x + 3) / 6.
    """
    names = {type(part.layer).__name__, getattr(getattr(part.layer, "activation", None), "__name__", "")}
    ceiling = getattr(part.layer, "max_value", None) or names & {"relu6", "Relu6"}
    squashes = names & GATES or (isinstance(part, ReLU) and scaled and ceiling)
    return isinstance(part, (Activation, Softmax)) and bool(squashes)


def pads_zeros(layer, function):
    """Whether a layer, or keras.ops.pad in its default mode and with no constant of its own, puts zeros around."""
    if type(layer).__name__ != "Pad" or getattr(layer, "mode", "") != "constant":
        return isinstance(layer, ZERO_PADDING)
    return not any(tf.is_tensor(value) or np.any(value) for value in function.constants)
