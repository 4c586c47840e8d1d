"""Class activation maps: which places of a feature map speak for a class.

All take a model, images and a class as the methods in `attributions` do, and beside these

- `layer`: the feature map, as the name of a layer, as a layer (also one inside a nested model), or None for the last
  one that has a height and a width, which is then named in a line of print (`verbose=False` for silence);
- `relu`: keep only what speaks for the class, as Grad-CAM does; False for signed maps;
- `counterfactual`: the gradient with its sign turned, for what speaks against the class;
- `upsample`: True for maps of the height and width of the images, (height, width) for another size; bilinear, with
  half-pixel centres, as OpenCV has it. False for the maps as they are;

return a NumPy array `[n, height, width]`, and say so (a warning) where a map is zero everywhere. A model may have
several inputs: pass a list of arrays, or a dictionary.

Below, A_k is a feature map, i and j run over its places, Z is their number, S the score.
"""

import functools

import keras
import numpy as np
import scipy.ndimage
import tensorflow as tf

from utils.heads import PASSES_ON, is_head
from utils.network import chunk, network_of, rows, warn_where_empty, whole_number
from utils.parts import inherits_call
from utils.relevance import guided_backprop
from utils.surgery import unfolded


def class_activation_map(model, x, target=None, *, relu=False, upsample=False, batch_size=None):
    """Class activation map: the score, place by place, in a network that ends in a global average and a dense layer.

        M_c(i, j) = sum_k w_k^c A_k(i, j),  S_c = 1/Z sum_ij M_c(i, j) + b_c

    Zhou et al. (2016, arXiv:1512.04150), equations 1 and 2. Signed unless `relu`; a map is in the unit of the score.

    Raises:
        ValueError: the network has no such end; `grad_cam` needs none.
    """
    network, x, target = _checked(model, x, target, "logit", batch_size)
    cut, kernel = network.once("average head", lambda: _average_head(network))

    def make():
        @tf.function(input_signature=[network.spec, tf.TensorSpec([None], "int64")], autograph=False)
        def maps(x, target):
            A, outputs = cut(x, training=False)
            weights = tf.gather(tf.transpose(kernel()), target)
            return _weighted(_whole(A), _whole(weights)), outputs

        return maps.get_concrete_function()

    maps = _in_chunks(network, network.once("class_activation_map", make), x, target, batch_size)
    return _finished(network, "class_activation_map", maps, x, relu, _size(upsample, x), 3)


def _method(weights):
    """The public method that weighs feature maps A by `weights(A, g)`, g being their gradients: its name, its words."""

    def method(
        model,
        x,
        target=None,
        layer=None,
        *,
        relu=True,
        counterfactual=False,
        upsample=False,
        explain="logit",
        batch_size=None,
        verbose=True,
    ):
        return _by_gradient(
            *(weights.__name__, weights, model, x, target, layer),
            *(relu, counterfactual, upsample, explain, batch_size, verbose),
        )

    functools.update_wrapper(method, weights)
    del method.__wrapped__  # or else its signature would be shown as (A, g)
    return method


@_method
def grad_cam(A, g):
    """Grad-CAM: feature maps, each weighted by the average slope of the score over its places.

        w_k = 1/Z sum_ij dS/dA_k(i, j),  L(i, j) = max(0, sum_k w_k A_k(i, j))

    Selvaraju et al. (2017, doi:10.1109/ICCV.2017.74), equations 1 and 2.
    """
    return _mean_weights(A, g)


def grad_cam_plus_plus(
    model,
    x,
    target=None,
    layer=None,
    variant="paper",
    *,
    relu=True,
    counterfactual=False,
    upsample=False,
    explain="logit",
    batch_size=None,
    verbose=True,
):
    """Grad-CAM++: the places where a feature map speaks for the class, each weighted by a coefficient of its own.

        w_k = sum_ij alpha_k(i, j) max(0, g_k(i, j)),  alpha = g^2 / (2 g^2 + g^3 sum_ab A_k(a, b)),  g = dS/dA

    Chattopadhyay et al. (2018, doi:10.1109/WACV.2018.00097), equations 5 and 19, for the score exp(S); its factor
    exp(S), one number for all places, is left out. alpha is 0 where g is.

    Args:
        variant: "paper", or "authors" for the code as the authors first released it (tf-keras-vis does the same): the
            alphas of a feature map are divided by their sum (those of places that do not count, where g < 0, among
            them).
    """
    weights = {"paper": _paper_weights, "authors": _authors_weights}
    if not isinstance(variant, str) or variant not in weights:
        raise ValueError(f"There is no such variant. Received: {variant!r}. Expected: 'paper' or 'authors'.")
    name = f"grad_cam_plus_plus {variant}"
    return _by_gradient(
        name, weights[variant], model, x, target, layer, relu, counterfactual, upsample, explain, batch_size, verbose
    )


@_method
def hires_cam(A, g):
    """HiResCAM: each place of each feature map by its own gradient, L(i, j) = max(0, sum_k g_k(i, j) A_k(i, j)).

    Draelos and Carin (2020, arXiv:2011.08891), equation 3, with Grad-CAM's ReLU. Without it (`relu=False`), a map
    sums to the score of a network that is linear without biases from `layer` on.
    """
    return g


@_method
def layer_cam(A, g):
    """LayerCAM: as HiResCAM, of positive gradients alone, L(i, j) = max(0, sum_k max(0, g_k(i, j)) A_k(i, j)).

    Jiang et al. (2021, doi:10.1109/TIP.2021.3089943), equations 6 and 7; meant for early layers too.
    """
    return tf.nn.relu(g)


def score_cam(
    model,
    x,
    target=None,
    layer=None,
    *,
    relu=True,
    upsample=False,
    explain="logit",
    batch_size=None,
    verbose=True,
):
    """Score-CAM: feature maps, weighted by the score of the image that shows only what they show. No gradient.

        w = softmax over k of S(x o H_k),  H_k = A_k, enlarged and scaled to [0, 1]

    Wang et al. (2020, arXiv:1910.01279), equations 6 to 8 and algorithm 1. One forward pass for each feature map.
    The softmax makes the weights depend on the unit of the score, and cancels the score of an empty image, which the
    paper subtracts.
    """
    network, x, target = _checked(model, x, target, explain, batch_size)
    if not isinstance(x, np.ndarray):
        raise ValueError("score_cam masks the image, so it needs a model of one input. Try grad_cam.")
    cut, layer = _cut(network, layer, verbose, "score_cam")
    size = _size(True, x, cut)
    if len(x):
        first = x[: network.batch_size(batch_size, x)]
        network.check_outputs(first, network.scores(first, batch_size=batch_size))
        network.once(("agrees", id(layer)), lambda: _agrees(network, first, cut(first, training=False)[1].numpy()))

    def make():
        @tf.function(input_signature=[network.spec], autograph=False)
        def features(x):
            return _whole(cut(x, training=False)[0])

        return features.get_concrete_function()

    features = network.once(("features", id(layer)), make)
    maps, some = [], network.batch_size(batch_size, x)
    for image, c in zip(x, target):
        A = np.moveaxis(features(image[None]).numpy()[0], -1, 0)
        H = _resized(A, size)
        low, high = H.min((1, 2), keepdims=True), H.max((1, 2), keepdims=True)
        H = np.divide(H - low, high - low, out=np.zeros_like(H), where=high > low)
        shown = ((H[k : k + some, ..., None] * image).astype(x.dtype) for k in range(0, len(H), some))
        scores = np.concatenate([network.scores(part)[:, c] for part in shown])
        weights = np.exp(scores - scores.max())
        maps.append(np.tensordot(weights / weights.sum(), A, 1))
    maps = np.stack(maps) if maps else features(np.zeros((1, *x.shape[1:]), x.dtype)).numpy()[:0, ..., 0]
    return _finished(network, "score_cam", maps, x, relu, _size(upsample, x, cut), 3)


def guided_grad_cam(model, x, target=None, layer=None, *, explain="logit", batch_size=None, verbose=True):
    """Guided Grad-CAM: guided backpropagation, times the Grad-CAM map in the size of the image; the shape of `x`.

    Selvaraju et al. (2017, doi:10.1109/ICCV.2017.74), section 3.2.
    """
    how = {"explain": explain, "batch_size": batch_size}
    maps = _by_gradient(
        "grad_cam", _mean_weights, model, x, target, layer, True, False, True, explain, batch_size, verbose
    )
    return guided_backprop(model, x, target, **how) * maps[..., None]


# --- weights of feature maps A by their gradients g, both [n, height, width, channels]: one for each, or for each place


def _mean_weights(A, g):
    return tf.reduce_mean(g, (1, 2))


def _alphas(A, g):
    """g^2 / (2 g^2 + g^3 sum A) = 1 / (2 + g sum A), which does not underflow; 0 where g is 0."""
    return tf.where(g == 0, tf.zeros_like(g), tf.math.divide_no_nan(tf.ones_like(g), 2 + g * _sum(A)))


def _paper_weights(A, g):
    return tf.reduce_sum(_alphas(A, g) * tf.nn.relu(g), (1, 2))


def _authors_weights(A, g):
    alphas = _alphas(A, g)
    total = _sum(alphas)
    return tf.reduce_sum(alphas / tf.where(total == 0, tf.ones_like(total), total) * tf.nn.relu(g), (1, 2))


def _sum(A):
    return tf.reduce_sum(A, (1, 2), keepdims=True)


def _weighted(A, weights):
    """sum_k w_k A_k, for weights of maps `[n, channels]` or of places, in the shape of A."""
    if len(weights.shape) == 2:
        return tf.einsum("nijk,nk->nij", A, weights)
    return tf.reduce_sum(A * weights, -1)


# --- what all have in common


def _by_gradient(name, weights, model, x, target, layer, relu, counterfactual, upsample, explain, batch_size, verbose):
    network, x, target = _checked(model, x, target, explain, batch_size)
    cut, layer = _cut(network, layer, verbose, name.split()[0])

    def make():
        @tf.function(input_signature=[network.spec, tf.TensorSpec([None], "int64")], autograph=False)
        def maps(x, target):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                made_by = cut.outputs[0]._keras_history.operation
                made_by.watch = tape.watch  # A, and not x: what is below may have no gradient
                A, outputs = cut(x, training=False)
                made_by.watch = None
                # in half precision, slopes of about 1 / places would be lost: the score is scaled up, g down again
                places = tf.cast(tf.size(A[0, ..., 0]), "float32")
                half = any(getattr(one, "compute_dtype", "") in ("float16", "bfloat16") for one in network.state)
                scale = 2.0 ** tf.floor(tf.math.log(places) / np.log(2)) if half else 1.0
                score = tf.gather(outputs, target, axis=1, batch_dims=1) * tf.cast(scale, outputs.dtype)
            g = tape.gradient(score, A)
            if g is None:
                raise ValueError(
                    f"The score does not depend on {layer.name!r}, or no gradient flows there. Choose another layer."
                )
            A, g = _whole(A), _whole(-g if counterfactual else g)
            g = g / tf.cast(scale, g.dtype)
            return _weighted(A, weights(A, g)), outputs

        return maps.get_concrete_function()

    run = network.once((name, id(layer), bool(counterfactual)), make)
    size = _size(upsample, x, cut)
    return _finished(network, name.split()[0], _in_chunks(network, run, x, target, batch_size), x, relu, size, 4)


def _checked(model, x, target, explain, batch_size):
    network = network_of(model, explain, several_inputs=True)
    x = network.inputs(x)
    return network, x, network.targets(x, target, batch_size)


def _in_chunks(network, run, x, target, batch_size):
    size, maps = network.batch_size(batch_size, x), []
    if not rows(x):  # operations on nothing fail; the shape of a map is that of one
        one = keras.tree.map_structure(lambda part: np.zeros((1, *part.shape[1:]), part.dtype), x)
        return run(one, np.zeros(1, "int64"))[0].numpy()[:0]
    for k in range(0, rows(x), size):
        part = chunk(x, k, size)
        found, outputs = run(part, target[k : k + size])
        network.check_outputs(part, outputs)
        network.once(("agrees", id(run)), lambda part=part, outputs=outputs: _agrees(network, part, outputs.numpy()))
        maps.append(found.numpy())
    return np.concatenate(maps)


def _agrees(network, x, scores):
    """Raise unless the network as it was cut computes what the model computes: once for each function."""
    theirs = network.scores(x)
    if not np.allclose(scores, theirs, rtol=1e-2, atol=1e-2 * np.abs(theirs).max()):
        raise ValueError(
            f"Cut at a feature map, {network.name!r} does not compute what it computes whole: scores differ by up to "
            f"{np.abs(scores - theirs).max():.3g}. A layer of it does something that is not known here."
        )
    return True


def _finished(network, method, maps, x, relu, size, level):
    network.refuse_unless_finite(maps, f"maps of {method}")
    if relu:
        maps = np.maximum(maps, 0)
    advice = "No place speaks for the class there. relu=False shows what speaks against it." if relu else ""
    warn_where_empty(maps, advice, f"{method}: ", stacklevel=level)
    if size is not None:
        maps = _resized(maps, size)
    return maps.astype(network.dtype if network.dtype.kind == "f" else "float32")


def _resized(maps, size):
    """Maps `[n, height, width]` in another size, bilinear with half-pixel centres."""
    factors = np.array(size) / maps.shape[1:]
    resized = [scipy.ndimage.zoom(one, factors, order=1, mode="nearest", grid_mode=True) for one in maps]
    return np.stack(resized) if resized else np.zeros((0, *size), maps.dtype)


def _size(upsample, x, cut=None):
    if upsample is False:
        return None
    if upsample is True:
        shapes = [part.shape[1:] for part in keras.tree.flatten(x)]
        sizes = {shape[:2] for shape in shapes if len(shape) == 3}
        if len(sizes) != 1:
            raise ValueError(
                f"The inputs have the shapes {shapes}. Expected: images of one size, [n, height, width, channels], or "
                "upsample=(height, width)."
            )
        lower = [] if cut is None else keras.Model(cut.inputs, cut.outputs[0]).layers
        moved = [part.part.layer for part in lower if hasattr(part, "part")]
        moved = [one for one in moved if type(one).__name__ in ("Permute", "Transpose", "Moveaxis", "Swapaxes")]
        if moved:
            raise ValueError(
                f"{moved[0].name!r} moves the axes of the images. Expected: images [n, height, width, channels], or "
                "upsample=(height, width)."
            )
        return sizes.pop()
    if not isinstance(upsample, (tuple, list)) or len(upsample) != 2:
        raise ValueError(f"upsample must be True, False or (height, width). Received: {upsample!r}.")
    return tuple(whole_number(side, "upsample") for side in upsample)


def _whole(tensor):
    """In at least float32: sums over half-precision maps would lose digits."""
    return tensor if tensor.dtype == "float64" else tf.cast(tensor, "float32")


def _cut(network, layer, verbose, method):
    """The network as a model from its input to (feature maps, scores), and the layer that was meant."""
    flat, steps = network.once("unfolded", lambda: unfolded(network.model))
    named, output = _feature_map(network, steps, layer)
    if layer is None and verbose:
        print(f"{method}: the feature map of {named.name!r}, {' x '.join(str(size) for size in output.shape[1:])}.")
    return network.once(("cut", id(named)), lambda: keras.Model(flat.input, [output, flat.outputs[0]])), named


def _feature_map(network, steps, layer):
    """The step that `layer` names: (layer, its output)."""
    maps = [(step, output) for step, _, output in steps if len(getattr(output, "shape", ())) == 4]
    _refuse_channels_first(steps)
    single = [(step, output) for step, output in maps if not isinstance(step, keras.Model)]
    if layer is None:
        used = _used(steps, network.once("unfolded", None)[0].outputs[0])
        found = [step for step in single if tuple(step[1].shape[1:3]) != (1, 1) and id(step[1]) in used][-1:]
        found = [step for step in maps if found and step[0] is found[0][0]]
    elif isinstance(layer, str):
        found = [step for step in maps if step[0].name == layer]
    else:
        found = [step for step in maps if step[0] is layer]
    if len(found) != 1:
        layer = found[0][0] if found and layer is None else layer
        received = layer if layer is None or isinstance(layer, str) else getattr(layer, "name", layer)
        why = "stands in several places; pass the layer itself, or another" if found else "gives no feature map"
        names = ", ".join(dict.fromkeys(step.name for step, _ in single))
        raise ValueError(
            f"{received!r} {why}. Expected a layer of {network.name!r} with an output [n, height, width, channels]: "
            f"{names or 'there is none'}."
        )
    return found[0]


def _used(steps, output):
    """The ids of the tensors that `output` is made of."""
    used = {id(output)}
    for _, inputs, made in reversed(steps):
        if any(id(tensor) in used for tensor in keras.tree.flatten(made)):
            used |= {id(tensor) for tensor in inputs}
    return used


def _refuse_channels_first(steps):
    first = [step for step, *_ in steps if getattr(step, "data_format", None) == "channels_first"]
    if first:
        raise ValueError(f"{first[0].name!r} has channels first. Expected: channels last, Keras's default.")


def _average_head(network):
    """The network as a model to (what its global average averages, scores), and a function for its last kernel."""
    flat, steps = network.once("unfolded", lambda: unfolded(network.model))
    made = {id(output): (layer, inputs) for layer, inputs, output in steps if not isinstance(layer, keras.Model)}
    _refuse_channels_first(steps)
    head, inputs = made.get(id(flat.outputs[0]), (None, None))
    average, below = head, inputs
    if inherits_call(head, (keras.layers.Dense,)):
        average, below = made.get(id(inputs[0]), (None, None))
        while inherits_call(average, PASSES_ON):
            average, below = made.get(id(below[0]), (None, None))
    if average is head or not inherits_call(average, (keras.layers.GlobalAveragePooling2D,)):
        raise ValueError(
            f"A class activation map needs a network that ends in GlobalAveragePooling2D and one Dense layer. "
            f"Received: {network.name!r}, which ends in {type(head).__name__} after {type(average).__name__}. "
            "grad_cam needs no such end."
        )
    if getattr(head, "quantization_mode", None):
        raise ValueError(f"The last layer {head.name!r} is quantized, so its kernel is not its weights. Try grad_cam.")
    if head.activation is not keras.activations.linear and not is_head(head):  # a head has been dropped
        raise ValueError(f"The last layer {head.name!r} has an activation, so its output is no sum over places.")
    return keras.Model(flat.input, [below[0], flat.outputs[0]]), lambda: tf.convert_to_tensor(head.kernel)
