"""The outputs of layers, from the walk that also serves the class activation maps."""

import keras
import tensorflow as tf

from ..cam.features import check_scores, places, whole
from ..checks import refuse_unless_finite, rows
from ..graph import walk, whole_layer
from ..outputs import chunk
from ..scores import scores_of


def activations(model, x, layers, batch_size=None):
    """The outputs of `layers`, behind their activations, as a dictionary: name -> array `[n, ...]`.

    Args:
        model: a built functional or Sequential Keras model with one input and scores `[n, classes]`.
        x: images `[n, ...]` as the model was trained on them.
        layers: a name, a layer, or a list of these; also of layers inside a nested model.
        batch_size: how many images at a time; results do not depend on it.

    Returns:
        float32 arrays, float64 ones of a model in float64.

    Raises:
        ValueError: a layer is not there, or stands in several places; an output is not finite; `x` does not fit.
    """
    f = scores_of(model, "output")
    x = f.inputs(x)
    found = [place_of(f, layer) for layer in (layers if isinstance(layers, (list, tuple)) else [layers])]
    names = [place.layer.name for place in found]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"Expected at least one layer, each with a name of its own. Received: {names}.")
    check_walk(f, x)
    outputs = f.in_batches(reading(f, found, whole), x, batch_size=batch_size)
    for name, values in zip(names, outputs):
        refuse_unless_finite(values, f"outputs of {name!r}", f.name)
    return dict(zip(names, outputs))


def place_of(f, layer):
    """The one place of the flat network that `layer`, a name or a layer, means."""
    there = [place for place in places(f) if place.inputs and hasattr(place.output, "shape")]
    named = isinstance(layer, str)
    found = [place for place in there if (place.layer.name == layer if named else place.layer is layer)]
    if len(found) == 1:
        return found[0]
    received = repr(layer if named else getattr(layer, "name", layer))
    names = [place.layer.name for place in there]
    once = ", ".join(repr(name) for name in names if names.count(name) == 1)
    if not found:
        raise ValueError(f"{f.name!r} has no layer {received}. Expected one of: {once}.")
    shared = len({id(place.layer) for place in found}) == 1
    advice = "it is shared, and has an output in each" if shared else "pass the layer itself"
    raise ValueError(f"{received} stands in {len(found)} places of {f.name!r}: {advice}. In one place stand: {once}.")


def outputs_at(f, found, x):
    """The outputs at each place in `found` for a tensor of images, as a graph to be compiled."""
    outputs = []
    walk(f.model, keras.tree.flatten(x), whole_layer, lambda layer, inputs, output: outputs.append(output))
    return [outputs[place.index] for place in found]


def reading(f, found, what):
    """A function of images that returns `what(output)` for each place in `found`; compiled once."""

    def read(x):
        return [what(output) for output in outputs_at(f, found, x)]

    # what lies above these places is left out of the compiled function, for nothing in it is returned
    return f.compiled((what, *(place.index for place in found)), lambda: f.concrete(read))


def check_walk(f, x):
    """Raise unless the walk computes what the model computes: once for each model, on two images."""

    def compare():
        first = chunk(x, 0, 2)
        check_scores(f, "walk", first, walk(f.model, [tf.convert_to_tensor(first)], whole_layer)[0])
        return True

    if rows(x):
        f.compiled("walk", compare)
