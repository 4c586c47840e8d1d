"""A Keras layer as a chain of elementary parts: all that a backward rule has to know about it.

A convolution with a ReLU is a `Linear` part and a `ReLU` part, whether the ReLU is its activation or a layer of its
own. A rule never sees a layer, only a part: what it computes, and for a linear one its kernel and its bias.
"""

import keras
import tensorflow as tf
from keras import layers, ops


class UnsupportedLayerError(ValueError):
    """There is no backward rule for a layer; the message names it."""


class Part:
    """One elementary map: `part(*inputs)`. `layer` is the Keras layer (or operation) that it comes from."""

    inputs_are_positive = False  # set while a model is rebuilt: no input can be below 0, so half of a rule vanishes
    output_is_positive = False  # likewise
    only_active = False  # likewise: relevance comes to no output that is not above 0
    reference = None  # its inputs and its output at the reference of DeepLIFT: see `at_reference` in `surgery`

    def __init__(self, layer, function):
        self.layer, self.function = layer, function

    def __call__(self, *inputs):
        return self.function(*inputs)


class Weighted(Part):
    """x -> map(x, kernel) + bias; `weights()` returns the present kernel and bias, None where there is none."""

    def __init__(self, layer, map, weights):
        self.layer, self.map, self.weights = layer, map, weights

    def __call__(self, x):
        kernel, bias = self.weights()
        # ops.add: the bias as Keras adds it, in one step with the convolution
        return self.map(x, kernel) if bias is None else ops.add(self.map(x, kernel), bias)


class Linear(Weighted):
    """A dense layer or a convolution: each output is a weighted sum of inputs."""


class Affine(Weighted):
    """A batch normalization that follows no linear part: x -> scale * x + shift, each channel for itself."""


class Activation(Part):
    """A function of each value by itself."""


class ReLU(Activation):
    """max(0, x), also with a ceiling."""


class LinearThenActivation(Part):
    """A linear part and the activation behind it as one: what DeepLIFT's reveal-cancel rule works on."""

    def __init__(self, linear, activation):
        self.layer, self.linear, self.activation = linear.layer, linear, activation

    def __call__(self, x):
        return self.activation(self.linear(x))


class Routing(Part):
    """Values are moved, copied or selected: each output is one of the inputs, or nothing."""


class MaxPooling(Routing):
    """Each output is the largest of its inputs."""


class Mixing(Part):
    """Values are added or averaged, with weights that are fixed."""


class Through(Part):
    """Each value goes on by itself, at most scaled and shifted: dropout, rescaling."""


class Normalizing(Part):
    """Each value is divided by a measure of its neighbours: layer normalization."""


class Product(Part):
    """A product of inputs: the first is the signal, the others are gates."""


class Softmax(Part):
    """A softmax that is not the model's head, or that is itself explained."""


CONVOLUTIONS = (
    *(layers.Conv1D, layers.Conv2D, layers.Conv3D),
    *(layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose),
    *(layers.DepthwiseConv1D, layers.DepthwiseConv2D),
    *(layers.SeparableConv1D, layers.SeparableConv2D),
)
TRANSPOSED, DEPTHWISE, SEPARABLE = CONVOLUTIONS[3:6], CONVOLUTIONS[6:8], CONVOLUTIONS[8:]
AUGMENTATION = (  # it does nothing when a model is used
    *(layers.RandomFlip, layers.RandomRotation, layers.RandomZoom, layers.RandomTranslation),
    *(layers.RandomContrast, layers.RandomBrightness),
)
ZERO_PADDING = (layers.ZeroPadding1D, layers.ZeroPadding2D, layers.ZeroPadding3D)

# the supported layers; those with weights of a linear map (Dense, convolutions, BatchNormalization) are in `parts_of`
LAYERS = {
    Activation: (layers.Activation, layers.ReLU, layers.LeakyReLU, layers.ELU, layers.PReLU),
    Routing: (
        *(layers.Flatten, layers.Reshape, layers.Permute, layers.RepeatVector, layers.Concatenate, layers.Identity),
        *(layers.UpSampling1D, layers.UpSampling2D, layers.UpSampling3D, *ZERO_PADDING),
        *(layers.Cropping1D, layers.Cropping2D, layers.Cropping3D),
    ),
    MaxPooling: (
        *(layers.MaxPooling1D, layers.MaxPooling2D, layers.MaxPooling3D, layers.Maximum),
        *(layers.GlobalMaxPooling1D, layers.GlobalMaxPooling2D, layers.GlobalMaxPooling3D),
    ),
    Mixing: (
        *(layers.Add, layers.Subtract, layers.Average),
        *(layers.AveragePooling1D, layers.AveragePooling2D, layers.AveragePooling3D),
        *(layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D, layers.GlobalAveragePooling3D),
    ),
    Through: (
        *(layers.Dropout, layers.SpatialDropout1D, layers.SpatialDropout2D, layers.SpatialDropout3D),
        *(layers.AlphaDropout, layers.GaussianDropout, layers.GaussianNoise, layers.ActivityRegularization),
        *(layers.Rescaling, layers.Normalization, *AUGMENTATION),
    ),
    Normalizing: (layers.LayerNormalization, layers.GroupNormalization, layers.UnitNormalization),
    Product: (layers.Multiply,),
    Softmax: (layers.Softmax,),
}
# operations of keras.ops, and layers that keras.applications define for themselves, by the names of their classes
NAMES = {
    Activation: "Relu ReLU Relu6 LeakyRelu Elu Selu Gelu Silu Sigmoid Tanh Softplus Softsign Exp HardSigmoid HardSilu",
    Routing: "GetItem Reshape Transpose Concatenate Stack Squeeze ExpandDims Pad Repeat Flip",
    MaxPooling: "MaxPool Maximum",
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
    linear = inherits_call(layer, (layers.Dense, *CONVOLUTIONS))
    if linear:
        chain = _linear_parts(layer)
        activation = layer.activation
        return chain if _is_linear(activation) else [*chain, _activation_part(layer, activation, activation)]
    if inherits_call(layer, (layers.BatchNormalization,)):
        if layer.axis not in (-1, len(layer.input.shape) - 1):
            raise UnsupportedLayerError(f"{layer.name!r} normalizes axis {layer.axis}. Expected: the last one.")
        return [Affine(layer, ops.multiply, lambda: scale_and_shift(layer))]
    for kind, types in LAYERS.items():
        if inherits_call(layer, types):
            if kind is Routing and getattr(layer, "interpolation", "nearest") != "nearest":
                return [Mixing(layer, function)]
            if kind is not Activation:
                return [kind(layer, function)]
            activation = getattr(layer, "activation", layer)
            return [] if _is_linear(activation) else [_activation_part(layer, activation, function)]
    kind = LAYER_OF_NAME.get(type(layer).__name__)
    if kind is None or not type(layer).__module__.startswith("keras."):
        raise UnsupportedLayerError(
            f"There is no backward rule for {layer.name!r}, of type {type(layer).__name__}. Supported: Dense, "
            f"BatchNormalization, {', '.join(t.__name__ for t in CONVOLUTIONS)}, "
            f"{', '.join(t.__name__ for types in LAYERS.values() for t in types)}, and operations named "
            f"{', '.join(LAYER_OF_NAME)}. The gradient methods work on any layer."
        )
    return [_activation_part(layer, layer, function) if kind is Activation else kind(layer, function)]


def rescaling(layer, function, values, of_pixels):
    """An operation as a `Through` part if it scales its one tensor by a constant or shifts it; else None.

    So x / 127.5 - 1 is as a `Rescaling` layer. Behind a linear part, a constant that is added is no shift of pixels,
    but a bias, which takes its share.

    Args:
        layer, function: as in `parts_of`.
        values: all operands of an operation, tensors and constants, in their order.
        of_pixels: whether no linear part comes before it.
    """
    tensors = [keras.backend.is_keras_tensor(value) for value in values]
    if isinstance(layer, keras.Layer) or len(values) != 2 or sum(tensors) != 1:
        return None
    name = type(layer).__name__
    scales = name == "Multiply" or (name in ("Divide", "TrueDivide") and tensors[0])
    shifts = name in ("Add", "Subtract") and of_pixels
    return Through(layer, function) if scales or shifts else None


def inherits_call(layer, types):
    """Whether `layer` is of one of `types` and computes what that type computes, with no `call` of its own."""
    own = "call" in getattr(layer, "__dict__", ())
    return not own and any(isinstance(layer, t) and type(layer).call is t.call for t in types)


def _is_linear(activation):
    return activation is None or activation is keras.activations.linear


RELUS = (keras.activations.relu, keras.activations.relu6, ops.relu, ops.relu6, tf.nn.relu, tf.nn.relu6)
POSITIVE = (*RELUS, keras.activations.sigmoid, keras.activations.softplus, keras.activations.exponential)
# activations of each value by itself; another function, a softmax or the reader's own, may mix values
ELEMENTWISE = set(
    "relu relu6 leaky_relu elu selu gelu silu swish hard_silu hard_swish sigmoid hard_sigmoid tanh hard_tanh softplus "
    "softsign exponential mish log_sigmoid celu tanh_shrink soft_shrink hard_shrink squareplus".split()
)


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


_LAYER_NAMES = [t.__name__ for t in LAYERS[Activation]]


def _unsupported_activation(layer, name):
    return UnsupportedLayerError(
        f"There is no backward rule for {name!r}, the activation of {layer.name!r}: it is not known to act on each "
        f"value by itself. Supported: {', '.join(sorted(ELEMENTWISE))}."
    )


def is_positive(part):
    """Whether no output of `part` can be below 0 (given what is known of its inputs)."""
    if isinstance(part, Activation):
        return isinstance(part, ReLU) or getattr(part.layer, "activation", None) in POSITIVE
    keeps_sign = isinstance(part, (Routing, Mixing)) or type(part.layer).__name__.endswith("Dropout")
    overshoots = getattr(part.layer, "interpolation", "") in ("bicubic", "lanczos3", "lanczos5")
    subtracts = type(part.layer).__name__ == "Subtract" or overshoots
    return part.inputs_are_positive and keeps_sign and not subtracts


# --- linear layers


def _linear_parts(layer):
    def weights():
        return tf.convert_to_tensor(layer.kernel), bias()

    def bias():
        return tf.convert_to_tensor(layer.bias) if layer.use_bias else None

    if isinstance(layer, layers.Dense):
        return [Linear(layer, ops.matmul, weights)]
    how = {name: getattr(layer, name) for name in ("strides", "padding", "data_format", "dilation_rate")}
    if how["padding"] == "causal":
        raise UnsupportedLayerError(
            f"{layer.name!r} pads causally, inside its call. Expected: padding 'valid' or 'same'. A ZeroPadding1D "
            "layer before a 'valid' convolution does the same."
        )

    def depthwise(x, kernel):
        return ops.depthwise_conv(x, kernel, **how)

    if isinstance(layer, TRANSPOSED):
        how["output_padding"] = layer.output_padding
        return [Linear(layer, lambda x, kernel: ops.conv_transpose(x, kernel, **how), weights)]
    if isinstance(layer, DEPTHWISE):
        return [Linear(layer, depthwise, weights)]
    if isinstance(layer, SEPARABLE):

        def pointwise(x, kernel):
            return ops.conv(x, kernel, data_format=layer.data_format)

        return [
            Linear(layer, depthwise, lambda: (tf.convert_to_tensor(layer.depthwise_kernel), None)),
            Linear(layer, pointwise, lambda: (tf.convert_to_tensor(layer.pointwise_kernel), bias())),
        ]
    return [Linear(layer, layer.convolution_op, weights)]


def scale_and_shift(norm):
    """A batch normalization after training: x -> scale x + shift, both `[channels]`."""
    scale = tf.math.rsqrt(norm.moving_variance + norm.epsilon)
    scale = scale * norm.gamma if norm.scale else scale
    shift = -norm.moving_mean * scale
    return scale, shift + norm.beta if norm.center else shift


def with_normalization(linear, norm):
    """`norm(linear(x))` as one linear part: the scale goes into the kernel, the shift into the bias."""

    def weights():
        kernel, bias = linear.weights()
        scale, shift = scale_and_shift(norm)
        if isinstance(linear.layer, TRANSPOSED):
            kernel = kernel * scale[:, None]
        elif isinstance(linear.layer, DEPTHWISE):
            kernel = kernel * tf.reshape(scale, kernel.shape[-2:])
        else:
            kernel = kernel * scale
        return kernel, shift if bias is None else bias * scale + shift

    return Linear(linear.layer, linear.map, weights)


def with_padding(padding, linear):
    """`linear(padding(x))` as one linear part: a rule then sees the pixels and not the zeros around them."""
    return Linear(linear.layer, lambda x, kernel: linear.map(padding(x), kernel), linear.weights)
