"""Layers with the weights of a linear map, and canonization: neighbours that are one linear map become one part."""

import tensorflow as tf
from keras import layers, ops

from .kinds import Linear, UnsupportedLayerError, inherits_call

CONVOLUTIONS = (
    *(layers.Conv1D, layers.Conv2D, layers.Conv3D),
    *(layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose),
    *(layers.DepthwiseConv1D, layers.DepthwiseConv2D),
    *(layers.SeparableConv1D, layers.SeparableConv2D),
)
TRANSPOSED, DEPTHWISE, SEPARABLE = CONVOLUTIONS[3:6], CONVOLUTIONS[6:8], CONVOLUTIONS[8:]
LINEAR = (layers.Dense, layers.EinsumDense, *CONVOLUTIONS)


def linear_parts(layer):
    """A layer of `LINEAR` as linear parts, without its activation: two for a separable convolution, else one."""

    def weights():
        return tf.convert_to_tensor(layer.kernel), bias()

    def bias():
        return None if layer.bias is None else tf.convert_to_tensor(layer.bias)

    if inherits_call(layer, (layers.Dense,)):
        return [Linear(layer, ops.matmul, weights)]
    if inherits_call(layer, (layers.EinsumDense,)):
        return [Linear(layer, lambda x, kernel: ops.einsum(layer.equation, x, kernel), weights)]
    how = {name: getattr(layer, name) for name in ("strides", "padding", "data_format", "dilation_rate")}

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
    if how["padding"] == "causal":
        before, how["padding"] = layer.dilation_rate[0] * (layer.kernel_size[0] - 1), "valid"
        return [Linear(layer, lambda x, k: ops.conv(ops.pad(x, [[0, 0], [before, 0], [0, 0]]), k, **how), weights)]
    return [Linear(layer, layer.convolution_op, weights)]


def parts_over_time(layer, chain):
    """The linear parts of the layer inside a `TimeDistributed`: each step of time by itself, with the same weights."""

    def of_each_step(map):
        def mapped(x, kernel):
            shape = tf.shape(x)
            y = map(tf.reshape(x, tf.concat([[-1], shape[2:]], 0)), kernel)
            y = tf.reshape(y, tf.concat([shape[:2], tf.shape(y)[1:]], 0))
            y.set_shape([x.shape[0], x.shape[1], *y.shape[2:]])
            return y

        return mapped

    return [Linear(layer, of_each_step(part.map), part.weights).given(merged=(part.layer,)) for part in chain]


# --- canonization


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

    return Linear(linear.layer, linear.map, weights).given(merged=(*linear.merged, norm))


def can_take_normalization(linear):
    """Whether the last axis of the kernel of `linear` is its channels, so that their scale can go into it."""
    return not isinstance(linear.layer, (layers.EinsumDense, layers.TimeDistributed))


def with_padding(padding, linear):
    """`linear(padding(x))` as one linear part: a rule then sees the pixels and not the zeros around them."""
    merged = Linear(linear.layer, lambda x, kernel: linear.map(padding(x), kernel), linear.weights)
    return merged.given(merged=(padding.layer, *linear.merged))


def refuse_quantized(layer):
    """Raise if the weights of `layer` are integers with a scale: they are not what its kernel says."""
    mode = getattr(layer, "quantization_mode", None)
    if mode:
        raise UnsupportedLayerError(
            f"The layer {layer.name!r} is quantized ({mode}), so its kernel is not the map that it computes.\n"
            "Expected: a model in floating point. Explain the model as it was before model.quantize()."
        )
