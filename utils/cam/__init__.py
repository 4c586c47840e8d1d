"""Class activation maps: which places of a feature map speak for a class.

All take a model, images and a class as the methods in `attributions` do, and beside these

- `layer`: the feature map, as the name of a layer, as a layer (also one inside a nested model), or None for the last
  one that has a height and a width, which is then named in a line of print (`verbose=False` for silence);
- `relu`: keep only what speaks for the class, as Grad-CAM does; False for signed maps;
- `counterfactual`: the gradient with its sign turned, for what speaks against the class;
- `upsample`: True for maps of the height and width of the images, (height, width) for another size; bilinear, with
  half-pixel centres, as OpenCV has it. False for the maps as they are;

return a NumPy array `[n, height, width]` (for a series `[n, length]`, for volumes `[n, depth, height, width]`), and say
so (a warning) where a map is zero everywhere. A model may have several inputs: pass a list of arrays, or a dictionary;
and inputs of integers, pixels or tokens.

Below, A_k is a feature map, i and j run over its places, Z is their number, S the score.
"""

import functools
import inspect

import numpy as np
import scipy.ndimage
import tensorflow as tf

from ..checks import one_of, refuse_unless_finite, warn_where_empty
from ..relevance import guided_backprop
from .features import (
    average_head,
    check_scores,
    checked,
    feature_map,
    features_and_scores,
    map_size,
    maps_of,
    score_scale,
    whole,
)


def class_activation_map(model, x, target=None, *, relu=False, upsample=False, batch_size=None):
    """Class activation map: the score, place by place, in a network that ends in a global average and a dense layer.

        M_c(i, j) = sum_k w_k^c A_k(i, j),  S_c = 1/Z sum_ij M_c(i, j) + b_c

    Zhou et al. (2016, arXiv:1512.04150), equations 1 and 2. Signed unless `relu`; a map is in the unit of the score.
    Where the global average itself ends the network, of one map for each class, that map is it.

    Raises:
        ValueError: the network has no such end; `grad_cam` needs none.
    """
    f, x, target = checked(model, x, target, "logit", batch_size)
    place, head = f.compiled("average head", lambda: average_head(f))

    def maps(x, target):
        A, scores = features_and_scores(f, x, place)
        kernel = tf.eye(f.classes, dtype=whole(A).dtype) if head is None else tf.convert_to_tensor(head.kernel)
        return _weighted(whole(A), whole(tf.gather(tf.transpose(kernel), target))), scores

    maps = maps_of(f, "class_activation_map", maps, x, target, batch_size)
    return _finished(f, "class_activation_map", maps, x, relu, map_size(upsample, x, f, place))


def _method(weights):
    """The public method that weighs feature maps A by `weights(A, g, ...)`, g being the gradients of the score."""
    signature = inspect.signature(weights)
    own = list(signature.parameters.values())[2:]

    def method(
        model,
        x,
        target=None,
        layer=None,
        *arguments,
        relu=True,
        counterfactual=False,
        upsample=False,
        explain="logit",
        batch_size=None,
        verbose=True,
        **parameters,
    ):
        chosen = signature.bind(None, None, *arguments, **parameters)
        chosen.apply_defaults()
        chosen = chosen.args[2:]
        if own:
            weights(tf.ones((1, 1, 1, 1)), tf.ones((1, 1, 1, 1)), *chosen)  # refuses parameters that do not exist
        f, x, target = checked(model, x, target, explain, batch_size)
        place = feature_map(f, layer, weights.__name__ if verbose else None)

        def maps(x, target):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                # A is watched, and not x: what is below may have no gradient
                A, scores = features_and_scores(f, x, place, tape.watch)
                scale = score_scale(f, A)
                score = tf.gather(scores, target, axis=1, batch_dims=1) * tf.cast(scale, scores.dtype)
            g = tape.gradient(score, A)
            if g is None:
                raise ValueError(
                    f"The score does not depend on {place.layer.name!r}, or no gradient flows there. Choose another "
                    "layer."
                )
            A, g = whole(A), whole(-g if counterfactual else g)
            return _weighted(A, weights(A, g / tf.cast(scale, g.dtype), *chosen)), scores

        key = weights.__name__, chosen, place.index, bool(counterfactual)
        maps = maps_of(f, key, maps, x, target, batch_size)
        return _finished(f, weights.__name__, maps, x, relu, map_size(upsample, x, f, place))

    functools.update_wrapper(method, weights)
    del method.__wrapped__  # or else its signature would be shown as (A, g)
    public = [
        p for p in inspect.signature(method).parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    method.__signature__ = inspect.Signature([*public[:4], *own, *public[4:]])
    return method


@_method
def grad_cam(A, g):
    """Grad-CAM: feature maps, each weighted by the average slope of the score over its places.

        w_k = 1/Z sum_ij dS/dA_k(i, j),  L(i, j) = max(0, sum_k w_k A_k(i, j))

    Selvaraju et al. (2017, doi:10.1109/ICCV.2017.74), equations 1 and 2.
    """
    return _mean_weights(A, g)


@_method
def grad_cam_plus_plus(A, g, variant="paper"):
    """Grad-CAM++: the places where a feature map speaks for the class, each weighted by a coefficient of its own.

        w_k = sum_ij alpha_k(i, j) max(0, g_k(i, j)),  alpha = g^2 / (2 g^2 + g^3 sum_ab A_k(a, b)),  g = dS/dA

    Chattopadhyay et al. (2018, doi:10.1109/WACV.2018.00097), equations 5 and 19, for the score exp(S); its factor
    exp(S), one number for all places, is left out. alpha is 0 where g is.

    Args:
        variant: "paper", or "authors" for the code as the authors first released it (tf-keras-vis does the same): the
            alphas of a feature map are divided by their sum (those of places that do not count, where g < 0, among
            them).
    """
    one_of(variant, "variant", ("paper", "authors"))
    return _paper_weights(A, g) if variant == "paper" else _authors_weights(A, g)


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
    f, x, target = checked(model, x, target, explain, batch_size)
    if not isinstance(x, np.ndarray) or x.dtype.kind != "f":
        raise ValueError(
            "score_cam masks the image, so it needs a model of one input, of floating-point numbers. Try grad_cam."
        )
    place = feature_map(f, layer, "score_cam" if verbose else None)
    size, key = map_size(True, x, f, place), ("features", place.index)
    run = f.compiled(key, lambda: f.concrete(lambda x: features_and_scores(f, x, place)))
    if len(x):
        first = x[: f.batch_size(batch_size, x)]
        f.check_outputs(first, f(first))
        check_scores(f, key, first, run(first)[1])
    maps, some = [], f.batch_size(batch_size, x)
    for image, c in zip(x, target):
        A = np.moveaxis(whole(run(image[None])[0]).numpy()[0], -1, 0)
        H, axes = _resized(A, size), tuple(range(1, A.ndim))
        low, high = H.min(axes, keepdims=True), H.max(axes, keepdims=True)
        H = np.divide(H - low, high - low, out=np.zeros_like(H), where=high > low)
        shown = ((H[k : k + some, ..., None] * image).astype(x.dtype) for k in range(0, len(H), some))
        scores = np.concatenate([f(part)[:, c] for part in shown])
        weights = np.exp(scores - scores.max())
        maps.append(np.tensordot(weights / weights.sum(), A, 1))
    maps = np.stack(maps) if maps else whole(run(np.zeros((1, *x.shape[1:]), x.dtype))[0]).numpy()[:0, ..., 0]
    return _finished(f, "score_cam", maps, x, relu, map_size(upsample, x, f, place))


def guided_grad_cam(model, x, target=None, layer=None, *, explain="logit", batch_size=None, verbose=True):
    """Guided Grad-CAM: guided backpropagation, times the Grad-CAM map in the size of the image; the shape of `x`.

    Selvaraju et al. (2017, doi:10.1109/ICCV.2017.74), section 3.2.
    """
    how = {"explain": explain, "batch_size": batch_size}
    maps = grad_cam(model, x, target, layer, upsample=True, verbose=verbose, **how)
    return guided_backprop(model, x, target, **how) * maps[..., None]


# --- weights of feature maps A by their gradients g, both [n, ..., channels]: one for each, or for each place


def _mean_weights(A, g):
    return tf.reduce_mean(g, _axes(g))


def _alphas(A, g):
    """g^2 / (2 g^2 + g^3 sum A) = 1 / (2 + g sum A), which does not underflow; 0 where g is 0."""
    return tf.where(g == 0, tf.zeros_like(g), tf.math.divide_no_nan(tf.ones_like(g), 2 + g * _sum(A)))


def _paper_weights(A, g):
    return tf.reduce_sum(_alphas(A, g) * tf.nn.relu(g), _axes(g))


def _authors_weights(A, g):
    alphas = _alphas(A, g)
    total = _sum(alphas)
    return tf.reduce_sum(alphas / tf.where(total == 0, tf.ones_like(total), total) * tf.nn.relu(g), _axes(g))


# --- what all have in common


def _axes(A):
    """The axes of the places of feature maps `[n, ..., channels]`."""
    return list(range(1, A.shape.rank - 1))


def _sum(A):
    return tf.reduce_sum(A, _axes(A), keepdims=True)


def _weighted(A, weights):
    """sum_k w_k A_k, for weights of maps `[n, channels]` or of places, in the shape of A."""
    if weights.shape.rank == 2:
        return tf.einsum("n...k,nk->n...", A, weights)
    return tf.reduce_sum(A * weights, -1)


def _finished(f, method, maps, x, relu, size):
    refuse_unless_finite(maps, f"maps of {method}", f.name)
    if relu:
        maps = np.maximum(maps, 0)
    advice = "No place speaks for the class there. relu=False shows what speaks against it." if relu else ""
    warn_where_empty(maps, advice, f"{method}: ")
    if size is not None:
        if len(size) != maps.ndim - 1:
            raise ValueError(
                f"upsample must be True, False or (height, width), as many numbers as a map has axes. Received: {size} "
                f"for maps {maps.shape[1:]}."
            )
        maps = _resized(maps, size)
    return maps.astype(f.dtype if f.dtype.kind == "f" else "float32")


def _resized(maps, size):
    """Maps `[n, height, width]` in another size, bilinear with half-pixel centres."""
    factors = np.array(size) / maps.shape[1:]
    resized = [scipy.ndimage.zoom(one, factors, order=1, mode="nearest", grid_mode=True) for one in maps]
    return np.stack(resized) if resized else np.zeros((0, *size), maps.dtype)
