"""Sanity checks: does the map change when the network does?"""

import cv2
import keras
import numpy as np
from scipy import stats
from skimage.metrics import structural_similarity

from ..checks import as_array, check_model, integer, one_of, type_of


def randomized(model, layers, seed=0):
    """A copy of a model of which some layers have been drawn anew, from their own initializers.

    The model parameter randomization test of Adebayo et al. (2018, arXiv:1810.03292). The model itself is
    left as it is.

    Args:
        layers: names of layers, those inside nested models among them, or one name.
        seed: an integer; another for each layer and weight is drawn from it.

    Returns:
        A model of the same class, with the same weights elsewhere.

    Raises:
        ValueError: there is no such layer, it has no weights, one of them has no initializer that is known, they have
            not changed, or the copy does not compute what the model computes.
    """
    check_model(model)
    names, seed = [layers] if isinstance(layers, (str, keras.Layer)) else list(layers), integer(seed, "seed", least=0)
    if not names:
        raise ValueError("No layers are named, so nothing would change. Received: []. Expected: names of layers.")
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    _check_copy(model, copy)
    seeds = np.random.default_rng(seed)
    for name in names:
        layer = _layer(copy, name)
        if not layer.weights:
            raise ValueError(f"Layer {name!r} has no weights, so it cannot be drawn anew. Received: {names}.")
        before = [weight.numpy() for weight in layer.weights]
        for weight in layer.weights:
            weight.assign(_drawn(layer, weight, int(seeds.integers(2**31))))
        if all(np.array_equal(old, weight.numpy()) for old, weight in zip(before, layer.weights)):
            raise ValueError(
                f"Layer {name!r} has the same weights as before: its initializers give the same numbers each time."
            )
    return copy


def _layer(model, name):
    found = [layer for layer in model._flatten_layers(include_self=False) if layer.name == name]
    if len(found) != 1:
        with_weights = [layer.name for layer in model._flatten_layers(include_self=False) if layer.weights]
        raise ValueError(
            f"Expected: the name of one layer. Received: {name!r}, which {len(found)} layers of {model.name!r} have. "
            f"Those with weights: {', '.join(with_weights)}."
        )
    return found[0]


def _drawn(layer, weight, seed):
    """A value for a weight, from the initializer that its layer has for it."""
    # "recurrent_kernel" has a recurrent_initializer, the "kernel" of a DepthwiseConv2D a depthwise_initializer
    names = weight.name, weight.name.removesuffix("_kernel"), weight.name.replace("kernel", "depthwise")
    for part in layer._flatten_layers():
        if any(weight is own for own in part._trainable_variables + part._non_trainable_variables):
            found = [getattr(part, f"{name}_initializer", None) for name in names]
            for initializer in filter(None, found):
                config = initializer.get_config()
                if "seed" in config:
                    initializer = type(initializer).from_config(config | {"seed": seed})
                return initializer(weight.shape, weight.dtype)
    raise ValueError(
        f"Layer {layer.name!r} has no initializer that is known for its weight {weight.name!r}, which would stay as it "
        f"is. Expected: an attribute {weight.name}_initializer."
    )


def _check_copy(model, copy):
    """Raise unless both compute the same, which a layer with a state outside of its weights and config would not."""
    tensor = model.inputs[0]
    x = np.random.default_rng(0).random((2, *[size or 32 for size in tensor.shape[1:]])).astype(type_of(tensor))
    ours, theirs = (np.asarray(one(x, training=False)) for one in (copy, model))
    if not np.allclose(ours, theirs, rtol=1e-4, atol=1e-6 * max(1, np.abs(theirs).max())):
        raise ValueError(
            f"A copy of {model.name!r} does not compute what it computes: is there a layer whose get_config does not "
            "hold all of it?"
        )


MEASURES = "pearson", "spearman", "ssim"


def similarity(A, B, measure="spearman", absolute=False):
    """How alike two maps are, from -1 to 1, for each image: `[n]`; NaN where one of them is constant.

    A constant map has no correlation with anything, itself among them: count it apart.

    Args:
        A, B: maps, `[n, height, width]`, or `[n, height, width, channels]`, of which the channels are summed.
        measure: "pearson", the correlation of the values; "spearman", that of their ranks (equal values share the mean
            of theirs); or "ssim", the structural similarity (Wang et al., 2004, scikit-image, 7 x 7 pixels), of maps
            divided by their largest absolute value.
        absolute: compare absolute values: whether a pixel matters, not for or against what.

    Ranks see every digit: where a map is zero but for rounding, round it first, or they compare noise.
    """
    one_of(measure, "measure", MEASURES)
    A, B = (as_array(maps, name).astype("float64") for maps, name in ((A, "A"), (B, "B")))
    if A.shape != B.shape or A.ndim not in (3, 4) or not (np.isfinite(A).all() and np.isfinite(B).all()):
        raise ValueError(
            f"Expected: finite maps of one shape, [n, height, width] or with channels. Received: {A.shape}, {B.shape}."
        )
    A, B = (maps.sum(-1) if maps.ndim == 4 else maps for maps in (A, B))
    A, B = (np.abs(maps) if absolute else maps for maps in (A, B))
    if measure == "ssim" and min(A.shape[1:]) < 7:
        raise ValueError(f"ssim compares windows of 7 x 7 pixels. Received: maps of {A.shape[1:]}.")
    return np.array([_alike(a, b, measure, absolute) for a, b in zip(A, B)])


def _alike(a, b, measure, absolute):
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return np.nan
    if measure == "ssim":
        a, b = (one / np.abs(one).max() for one in (a, b))
        return structural_similarity(a, b, data_range=1 if absolute else 2)
    if measure == "spearman":
        a, b = stats.rankdata(a), stats.rankdata(b)
    a, b = (one.ravel() - one.mean() for one in (a, b))
    return float(np.clip(a @ b / np.sqrt((a @ a) * (b @ b)), -1, 1))


def laplacian_edges(x):
    """The absolute Laplacian of each image, channels summed, `[n, height, width]`, by OpenCV: no network at all."""
    return np.array(
        [np.abs(cv2.Laplacian(one.astype("float32"), cv2.CV_32F)).reshape(one.shape).sum(-1) for one in x], "float32"
    ).reshape(len(x), *x.shape[1:3])


def canny_edges(x, low=100, high=200):
    """Canny's edges of each image of values in [0, 1], zeros and ones `[n, height, width]`, by OpenCV."""
    grey = np.rint(255 * np.clip(np.asarray(x, "float64").mean(-1), 0, 1)).astype("uint8")
    return np.array([cv2.Canny(one, low, high) / 255 for one in grey], "float32").reshape(grey.shape)
