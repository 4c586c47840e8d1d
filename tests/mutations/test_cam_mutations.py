"""Known defects of class activation maps, put back on purpose: each must make a check fail.

As in test_rule_mutations.py, a check raises an AssertionError; it runs as things are, and then with the defect.
Compiled functions are kept with a model, so each check makes models of its own.
"""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L

from tests.helpers import F, close, conv, plus
from utils import cam, scores
from utils.cam.features import places

pytestmark = pytest.mark.filterwarnings("ignore:.*maps are zero everywhere")


X, TARGET = np.random.default_rng(1).standard_normal((3, 9, 7, 2)), np.array([0, 2, 1])


def chain(*layers):
    """Random weights, of the same size throughout."""
    model, generator = keras.Sequential([keras.Input((9, 7, 2), **F), *layers]), np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(generator.standard_normal(weight.shape) / np.sqrt(np.prod(weight.shape[:-1])))
    return model


def flat(head="softmax"):
    """A dense layer on all values of the feature map: their gradients are its weights."""
    return chain(conv(4, name="map"), L.Flatten(**F), L.Dense(3, head, **F, name="head"))


def pooled():
    layers = [conv(4, padding="same"), conv(4, padding="same", name="map")]
    return chain(*layers, L.GlobalAveragePooling2D(**F), L.Dense(3, **F, name="head"))


def feature_maps(model, name="map"):
    return keras.Model(model.inputs[0], model.get_layer(name).output)(X).numpy()


def maps_and_gradients(model):
    """Of `flat`, without differentiation."""
    A, kernel = feature_maps(model), model.get_layer("head").get_weights()[0]
    return A, np.moveaxis(kernel.reshape(*A.shape[1:], -1)[..., TARGET], -1, 0)


def with_weights(A, w):
    return np.einsum("nijk,nk->nij", A, w)


# --- the checks


def check_grad_cam():
    model = flat()
    A, g = maps_and_gradients(model)
    signed = with_weights(A, g.mean((1, 2)))
    assert (signed < 0).any((1, 2)).all()
    close(cam.grad_cam(model, X, TARGET, relu=False, verbose=False), signed)
    close(cam.grad_cam(model, X, TARGET, verbose=False), plus(signed))
    close(cam.grad_cam(model, X, TARGET, counterfactual=True, verbose=False), plus(-signed))


def check_the_unit_of_grad_cam():
    model = pooled()
    R = cam.grad_cam(model, X, TARGET, relu=False, verbose=False)
    logits, bias = model(X).numpy(), model.get_layer("head").get_weights()[1]
    close(R.sum((1, 2)) + bias[TARGET], logits[range(3), TARGET])


def check_the_pattern_of_grad_cam():
    """But for its scale."""
    model = pooled()
    R = cam.grad_cam(model, X, TARGET, relu=False, verbose=False)
    expected = with_weights(feature_maps(model), model.get_layer("head").get_weights()[0].T[TARGET])
    close(R / np.abs(R).max(), expected / np.abs(expected).max())


def check_grad_cam_plus_plus(unit=1.0):
    model = flat(head=None)
    head = model.get_layer("head")
    head.set_weights([unit * value for value in head.get_weights()])
    A, g = maps_and_gradients(model)
    alpha = g**2 / (2 * g**2 + g**3 * A.sum((1, 2), keepdims=True))
    signed = with_weights(A, (alpha * plus(g)).sum((1, 2)))
    close(cam.grad_cam_plus_plus(model, X, TARGET, relu=False, verbose=False), signed)
    share = alpha / alpha.sum((1, 2), keepdims=True)
    signed = with_weights(A, (share * plus(g)).sum((1, 2)))
    close(cam.grad_cam_plus_plus(model, X, TARGET, "map", "authors", relu=False, verbose=False), signed)


def check_grad_cam_plus_plus_of_small_scores():
    check_grad_cam_plus_plus(unit=1e-3)


def check_layer_cam():
    model = flat()
    A, g = maps_and_gradients(model)
    close(cam.layer_cam(model, X, TARGET, verbose=False), (plus(g) * A).sum(-1))
    close(cam.hires_cam(model, X, TARGET, relu=False, verbose=False), (g * A).sum(-1))


def check_the_last_feature_map_is_the_default():
    model = pooled()
    named = cam.grad_cam(model, X, TARGET, "map", relu=False)
    close(cam.grad_cam(model, X, TARGET, relu=False, verbose=False), named)
    close(named, with_weights(feature_maps(model), model.get_layer("head").get_weights()[0].T[TARGET] / 63))


def check_the_average_of_a_class_activation_map():
    model = pooled()
    means = cam.class_activation_map(model, X, TARGET).mean((1, 2))
    logits, bias = model(X).numpy(), model.get_layer("head").get_weights()[1]
    close(means + bias[TARGET], logits[range(3), TARGET])


def check_enlarged_maps():
    """In the middle between two values of a map that is twice as large, and half as far from the edge."""
    model = flat()
    small = cam.grad_cam(model, X, TARGET, relu=False, verbose=False)  # 7 x 5
    large = cam.grad_cam(model, X, TARGET, relu=False, upsample=(14, 10), verbose=False)
    close(large[:, [0, -1]][..., [0, -1]], small[:, [0, -1]][..., [0, -1]])
    shares = np.array([3, 1]) / 4
    close(large[:, 1, 1], np.einsum("nij,i,j->n", small[:, :2, :2], shares, shares))


def check_a_shifted_image_has_a_shifted_map():
    strided = conv(4, strides=2, padding="same", use_bias=False)
    model, x = chain(strided, L.GlobalAveragePooling2D(**F), L.Dense(3, **F)), np.zeros((1, 9, 7, 2))
    x[:, 3:5, 2:4] = X[:1, :2, :2]
    how = {"relu": False, "upsample": (10, 8), "verbose": False}  # twice the map
    here, there = (cam.grad_cam(model, image, 1, **how) for image in (x, np.roll(x, 2, 1)))
    assert not here[:, -2:].any()
    close(there, np.roll(here, 2, 1))


def check_images_do_not_influence_each_other():
    model = flat()
    for method in (cam.grad_cam, cam.grad_cam_plus_plus):
        together = method(model, X, TARGET, relu=False, verbose=False)
        close(method(model, X[2:], TARGET[2:], relu=False, verbose=False), together[2:])


def check_score_cam():
    """Masks that reach from 0 to 1, each for the image by itself."""
    model = chain(L.Conv2D(4, 3, padding="same", **F, name="map"), L.Flatten(**F), L.Dense(3, **F))
    A = feature_maps(model)
    low, high = A.min((1, 2), keepdims=True), A.max((1, 2), keepdims=True)
    masks = np.moveaxis((A - low) / (high - low), -1, 1)[..., None]
    gains = [model(mask * x).numpy()[:, c] for mask, x, c in zip(masks, X, TARGET)]
    weights = np.exp(gains) / np.exp(gains).sum(1, keepdims=True)
    close(cam.score_cam(model, X, TARGET, relu=False, verbose=False), with_weights(A, weights))


# --- the defects: each replaces something in `utils`


def keep_the_softmax(patch):
    patch.setattr(scores, "logits_of", lambda model, verbose=True: model)
    patch.setattr(scores.Scores, "check_outputs", lambda self, x, outputs: None)


def explain_the_predicted_class(patch):
    targets = scores.Scores.targets
    patch.setattr(scores.Scores, "targets", lambda self, x, target, size=None: targets(self, x, None, size))


def show_what_speaks_against_the_class(patch):
    finished = cam._finished
    patch.setattr(cam, "_finished", lambda net, name, maps, x, relu, *rest: finished(net, name, maps, x, False, *rest))


def let_negative_gradients_pass(patch):
    def layer_cam(A, g):
        return g

    patch.setattr(cam, "layer_cam", cam._method(layer_cam))


def let_negative_gradients_pass_in_plus_plus(patch):
    patch.setattr(cam, "_paper_weights", lambda A, g: tf.reduce_sum(cam._alphas(A, g) * g, (1, 2)))


def turn_the_sign_of_nothing(patch):
    grad_cam = cam.grad_cam
    patch.setattr(cam, "grad_cam", lambda *given, counterfactual=False, **how: grad_cam(*given, **how))


def sum_gradients(patch):
    patch.setattr(cam, "_mean_weights", lambda A, g: tf.reduce_sum(g, (1, 2)))


def divide_gradients_by_their_size(patch):
    """As in the first code for Grad-CAM."""

    def weights(A, g):
        return tf.reduce_mean(g / tf.sqrt(tf.reduce_mean(g**2, (1, 2, 3), keepdims=True)), (1, 2))

    patch.setattr(cam, "_mean_weights", weights)


def average_the_places_of_plus_plus(patch):
    """A constant factor, for maps of one size."""
    patch.setattr(cam, "_paper_weights", lambda A, g: tf.reduce_mean(cam._alphas(A, g) * tf.nn.relu(g), (1, 2)))


def average_the_places_that_count(patch):
    """A factor that differs from feature map to feature map."""

    def weights(A, g):
        counts = tf.reduce_sum(tf.cast(g > 0, g.dtype), (1, 2))
        return tf.reduce_sum(cam._alphas(A, g) * tf.nn.relu(g), (1, 2)) / counts

    patch.setattr(cam, "_paper_weights", weights)


def stabilise_alphas(patch):
    patch.setattr(cam, "_alphas", lambda A, g: g**2 / (2 * g**2 + g**3 * cam._sum(A) + 1e-6))


def sum_products_in_the_denominator(patch):
    """The sum of A g^3 and not g^3 times the sum of A: the paper's equation 19, read in another way."""
    patch.setattr(cam, "_alphas", lambda A, g: g**2 / (2 * g**2 + cam._sum(A * g**3)))


def normalize_over_positive_gradients(patch):
    def weights(A, g):
        alphas = tf.where(g > 0, cam._alphas(A, g), tf.zeros_like(g))
        return tf.reduce_sum(alphas / cam._sum(alphas) * tf.nn.relu(g), (1, 2))

    patch.setattr(cam, "_authors_weights", weights)


def enlarge_from_corner_to_corner(patch):
    def resized(maps, size):
        for axis, m in zip((1, 2), size):
            n = maps.shape[axis]
            at = np.arange(m) * (n - 1) / max(m - 1, 1)
            low = np.minimum(at.astype(int), n - 2)
            share = (at - low).reshape(-1, *[1] * (2 - axis))
            maps = np.take(maps, low, axis) * (1 - share) + np.take(maps, low + 1, axis) * share
        return maps

    patch.setattr(cam, "_resized", resized)


def repeat_instead_of_enlarging(patch):
    def resized(maps, size):
        rows, columns = (np.arange(m) * n // m for n, m in zip(maps.shape[1:], size))
        return maps[:, rows][:, :, columns]

    patch.setattr(cam, "_resized", resized)


def enlarge_to_width_and_height(patch):
    resized = cam._resized
    patch.setattr(cam, "_resized", lambda maps, size: resized(maps, size[::-1]))


def take_the_last_but_one(patch):
    feature_map = cam.feature_map

    def before(f, layer, announce=None):
        if layer is not None:
            return feature_map(f, layer, announce)
        names = [place.layer.name for place in places(f) if len(place.output.shape) == 4]
        return feature_map(f, names[names.index(feature_map(f, None).layer.name) - 1])

    patch.setattr(cam, "feature_map", before)


def one_weight_for_the_batch(patch):
    mean, alphas = cam._mean_weights, cam._alphas
    patch.setattr(cam, "_mean_weights", lambda A, g: tf.reduce_mean(mean(A, g), 0, keepdims=True) + 0 * mean(A, g))
    patch.setattr(cam, "_alphas", lambda A, g: tf.reduce_mean(alphas(A, g), 0, keepdims=True) + 0 * g)


def average_in_the_class_activation_map(patch):
    weighted = cam._weighted
    patch.setattr(cam, "_weighted", lambda A, w: weighted(A, w) / tf.cast(tf.size(A[0, ..., 0]), A.dtype))


def leave_masks_unscaled(patch):
    """From 0 on, but not to 1."""
    divide = np.divide
    patch.setattr(cam.np, "divide", lambda a, b, **how: divide(a, np.ones_like(b), **how))


DEFECTS = [
    (keep_the_softmax, check_grad_cam),
    (keep_the_softmax, check_layer_cam),
    (explain_the_predicted_class, check_grad_cam),
    (show_what_speaks_against_the_class, check_grad_cam),
    (let_negative_gradients_pass, check_layer_cam),
    (let_negative_gradients_pass_in_plus_plus, check_grad_cam_plus_plus),
    (turn_the_sign_of_nothing, check_grad_cam),
    (sum_gradients, check_the_unit_of_grad_cam),
    (divide_gradients_by_their_size, check_the_unit_of_grad_cam),
    (average_the_places_of_plus_plus, check_grad_cam_plus_plus),
    (average_the_places_that_count, check_grad_cam_plus_plus),
    (stabilise_alphas, check_grad_cam_plus_plus_of_small_scores),
    (sum_products_in_the_denominator, check_grad_cam_plus_plus),
    (normalize_over_positive_gradients, check_grad_cam_plus_plus),
    (enlarge_from_corner_to_corner, check_enlarged_maps),
    (enlarge_from_corner_to_corner, check_a_shifted_image_has_a_shifted_map),
    (repeat_instead_of_enlarging, check_enlarged_maps),
    (enlarge_to_width_and_height, check_enlarged_maps),
    (take_the_last_but_one, check_the_last_feature_map_is_the_default),
    (one_weight_for_the_batch, check_images_do_not_influence_each_other),
    (average_in_the_class_activation_map, check_the_average_of_a_class_activation_map),
    (leave_masks_unscaled, check_score_cam),
]


IDS = [f"{defect.__name__}-{check.__name__}" for defect, check in DEFECTS]


@functools.cache  # once for all defects
def passes(check):
    check()
    return True


@pytest.mark.parametrize(("defect", "check"), DEFECTS, ids=IDS)
def test_a_defect_is_noticed(defect, check, monkeypatch):
    assert passes(check)
    defect(monkeypatch)
    with pytest.raises(AssertionError):
        check()


def test_a_sum_instead_of_a_mean_is_only_a_scale(monkeypatch):
    """Maps that are scaled to [0, 1], as they are mostly shown, do not tell; their unit does."""
    sum_gradients(monkeypatch)
    check_the_pattern_of_grad_cam()
    with pytest.raises(AssertionError):
        check_the_unit_of_grad_cam()


def test_what_is_left_of_small_gradients(monkeypatch):
    """The stabiliser takes little away from large scores, and nearly all of those in thousandths."""

    def maps(unit):
        model = flat(head=None)
        head = model.get_layer("head")
        head.set_weights([unit * value for value in head.get_weights()])
        return cam.grad_cam_plus_plus(model, X, TARGET, verbose=False)

    units = (1.0, 1e-3)
    exact = [maps(unit) for unit in units]
    stabilise_alphas(monkeypatch)
    left = [maps(unit).sum() / R.sum() for unit, R in zip(units, exact)]
    assert left[0] > 0.99 and left[1] < 0.5
