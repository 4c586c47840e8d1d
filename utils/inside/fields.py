"""What a unit sees: its receptive field in the image, and the places in photographs that excite it most."""

import typing

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from ..cam.features import places, whole
from ..checks import as_array, integer, refuse_unless_finite
from ..parts import (
    LINEAR,
    Activation,
    Affine,
    Product,
    Softmax,
    Through,
    UnsupportedLayerError,
    inherits_call,
    parts_of,
)
from ..scores import scores_of
from .layers import check_walk, place_of, reading

WINDOWS = (
    *(layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D),
    *(layers.MaxPooling2D, layers.AveragePooling2D),
)
OVER_CHANNELS = (layers.LayerNormalization, layers.UnitNormalization, layers.Softmax, layers.Concatenate)
AT_EACH_PLACE = (layers.Identity, layers.Add, layers.Subtract, layers.Average, layers.Maximum, layers.Minimum)
# operations, by the names of their classes; with constants too
OPERATIONS = "Add Subtract Multiply Divide TrueDivide Negative Maximum Minimum Identity".split()


class Field(typing.NamedTuple):
    """The unit at place i of an axis sees the pixels from `offset` + i * `stride` on, `size` of them.

    Each is a pair, for rows and for columns. Fields stick out of the image where a layer pads it.
    """

    size: tuple
    stride: tuple
    offset: tuple


class Patches(typing.NamedTuple):
    """The k places of each channel with the largest activation, each in another image, the largest first.

    `values`, `indices` (of the images), `rows`, `columns` (of the place in the layer) are `[channels, k]`; `patches`
    `[channels, k, height, width, c]` is what is seen there, and `inside` `[channels, k, height, width]` says which of
    its pixels lie in the image. The others are grey.
    """

    values: np.ndarray
    indices: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    patches: np.ndarray
    inside: np.ndarray


def receptive_field(model, layer):
    """The receptive field of the units of `layer` in the image, a `Field`: size, stride and offset in pixels.

    A window of k pixels, d apart, at every s-th place, behind p pixels of padding, makes of a field of size r, stride t
    and offset o one of

        r' = r + (k - 1) d t,  t' = s t,  o' = o - p t.

    Araujo, Norris and Sim (2019, doi:10.23915/distill.00021). Where branches meet, it is the smallest
    rectangle around the fields of all. The field is what a unit can see: weights that are 0, and the gaps of a dilated
    convolution, leave pixels of it out.

    Raises:
        ValueError: `layer` has no places `[n, height, width, channels]`, or a layer below it is not known to read a
            window of fixed size around each.
    """
    return _field(scores_of(model, "output"), layer)


def _field(f, layer):
    place = place_of(f, layer)
    if len(place.output.shape) != 4 or len(f.shape) != 3:
        raise ValueError(
            f"A receptive field belongs to places in images. Received: {place.layer.name!r}, whose output is "
            f"{place.output.shape}, of a model of {[None, *f.shape]}. Expected: both [n, height, width, channels]."
        )
    for earlier in places(f)[: place.index]:
        if earlier.inputs and not all(tensor.dtype.is_floating for tensor in keras.tree.flatten(earlier.output)):
            raise ValueError(
                f"{earlier.layer.name!r} makes whole numbers or a mask of the image, and what depends on these is not "
                "followed. Choose a layer below it."
            )
    made = {}  # by the id of each tensor: its field and its height and width
    image = Field((1, 1), (1, 1), (0, 0)), tuple(f.shape[:2])
    needed = _below(f, place)
    for below in needed:
        # what no layer has made is the image
        inputs = [made.get(key, image) for key in below.inputs]
        shape = tuple(getattr(below.output, "shape", ()))
        local, shape = _window(below.layer, inputs, shape[1:3]) if len(shape) == 4 else None, shape[1:3]
        strides = {field.stride for field, _ in inputs}
        if local is None or len(strides) > 1:
            why = (
                f"meets branches with the strides {sorted(strides)}"
                if local
                else f"of type {type(below.layer).__name__}, is not known to read a window of fixed size at each place"
            )
            raise ValueError(
                f"The receptive field of {place.layer.name!r} is not known, for {below.layer.name!r} {why}. "
                "Expected below it: convolutions and poolings whose images have known sizes, paddings, and layers that "
                "work on each place by itself. Choose an earlier layer."
            )
        made[id(below.output)] = _through(_union([field for field, _ in inputs]), local), shape
    return made[id(place.output)][0]


def _below(f, place):
    """`place` and all that it depends on, in the order in which they compute; of inner models, their layers."""
    needed, kept = {id(place.output)}, []
    for below in reversed(places(f)[: place.index + 1]):
        outputs = {id(tensor) for tensor in keras.tree.flatten(below.output)}
        if outputs & needed and below.inputs and not isinstance(below.layer, keras.Model):
            needed |= below.inputs
            kept.insert(0, below)
    return kept


def _union(fields):
    """The smallest field around several of one stride."""
    low = np.min([field.offset for field in fields], 0)
    high = np.max([np.add(field.offset, field.size) for field in fields], 0)
    return Field(_pair(high - low), fields[0].stride, _pair(low))


def _through(field, local):
    """What a window `local`, in places of a layer, sees of the image, each place having a field."""
    size, stride, offset = (np.array(values) for values in field)
    return Field(
        _pair(size + (np.array(local.size) - 1) * stride),
        _pair(stride * local.stride),
        _pair(offset + stride * local.offset),
    )


def _pair(values):
    return tuple(int(value) for value in values)


def _window(layer, inputs, shape):
    """The field of one layer's units in its own inputs `(field, (height, width))`, or None where it is not known."""
    while inherits_call(layer, (layers.SpectralNormalization,)):
        layer = layer.layer
    sizes = {size for _, size in inputs}
    if inherits_call(layer, (layers.ZeroPadding2D,)):
        return Field((1, 1), (1, 1), tuple(-before for before, _ in layer.padding))
    if inherits_call(layer, (layers.Cropping2D,)):
        return Field((1, 1), (1, 1), tuple(before for before, _ in layer.cropping))
    if inherits_call(layer, WINDOWS) and _is_known(layer):
        steps = [_along(layer, axis, sizes) for axis in (0, 1)]
        return None if None in steps else Field(*zip(*steps))
    # broadcasting, as of a gate [n, 1, 1, channels], would show in the sizes
    return Field((1, 1), (1, 1), (0, 0)) if sizes == {shape} and _works_at_each_place(layer) else None


def _along(layer, axis, sizes):
    """Size, stride and offset of a window along one axis; None where its padding depends on a size not known."""
    kernel = getattr(layer, "kernel_size", None) or layer.pool_size
    dilation = getattr(layer, "dilation_rate", (1, 1))
    dilation = dilation if isinstance(dilation, int) else dilation[axis]
    size, stride, padding = (kernel[axis] - 1) * dilation + 1, layer.strides[axis], 0
    if layer.padding == "same":
        ((*image,),) = sizes
        if stride == 1:
            padding = size - 1
        elif image[axis] is None:
            return None
        else:  # as little as makes ceil(image / stride) places
            padding = max((-(-image[axis] // stride) - 1) * stride + size - image[axis], 0)
    return size, stride, -(padding // 2)


def _is_known(layer):
    """Whether a layer with weights computes what its type does, and has an activation of each place by itself."""
    try:
        parts_of(layer, None)
    except UnsupportedLayerError:
        return False
    return True


def _works_at_each_place(layer):
    """Whether a layer or operation makes each place of its output of the same place of its inputs."""
    name = type(layer).__name__
    if inherits_call(layer, OVER_CHANNELS) or (name in ("Concatenate", "Softmax") and not _is_layer(layer)):
        return layer.axis in (-1, 3, [-1], [3], (-1,), (3,))
    if inherits_call(layer, AT_EACH_PLACE) or (name in OPERATIONS and not _is_layer(layer)):
        return True
    if inherits_call(layer, LINEAR):
        return inherits_call(layer, (layers.Dense,)) and _is_known(layer)
    try:
        chain = parts_of(layer, None)
    except UnsupportedLayerError:
        return False
    mixes = getattr(getattr(layer, "activation", None), "axis", -1) != -1
    return not mixes and all(isinstance(part, (Activation, Affine, Product, Softmax, Through)) for part in chain)


def _is_layer(layer):
    return isinstance(layer, keras.Layer)


def _largest(A):
    """The largest value of each channel, `[n, channels]`, its row and column; NaN if a value is not finite."""
    A = whole(A)
    flat = tf.reshape(A, [tf.shape(A)[0], -1, A.shape[-1]])
    at = tf.argmax(flat, 1)
    finite = tf.reduce_all(tf.math.is_finite(flat), 1)
    largest = tf.reduce_max(flat, 1)
    width = tf.cast(tf.shape(A)[2], at.dtype)
    return tf.where(finite, largest, largest * np.nan), at // width, at % width


def top_patches(model, layer, images, k=9, channels=None, batch_size=None, grey=0.5):
    """For each channel of `layer`, the k places in `images` that excite it most, and what is seen there: `Patches`.

    Each place is the best of its image, so that the k are of different images; of equal values, the first counts. The
    memory that is needed does not grow with the number of images, which may be a `numpy.memmap`.

    Args:
        model: a built functional or Sequential Keras model with one input and scores `[n, classes]`.
        layer: a layer whose `receptive_field` is known.
        images: `[n, height, width, c]`.
        channels: an index or a list of these; None for all.
        grey: the value of pixels outside of the image.

    Raises:
        ValueError: there are fewer than k images, or no such channel; what `receptive_field` refuses.
    """
    f = scores_of(model, "output")
    field, place = _field(f, layer), place_of(f, layer)
    images, k = as_array(images, "images"), integer(k, "k")
    check_walk(f, f.inputs(images[:2] if images.ndim == 4 else images))
    if k > len(images):
        raise ValueError(f"k is how many different images are sought. Received: k={k}, {len(images)} images.")
    channels = _channels(channels, place)
    run, step = reading(f, [place], _largest), f.batch_size(batch_size, images)
    best = None
    for start in range(0, len(images), step):
        ((values, rows, columns),) = run(f.inputs(images[start : start + step]))
        refuse_unless_finite(values, f"outputs of {place.layer.name!r}", f.name)
        indices = np.broadcast_to(np.arange(start, start + len(values))[:, None], values.shape)
        found = [np.asarray(one)[:, channels].T for one in (values, indices, rows, columns)]
        found = found if best is None else [np.concatenate(pair, 1) for pair in zip(best, found)]
        order = np.argsort(-found[0], 1, kind="stable")[:, :k]
        best = [np.take_along_axis(one, order, 1) for one in found]
    return Patches(*best, *_cut(images, field, *best[1:], grey, f.dtype))


def _channels(channels, place):
    last = place.output.shape[-1]
    if channels is None:
        return np.arange(last)
    chosen = np.atleast_1d(as_array(channels, "channels"))
    if chosen.ndim != 1 or chosen.dtype.kind not in "iu" or not len(chosen) or not np.isin(chosen, range(last)).all():
        raise ValueError(
            f"channels must be indices, 0 to {last - 1}, of the channels of {place.layer.name!r}. "
            f"Received: {channels!r}."
        )
    return chosen


def _cut(images, field, indices, rows, columns, grey, dtype):
    """The fields of the places, with `grey` where they stick out, and which of their pixels do not."""
    at, inside = [], []
    for axis, place in enumerate((rows, columns)):
        pixels = field.offset[axis] + place[..., None] * field.stride[axis] + np.arange(field.size[axis])
        at.append(np.clip(pixels, 0, images.shape[1 + axis] - 1))
        inside.append(pixels == at[-1])
    inside = inside[0][..., :, None] & inside[1][..., None, :]
    patches = images[indices[..., None, None], at[0][..., :, None], at[1][..., None, :]].astype(dtype)
    patches[~inside] = grey
    return patches, inside
