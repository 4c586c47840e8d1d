"""A Keras layer as a chain of elementary parts: all that a backward rule has to know about it.

A convolution with a ReLU is a `Linear` part and a `ReLU` part, whether the ReLU is its activation or a layer of its
own. A rule never sees a layer, only a part: what it computes, and for a linear one its kernel and its bias.
"""

from .kinds import (
    Activation,
    Affine,
    Linear,
    LinearThenActivation,
    MaxPooling,
    Mixing,
    Normalizing,
    Opaque,
    Part,
    Product,
    ReLU,
    Routing,
    Softmax,
    Through,
    UnsupportedLayerError,
    Weighted,
    inherits_call,
)
from .layers import (
    AUGMENTATION,
    DROPOUT,
    LAYERS,
    is_gate,
    is_plain_relu,
    is_positive,
    pads_zeros,
    parts_of,
    rescaling,
)
from .linear import (
    CONVOLUTIONS,
    LINEAR,
    can_take_normalization,
    linear_parts,
    scale_and_shift,
    with_normalization,
    with_padding,
)
