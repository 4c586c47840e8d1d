"""What the first outputs of a model tell: are they scores, the model's own, each of its own image?"""

import keras
import numpy as np


def chunk(x, start, size):
    """`size` images of an array, or of each array of a list, from `start` on."""
    if isinstance(x, np.ndarray):
        return x[start : start + size]
    return keras.tree.map_structure(lambda part: part[start : start + size], x)


def refuse_other_values(ours, theirs, what, tolerance=1e-2):
    """Raise unless two ways to compute the same scores agree."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    if ours.shape != theirs.shape or not np.allclose(
        ours, theirs, rtol=tolerance, atol=tolerance * np.abs(theirs).max()
    ):
        by = f"differ by up to {np.abs(ours - theirs).max():.3g}" if ours.shape == theirs.shape else "have other shapes"
        raise ValueError(f"{what}: scores {by}. A layer of it does something that is not known here.")


def refuse_other_graph(model, x):
    """Raise unless a model whose class has a `__call__` of its own (those of keras-hub have one) is its graph."""
    graph = keras.Model(model.inputs if len(model.inputs) > 1 else model.inputs[0], model.outputs)
    ours, theirs = (keras.tree.flatten(one(x, training=False))[0] for one in (graph, model))
    refuse_other_values(ours, theirs, f"The graph of {model.name!r} does not compute what the model computes")


def refuse_other_compilation(f, x, outputs):
    """Raise unless the first image alone, computed without being compiled, has the scores that `outputs` say."""
    first = chunk(x, 0, 1)
    alone = np.asarray(f.model(first, training=False))
    if _near(outputs[:1], alone, outputs):
        return
    if len(outputs) > 1 and _near(f.compiled_scores(first), alone, outputs):
        raise ValueError(
            f"{f.name!r} mixes the images of a batch: the scores of the first differ by up to "
            f"{np.abs(alone - outputs[:1]).max():.3g} when alone. Expected: a model that reads each by itself."
        )
    raise ValueError(
        f"Compiled, {f.name!r} computes other scores than it does step by step: they differ by up to "
        f"{np.abs(alone - outputs[:1]).max():.3g}, in model.predict too. TensorFlow's graph optimizer is known to lose "
        "the slope of a LeakyReLU behind a sum of convolutions. Switch that part of it off, before the first call: "
        "tf.config.optimizer.set_experimental_options({'remapping': False})."
    )


def _near(one, other, outputs):
    return np.allclose(one, other, rtol=1e-2, atol=1e-2 * np.abs(outputs).max())


def refuse_hidden_head(f, x, outputs):
    """Raise if outputs look like probabilities; no softmax or sigmoid was found to drop."""
    if not outputs.size or outputs.min() < 0 or outputs.max() > 1 or not outputs.any():
        return
    advice = (
        "Expected: logits, or a softmax or sigmoid of Keras. Pass explain='output' to explain the probabilities "
        "themselves, or a model that ends at the logits."
    )
    if f.classes > 1 and np.allclose(outputs.sum(-1, dtype="float64"), 1, atol=1e-2):
        raise ValueError(
            f"The outputs of {f.name!r} are positive and sum to 1, so they look like probabilities, but no softmax was "
            f"found at its end. {advice}"
        )
    if f.dtype.kind != "f" or not isinstance(x, np.ndarray):
        return
    generator = np.random.default_rng(0)
    for scale in (1, 30, 1000):
        noise = scale * generator.standard_normal((8, *x.shape[1:]))
        scores = np.asarray(f.model(noise.astype(f.dtype), training=False))
        if not (scores.min() >= 0 and scores.max() <= 1):
            return
    raise ValueError(
        f"The outputs of {f.name!r} stay between 0 and 1, on x and on noise, so they look like probabilities, but no "
        f"sigmoid was found at its end. {advice}"
    )


def refuse_lost_masks(f):
    """Raise if a layer that reads a mask in another model, behind an Embedding say, reads none in this one."""
    here = {id(node) for nodes in getattr(f.model, "_nodes_by_depth", {}).values() for node in nodes}
    for layer in f.state.layers:
        nodes = layer._inbound_nodes
        masked = [node for node in nodes if node.arguments.kwargs.get("mask") is not None]
        if masked and any(id(node) in here for node in nodes if node not in masked):
            raise ValueError(
                f"{layer.name!r} reads a mask in another model, and none in {f.name!r}: behind an Embedding with "
                "mask_zero the mask is lost. Begin the model with keras.layers.Masking(), and set what is masked to 0: "
                "E(tokens) * (tokens != 0)[..., None]."
            )


def advice_behind_the_input(embedding):
    """How to explain a model behind inputs that have no gradient; `embedding` is its first Embedding, or None."""
    if not embedding:
        return (
            "In a chain, keras.Sequential([keras.Input(shape), *model.layers[k:]]) is the model behind its first k "
            "layers; explain it on what these make of x."
        )
    behind = f"E = model.get_layer({embedding.name!r}); k = model.layers.index(E) + 1"
    if embedding.mask_zero:
        return (
            f"{embedding.name!r} masks zeros, and behind it the mask would be lost: with {behind}, explain "
            "keras.Sequential([keras.Input(shape), keras.layers.Masking(), *model.layers[k:]]) on "
            "E(tokens) * (tokens != 0)[..., None]."
        )
    return (
        f"In a chain, explain the model behind {embedding.name!r}: with {behind}, "
        "keras.Sequential([keras.Input(shape), *model.layers[k:]]) on E(tokens)."
    )
