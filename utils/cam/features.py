"""Which feature map, and what a network computes there: the forward walk with one output watched."""

import typing

import keras
import numpy as np
import tensorflow as tf

from ..checks import integer, rows
from ..graph import walk, whole_layer
from ..logits import PASSES_ON, is_head
from ..outputs import refuse_other_values
from ..parts import inherits_call
from ..scores import LABELS, scores_of

AVERAGES = (
    keras.layers.GlobalAveragePooling1D,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalAveragePooling3D,
)


class Place(typing.NamedTuple):
    """What one layer of the flat network computes; a shared layer has several places."""

    index: int  # its place in the order in which they compute
    layer: keras.Layer
    inputs: set  # ids of symbolic tensors
    output: typing.Any
    used: bool  # whether the scores depend on it


def checked(model, x, target, explain, batch_size):
    """As `scores.checked`, for models of several inputs too, and of integers."""
    f = scores_of(model, explain, several_inputs=True)
    x = f.inputs(x)
    return f, x, f.targets(x, target, batch_size)


def places(f):
    """All places of the network, in the order in which they compute."""

    def make():
        found = []

        def note(layer, inputs, output):
            found.append((layer, {id(x) for x in inputs}, output))

        scores = []
        f.concrete(lambda x: scores.extend(walk(f.model, keras.tree.flatten(x), whole_layer, note)) or scores[0])
        used, kept = {id(scores[0])}, []
        for k, (layer, inputs, output) in reversed(list(enumerate(found))):
            is_used = any(id(tensor) in used for tensor in keras.tree.flatten(output))
            used |= inputs if is_used else set()
            kept.insert(0, Place(k, layer, inputs, output, is_used))
        first = [place.layer for place in kept if getattr(place.layer, "data_format", None) == "channels_first"]
        if first:
            raise ValueError(f"{first[0].name!r} has channels first. Expected: channels last, Keras's default.")
        return kept

    return f.compiled("places", make)


def features_and_scores(f, x, place, watch=lambda A: None):
    """The output at `place`, given to `watch` as soon as it is there, and the scores."""
    outputs, found = [], []

    def note(layer, inputs, output):
        outputs.append(output)
        if len(outputs) == place.index + 1:
            watch(output)
            found.append(output)

    (scores,) = walk(f.model, keras.tree.flatten(x), whole_layer, note)
    return found[0], scores


def maps_of(f, key, maps, x, target, batch_size):
    """What `maps(x, target)` returns first, its second result being the scores; compiled once for `key`."""
    run = f.compiled(key, lambda: f.concrete(maps, LABELS))

    def checked_maps(x, target):
        made, scores = run(x, target)
        f.check_outputs(x, scores)
        check_scores(f, key, x, scores)
        return made

    return f.in_batches(checked_maps, x, target, batch_size=batch_size)


def check_scores(f, key, x, scores):
    """Raise unless the walk computes what the model computes: once for each key."""

    def compare():
        refuse_other_values(scores, f(x), f"Layer by layer, {f.name!r} does not compute what it computes whole")
        return True

    if rows(x):
        f.compiled(("agrees", key), compare)


def feature_map(f, layer, announce=None):
    """The place that `layer` (a name, a layer or None for the last) means; `announce` is the method that says so."""
    if layer is None or isinstance(layer, str):
        place = f.compiled(("feature map", layer), lambda: _feature_map(f, layer))
    else:
        place = _feature_map(f, layer)
    if layer is None and announce:
        sizes = " x ".join("any" if size is None else str(size) for size in place.output.shape[1:])
        print(f"{announce}: the feature map of {place.layer.name!r}, {sizes}.")
    return place


def _feature_map(f, layer):
    ranks = {len(tensor.shape) for tensor in f.model.inputs if len(tensor.shape) > 2} or {3}
    maps = [place for place in places(f) if len(getattr(place.output, "shape", ())) in (3, 4, 5)]
    single = [place for place in maps if not isinstance(place.layer, keras.Model)]
    if layer is None:
        found = [p for p in single if len(p.output.shape) in ranks and set(p.output.shape[1:-1]) != {1} and p.used][-1:]
        found = [place for place in maps if found and place.layer is found[0].layer]
    elif isinstance(layer, str):
        found = [place for place in maps if place.layer.name == layer]
    else:
        found = [place for place in maps if place.layer is layer]
    if len(found) != 1:
        layer = found[0].layer if found and layer is None else layer
        received = layer if layer is None or isinstance(layer, str) else getattr(layer, "name", layer)
        shared = len({id(place.layer) for place in found}) == 1
        counts = {id(p.layer): sum(q.layer is p.layer for q in single) for p in single}
        once = ", ".join(dict.fromkeys(p.layer.name for p in single if counts[id(p.layer)] == 1)) or "there is none"
        why = "gives no feature map"
        if found:
            why = "stands in several places" + (
                ": it is shared, and has a map in each; choose one that computes once"
                if shared
                else "; pass the layer itself, or another"
            )
        raise ValueError(
            f"{received!r} {why}. Expected a layer of {f.name!r} with an output [n, height, width, channels], or "
            f"[n, length, channels] or a volume: {once}."
        )
    return found[0]


def _moved_axes(f, place):
    """A layer below `place` that moves the axes of the images, or None."""
    needed = {id(tensor) for tensor in keras.tree.flatten(place.output)}
    for below in reversed(places(f)[: place.index + 1]):
        if any(id(tensor) in needed for tensor in keras.tree.flatten(below.output)):
            needed |= below.inputs
            if type(below.layer).__name__ in ("Permute", "Transpose", "Moveaxis", "Swapaxes"):
                return below.layer
    return None


def map_size(upsample, x, f, place):
    """The size that maps are to have, None for that of the feature map."""
    if upsample is False:
        return None
    if upsample is not True:
        if not isinstance(upsample, (tuple, list)):
            raise ValueError(f"upsample must be True, False or (height, width). Received: {upsample!r}.")
        return tuple(integer(side, "upsample") for side in upsample)
    rank = len(place.output.shape)
    shapes = [part.shape[1:] for part in keras.tree.flatten(x)]
    sizes = {shape[:-1] for shape in shapes if len(shape) == rank - 1}
    if len(sizes) != 1:
        raise ValueError(
            f"The inputs have the shapes {shapes}. Expected: images of one size, [n, height, width, channels], or "
            "upsample=(height, width)."
        )
    moved = _moved_axes(f, place)
    if moved:
        raise ValueError(
            f"{moved.name!r} moves the axes of the images. Expected: images [n, height, width, channels], or "
            "upsample=(height, width)."
        )
    return sizes.pop()


def average_head(f):
    """The place of what the network's global average averages, and the dense layer behind it, None if there is none."""
    made = {id(place.output): place for place in places(f) if not isinstance(place.layer, keras.Model)}

    def below(place):
        found = [made[key] for key in place.inputs if key in made] if place else []
        return found[0] if len(found) == 1 else None

    last = made.get(id(places(f)[-1].output))
    head = last if last and inherits_call(last.layer, (keras.layers.Dense,)) else None
    average = below(head) if head else last
    while head and average and inherits_call(average.layer, PASSES_ON):
        average = below(average)
    averaged = below(average) if average and inherits_call(average.layer, AVERAGES) else None
    if averaged is None:
        name = type(average.layer).__name__ if average else "its input"
        raise ValueError(
            "A class activation map needs a network that ends in a global average pooling, alone or with one Dense "
            f"layer behind it. Received: {f.name!r}, which ends in {type(last.layer).__name__} after {name}. "
            "grad_cam needs no such end."
        )
    masks = [layer for layer in f.state.layers if getattr(layer, "mask_zero", isinstance(layer, keras.layers.Masking))]
    if masks:
        raise ValueError(
            f"{masks[0].name!r} masks places, which the average of {f.name!r} leaves out, so that the score is no "
            "average over all places of a map. Try grad_cam, or hires_cam, which needs no such end."
        )
    if head is None:
        return averaged, None
    head = head.layer
    if getattr(head, "quantization_mode", None):
        raise ValueError(f"The last layer {head.name!r} is quantized, so its kernel is not its weights. Try grad_cam.")
    if head.activation is not keras.activations.linear and not is_head(head):  # a head has been dropped
        raise ValueError(f"The last layer {head.name!r} has an activation, so its output is no sum over places.")
    return averaged, head


def whole(tensor):
    """In at least float32: sums over half-precision maps would lose digits."""
    return tensor if tensor.dtype == "float64" else tf.cast(tensor, "float32")


def score_scale(f, A):
    """In half precision, slopes of about 1 / places would be lost: the score is scaled up, its gradient down again."""
    if not f.is_half:
        return 1.0
    return 2.0 ** tf.floor(tf.math.log(tf.cast(tf.size(A[0, ..., 0]), "float32")) / np.log(2))
