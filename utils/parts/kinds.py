"""The kinds of part: what a backward rule has to know of a layer."""

import copy

import keras
import tensorflow as tf
from keras import ops


class UnsupportedLayerError(ValueError):
    """There is no backward rule for a layer; the message names it."""


class Part:
    """One elementary map: `part(*inputs)`.

    Attributes:
        layer: the Keras layer (or operation) that it comes from.
        merged: other layers that it stands for as well, such as a batch normalization behind a convolution.
        pads_zeros: it does nothing but put zeros around its input.
        reads_pixels: no linear part comes before it.
        inputs_are_positive: no input can be below 0, so half of a rule vanishes.
        output_is_positive: no output can be below 0.
        only_active: relevance arrives at no output that is not above 0.
        reference: its inputs and its output at the baseline of DeepLIFT.
        absorbed: a list that collects what stabilisers take, for a ledger; None where nobody asks.
    """

    merged = ()
    pads_zeros = reads_pixels = inputs_are_positive = output_is_positive = only_active = False
    reference = absorbed = None

    def __init__(self, layer, function):
        self.layer, self.function = layer, function

    def __call__(self, *inputs):
        return self.function(*inputs)

    def given(self, **facts):
        """This part with other attributes; the part itself stays as it is."""
        part = copy.copy(self)
        vars(part).update(facts)
        return part


class Weighted(Part):
    """x -> map(x, kernel) + bias; `weights()` returns the present kernel and bias, None where there is none."""

    def __init__(self, layer, map, weights):
        self.layer, self.map, self.weights = layer, map, weights

    def __call__(self, x):
        kernel, bias = self.weights()
        precision = getattr(self.layer, "compute_dtype", None) or x.dtype.name
        x, kernel = tf.cast(x, precision), tf.cast(kernel, precision)  # as the layer itself does
        bias = None if bias is None else tf.cast(bias, precision)
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
        self.merged = (*linear.merged, activation.layer)

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
    """A product of inputs, one of which is the signal and the others gates.

    `signal` is the place of the signal among the inputs, None where nothing tells.
    """

    signal = None


class Softmax(Part):
    """A softmax that is not the model's head, or that is itself explained."""


class Opaque(Part):
    """A layer of which nothing is known: only a line of the composite that names it can serve it."""


def inherits_call(layer, types):
    """Whether `layer` is of one of `types` and computes what that type computes, with no `call` of its own."""
    own = "call" in getattr(layer, "__dict__", ())
    return not own and any(isinstance(layer, t) and _computes_as(type(layer), t) for t in types)


def _computes_as(own, base):
    """Whether a class computes what `base` does; a convolution may be changed in its `convolution_op` too."""
    return own.call is base.call and getattr(own, "convolution_op", 0) is getattr(base, "convolution_op", 0)


def is_linear(activation):
    return activation is None or activation is keras.activations.linear
