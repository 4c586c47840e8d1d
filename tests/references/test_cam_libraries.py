"""Class activation maps against captum, pytorch-grad-cam, torchcam and tf-keras-vis: values that
generate_cam.py stored, in float64.

Where definitions agree, so do values. Where they differ, a formula in NumPy, of the feature maps A and of the gradients
g there, arrives at the library's values, and ours are others:

- Grad-CAM++: pytorch-grad-cam has 1e-6 in the denominator of alpha, which counts where gradients are small; torchcam
  divides a copy, so that its alpha is g^2, without any denominator; tf-keras-vis has the authors' normalized alphas
  (summed over negative gradients too, so that a feature map may get a negative weight), with the factor exp(S);
- Score-CAM: pytorch-grad-cam and tf-keras-vis enlarge a map from corner to corner, ours from half-pixel to half-pixel;
  torchcam scales it to [0, 1] before, not after; and tf-keras-vis takes the probability of the class for a weight;
- captum enlarges the map of Guided Grad-CAM by repeating its values, unless told otherwise;
- tf-keras-vis goes back from a layer to the convolution before, in front of a norm and its ReLU, unless told otherwise.
"""

import functools
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tests.helpers import deviation, plus, zero_or_not
from tests.references.networks import NETWORKS, reference_network, references
from utils import cam
from utils.relevance import guided_backprop

ALL = (*NETWORKS, "pooled")
LAYERS = ("early", "last")
SMALLER = [("average", "last"), ("maximum", "last"), ("pooled", "last")]  # than the images
SAME_SIZE = [(name, layer) for name in ALL for layer in LAYERS if (name, layer) not in SMALLER]
FLOAT32 = 1e-6  # where a library computes weights, or resizes, in float32

each_network = pytest.mark.parametrize("name", ALL)
each_layer = pytest.mark.parametrize("layer", LAYERS)

# maps without a positive value are among the stored ones, too
pytestmark = zero_or_not


@functools.cache
def stored():
    with np.load(Path(__file__).parent / "cam.npz") as file:
        return dict(file)


@functools.cache
def network(name):
    return pooled() if name == "pooled" else reference_network(name)


def pooled():
    """The network of generate_cam.py."""
    x = start = keras.Input(stored()["pooled/inputs"].shape[1:], dtype="float64")
    x = layers.Conv2D(6, 3, padding="same", activation="relu", name="conv1", dtype="float64")(x)
    x = layers.MaxPooling2D(2, dtype="float64")(x)
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="conv2", dtype="float64")(x)
    x = layers.GlobalAveragePooling2D(dtype="float64")(x)
    model = keras.Model(start, layers.Dense(4, name="dense", dtype="float64")(x), name="pooled")
    for layer in model.layers:
        for variable in layer.weights:
            variable.assign(stored()[f"pooled/weights/{layer.name}/{variable.name}"])
    return model


@functools.cache
def with_softmax(name):
    logits = network(name)
    return keras.Model(logits.inputs[0], layers.Softmax(dtype="float64")(logits.outputs[0]))


def layer_of(name, layer):
    """The Keras layer whose output is the feature map called "early" or "last"."""
    if name == "residual":
        relus = [one for one in network(name).layers if isinstance(one, layers.ReLU)]
        return relus[{"early": 1, "last": 3}[layer]]  # each block ends in its second
    return network(name).get_layer({"early": "conv1", "last": "conv2"}[layer])


def images(name):
    arrays, own = (stored(), "pooled/") if name == "pooled" else (references(), "")
    return arrays[f"{own}inputs"], arrays[f"{own}targets"]


def explained(name, layer):
    """What all calls have in common."""
    return network(name), *images(name), layer_of(name, layer)


@functools.cache
def maps_and_gradients(name, layer, softmax=False):
    """Feature maps A and gradients g, `[n, height, width, channels]`, and scores `[n, 1, 1]`: of logits, or with
    `softmax` of probabilities."""
    model, (x, target) = with_softmax(name) if softmax else network(name), images(name)
    both = keras.Model(model.inputs[0], [layer_of(name, layer).output, model.outputs[0]])
    with tf.GradientTape() as tape:
        A, scores = both(x)
        score = tf.gather(scores, target, axis=1, batch_dims=1)
    return A.numpy(), tape.gradient(score, A).numpy(), score.numpy()[:, None, None]


def total(values):
    """Over the places of a map."""
    return values.sum((1, 2), keepdims=True)


def ratio(a, b):
    """a / b, 0 where b is 0."""
    return np.divide(a, b, out=np.zeros_like(a), where=b != 0)


# --- the networks are the same


@each_network
def test_logits(name):
    assert deviation(network(name)(images(name)[0]).numpy(), stored()[f"{name}/logits"]) < 1e-12


# --- methods that are defined alike


@each_network
@each_layer
def test_grad_cam(name, layer):
    R = cam.grad_cam(*explained(name, layer))
    for key in ("captum/grad_cam", "torchcam/GradCAM", "tf_keras_vis/Gradcam"):
        assert deviation(R, stored()[f"{name}/{layer}/{key}"]) < 1e-10
    R = cam.grad_cam(*explained(name, layer), relu=False)
    for key in ("captum/grad_cam/signed", "pytorch_grad_cam/GradCAM"):
        assert deviation(R, stored()[f"{name}/{layer}/{key}"]) < 1e-10
    in_parts = cam.grad_cam(*explained(name, layer), relu=False, batch_size=3)
    assert deviation(in_parts, R) < 1e-10


@each_network
@each_layer
def test_counterfactual_grad_cam(name, layer):
    R = cam.grad_cam(*explained(name, layer), counterfactual=True)
    assert deviation(R, stored()[f"{name}/{layer}/captum/grad_cam/counterfactual"]) < 1e-10


@each_network
@each_layer
def test_grad_cam_of_a_probability(name, layer):
    R = cam.grad_cam(with_softmax(name), *images(name), layer_of(name, layer), explain="output")
    assert deviation(R, stored()[f"{name}/{layer}/captum/grad_cam/output"]) < 1e-10


def test_grad_cam_of_the_logit_below_a_softmax():
    R = cam.grad_cam(with_softmax("pooled"), *images("pooled"), layer_of("pooled", "last"))
    assert deviation(R, stored()["pooled/last/captum/grad_cam"]) < 1e-10


@each_network
@each_layer
def test_hires_cam(name, layer):
    R = cam.hires_cam(*explained(name, layer), relu=False)
    assert deviation(R, stored()[f"{name}/{layer}/pytorch_grad_cam/HiResCAM"]) < 1e-10


@each_network
@each_layer
def test_layer_cam(name, layer):
    R = cam.layer_cam(*explained(name, layer))
    for key in ("pytorch_grad_cam/LayerCAM", "torchcam/LayerCAM", "tf_keras_vis/Layercam"):
        assert deviation(R, stored()[f"{name}/{layer}/{key}"]) < 1e-10


def test_class_activation_map():
    """Torchcam's is signed, too. And it is Grad-CAM's, but for the number of places."""
    R = cam.class_activation_map(network("pooled"), *images("pooled"))
    assert deviation(R, stored()["pooled/last/torchcam/CAM"]) < 1e-10
    places = R[0].size
    assert deviation(R / places, stored()["pooled/last/captum/grad_cam/signed"]) < 1e-10


# --- the layer


@pytest.mark.parametrize("name", ["residual", "pooled"])
def test_last_layer_by_default(name):
    R = cam.grad_cam(network(name), *images(name), verbose=False)
    assert deviation(R, stored()[f"{name}/last/captum/grad_cam"]) < 1e-10


def test_default_layer_of_tf_keras_vis():
    """It is the last convolution itself: its output is neither normalized, nor added, nor positive."""
    theirs = stored()["residual/default_layer/tf_keras_vis/Gradcam"]
    R = cam.grad_cam(network("residual"), *images("residual"), "block2_conv2")
    assert deviation(R, theirs) < 1e-10
    assert deviation(stored()["residual/last/tf_keras_vis/Gradcam"], theirs) > 0.5


# --- Grad-CAM++


def plus_plus(name, layer, alpha, softmax=False):
    """sum_k A_k sum_ij alpha_k(i, j) max(0, g_k(i, j)) for `alpha(A, g)`."""
    A, g, _ = maps_and_gradients(name, layer, softmax)
    return (A * total(alpha(A, g) * plus(g))).sum(-1)


def papers_alpha(A, g, epsilon=0.0):
    return ratio(g**2, 2 * g**2 + g**3 * total(A) + epsilon * (g != 0))


def authors_alpha(A, g):
    alpha = papers_alpha(A, g)
    return ratio(alpha, total(alpha) + np.zeros_like(alpha))


@each_network
@each_layer
def test_grad_cam_plus_plus(name, layer):
    """Equation 19 of the paper, term by term."""
    R = cam.grad_cam_plus_plus(*explained(name, layer))
    assert deviation(R, plus_plus(name, layer, papers_alpha)) < 1e-10
    R = cam.grad_cam_plus_plus(*explained(name, layer), "authors", relu=False)
    assert deviation(R, plus_plus(name, layer, authors_alpha)) < 1e-10


@each_network
@each_layer
def test_grad_cam_plus_plus_of_pytorch_grad_cam(name, layer):
    theirs = stored()[f"{name}/{layer}/pytorch_grad_cam/GradCAMPlusPlus"]
    assert deviation(plus_plus(name, layer, functools.partial(papers_alpha, epsilon=1e-6)), theirs) < 1e-10
    R = cam.grad_cam_plus_plus(*explained(name, layer))
    assert 1e-4 < deviation(R, theirs) < 0.05
    # How much it takes away depends on the unit of the score: nearly all, where that is a thousandth.
    A, g, _ = maps_and_gradients(name, layer)
    weights = [(papers_alpha(A, g / 1000, epsilon) * plus(g / 1000)).sum() for epsilon in (1e-6, 0)]
    assert weights[0] < 0.1 * weights[1]


@each_network
@each_layer
def test_grad_cam_plus_plus_of_torchcam(name, layer):
    theirs = stored()[f"{name}/{layer}/torchcam/GradCAMpp"]
    assert deviation(plus_plus(name, layer, lambda A, g: g**2), theirs) < 1e-10
    R = cam.grad_cam_plus_plus(*explained(name, layer))
    assert deviation(R / R.max(), theirs / theirs.max()) > 0.01

    def meant(A, g):  # its denominator, had it been used: the sum is of A g^3, not of A alone
        return ratio(g**2, 2 * g**2 + total(A * g**3) + 1e-8)

    assert deviation(plus_plus(name, layer, meant), theirs) > 1


@each_network
@each_layer
def test_grad_cam_plus_plus_of_tf_keras_vis(name, layer):
    theirs = stored()[f"{name}/{layer}/tf_keras_vis/GradcamPlusPlus"]
    score = maps_and_gradients(name, layer)[2]
    R = cam.grad_cam_plus_plus(*explained(name, layer), "authors")
    assert deviation(np.exp(score) * R, theirs) < 1e-10
    paper = cam.grad_cam_plus_plus(*explained(name, layer))
    assert deviation(paper / paper.max(), theirs / theirs.max()) > 0.01


def test_grad_cam_plus_plus_of_a_probability():
    """tf-keras-vis takes the exponential of whatever score it gets."""
    theirs = stored()["pooled/last/tf_keras_vis/output/GradcamPlusPlus"]
    arguments = (with_softmax("pooled"), *images("pooled"), layer_of("pooled", "last"), "authors")
    R = cam.grad_cam_plus_plus(*arguments, explain="output")
    assert deviation(np.exp(maps_and_gradients("pooled", "last", softmax=True)[2]) * R, theirs) < 1e-10


def test_normalized_alphas_may_turn_the_sign():
    """Each alpha with g > 0 is positive, their sum with the others may not be: then what speaks for a class counts
    against it."""
    A, g, _ = maps_and_gradients("maximum", "early")
    alpha = papers_alpha(A, g)
    assert (alpha[g > 0] > 0).all() and (total(alpha) < 0).any()
    R = cam.grad_cam_plus_plus(*explained("maximum", "early"), "authors", relu=False)
    assert R.min() < -0.1 * R.max()
    assert cam.grad_cam_plus_plus(*explained("maximum", "early"), relu=False).min() >= 0


# --- the size of the images


def resized(maps, size, nodes):
    """Bilinear, of maps `[n, height, width, ...]`; `nodes(n, m)`: where the m new points stand among the n old ones."""
    for axis, m in zip((1, 2), size):
        n = maps.shape[axis]
        at = nodes(n, m)
        low = np.minimum(np.floor(at).astype(int), n - 2)
        share = (at - low).reshape(-1, *[1] * (maps.ndim - 1 - axis))
        maps = np.take(maps, low, axis) * (1 - share) + np.take(maps, low + 1, axis) * share
    return maps


def half_pixels(n, m):
    return np.clip((np.arange(m) + 0.5) * n / m - 0.5, 0, n - 1)


def corners(n, m):
    return np.arange(m) * (n - 1) / (m - 1)


def scaled(maps, epsilon=0.0):
    """To [0, 1], as all libraries have it but for their epsilons."""
    maps = maps - maps.min((1, 2), keepdims=True)
    return ratio(maps, maps.max((1, 2), keepdims=True) + epsilon + np.zeros_like(maps))


@each_network
@each_layer
def test_upsampled_maps(name, layer):
    R = cam.grad_cam(*explained(name, layer), relu=False, upsample=True)
    captums = stored()[f"{name}/{layer}/captum/fitted/bilinear"]
    assert deviation(R, captums) < 1e-10
    low = cam.grad_cam(*explained(name, layer), relu=False)
    assert deviation(resized(low, captums.shape[1:], half_pixels), captums) < 1e-10


@each_network
@each_layer
def test_maps_scaled_and_upsampled_by_pytorch_grad_cam(name, layer):
    """What it returns: between 0 and 1 twice, in float32."""
    R = cam.grad_cam(*explained(name, layer), upsample=True)
    theirs = stored()[f"{name}/{layer}/pytorch_grad_cam/fitted/GradCAM"]
    assert deviation(scaled(R), theirs.astype("float64")) < FLOAT32


def test_maps_upsampled_by_tf_keras_vis():
    """From corner to corner."""
    theirs = stored()["pooled/last/tf_keras_vis/fitted/Gradcam"]
    low = cam.grad_cam(*explained("pooled", "last"))
    assert deviation(resized(low, theirs.shape[1:], corners), theirs) < 1e-10
    assert deviation(cam.grad_cam(*explained("pooled", "last"), upsample=True), theirs) > 0.1


# --- Guided Grad-CAM


@each_network
@each_layer
def test_guided_grad_cam(name, layer):
    R = cam.guided_grad_cam(*explained(name, layer))
    assert deviation(R, stored()[f"{name}/{layer}/captum/guided_grad_cam/bilinear"]) < 1e-10


@each_network
@each_layer
def test_guided_grad_cam_of_captum_by_default(name, layer):
    low, (x, target) = cam.grad_cam(*explained(name, layer)), images(name)
    rows, columns = (np.arange(m) * n // m for n, m in zip(low.shape[1:], x.shape[1:]))
    repeated = low[:, rows][:, :, columns, None]
    theirs = stored()[f"{name}/{layer}/captum/guided_grad_cam/nearest"]
    assert deviation(guided_backprop(network(name), x, target) * repeated, theirs) < 1e-10


# --- Score-CAM


def score_cam(name, layer, masks, weights):
    """sum_k w_k A_k, signed: `masks` of feature maps, in the size of the images; `weights` of the logits of masked
    images, `[n, k, classes]`, and of the targets."""
    A, (x, target) = maps_and_gradients(name, layer)[0], images(name)
    H = masks(A, x.shape[1:3])
    masked = np.moveaxis(H, -1, 1)[..., None] * x[:, None]
    logits = network(name)(masked.reshape(-1, *x.shape[1:])).numpy().reshape(*masked.shape[:2], -1)
    return np.einsum("nijk,nk->nij", A, weights(logits, target))


def softmax(values):
    values = np.exp(values - values.max(-1, keepdims=True))
    return values / values.sum(-1, keepdims=True)


def over_maps(logits, target):
    """A softmax of the scores: one number for all of them, the score of nothing or of the image, is no matter."""
    return softmax(logits[range(len(target)), :, target])


def over_classes(logits, target):
    return softmax(logits)[range(len(target)), :, target]


def resized_then_scaled(nodes, epsilon=0.0):
    return lambda A, size: scaled(resized(A, size, nodes), epsilon)


def scaled_then_resized(A, size):
    return resized(scaled(A, 1e-8), size, half_pixels)


SCORE_CAM = {  # library -> how it makes its masks and its weights; what its values are rounded to
    "pytorch_grad_cam/ScoreCAM": (resized_then_scaled(corners, 1e-8), over_maps, FLOAT32),
    "torchcam/ScoreCAM": (scaled_then_resized, over_maps, 1e-10),
    "tf_keras_vis/Scorecam": (resized_then_scaled(corners, 1e-7), over_classes, FLOAT32),
}


@each_network
@each_layer
def test_score_cam(name, layer):
    R = cam.score_cam(*explained(name, layer), relu=False)
    assert deviation(R, score_cam(name, layer, resized_then_scaled(half_pixels), over_maps)) < 1e-10
    of_two = cam.score_cam(*explained(name, layer), relu=False, batch_size=2)
    assert deviation(of_two, R) < 1e-10


@pytest.mark.parametrize("name, layer", SAME_SIZE)
def test_score_cam_without_resizing(name, layer):
    """All have the same masks, and two the same weights."""
    R = cam.score_cam(*explained(name, layer))
    for key in ("pytorch_grad_cam/ScoreCAM", "torchcam/ScoreCAM"):
        assert deviation(R, stored()[f"{name}/{layer}/{key}"]) < FLOAT32


@each_network
@each_layer
@pytest.mark.parametrize("key", SCORE_CAM)
def test_score_cam_of_the_libraries(name, layer, key):
    theirs = stored()[f"{name}/{layer}/{key}"]
    masks, weights, tolerance = SCORE_CAM[key]
    assert deviation(score_cam(name, layer, masks, weights), theirs) < tolerance
    if (name, layer) in SMALLER or weights is over_classes:
        assert deviation(cam.score_cam(*explained(name, layer)), theirs) > 1e-4
