"""Class activation maps against loops over places and channels in float64, and the equations of their papers."""

import cv2
import numpy as np
import pytest
import tensorflow as tf

from tests.helpers import (
    BY_GRADIENT,
    SHAPE,
    TARGET,
    X,
    all_enlarged,
    average,
    close,
    conv,
    deep_net,
    dense,
    each_cam,
    enlarged,
    explained,
    halves,
    noise,
    pooled_net,
    sequential,
    shared_net,
    slow_maps,
    zero_or_not,
)
from utils import cam
from utils.attributions import guided_backprop


def maps_and_gradients(model, name, x=X, target=TARGET):
    """Feature maps A and gradients g of the logits, `[n, height, width, channels]`."""
    lower, upper = halves(model, name)
    A = lower(x)
    with tf.GradientTape() as tape:
        tape.watch(A)
        score = tf.gather(upper(A), target, axis=1, batch_dims=1)
    return A.numpy(), tape.gradient(score, A).numpy()


@zero_or_not
@pytest.mark.parametrize("layer", ["early", "late"])
@pytest.mark.parametrize("name", BY_GRADIENT)
def test_maps_by_gradients_are_plain_sums(name, layer):
    A, g = maps_and_gradients(deep_net(), layer)
    for counterfactual in (False, True):
        expected = slow_maps(name, A, -g if counterfactual else g)
        how = {"layer": layer, "counterfactual": counterfactual}
        signed = explained(name, deep_net(), relu=False, **how)
        assert signed.dtype == "float64"
        close(signed, expected)
        close(explained(name, deep_net(), relu=True, **how), np.maximum(expected, 0))


def test_gradients_are_differences():
    lower, upper = halves(deep_net(), "late")
    A = lower(X).numpy()
    g = np.zeros_like(A)
    for n, one in enumerate(A):
        nudges = 1e-6 * np.eye(one.size).reshape(-1, *one.shape)
        up, down = (upper(one + sign * nudges).numpy()[:, TARGET[n]] for sign in (1, -1))
        g[n] = ((up - down) / 2e-6).reshape(one.shape)
    for name in BY_GRADIENT:
        close(explained(name, deep_net(), layer="late", relu=False), slow_maps(name, A, g), 1e-7)


def test_class_activation_map_is_a_plain_sum():
    model = pooled_net()
    A, (kernel, _) = halves(model, "late")[0](X).numpy(), model.get_layer("head").get_weights()
    expected = np.zeros(A.shape[:3])
    for n, i, j, k in np.ndindex(*A.shape):
        expected[n, i, j] += kernel[k, TARGET[n]] * A[n, i, j, k]
    close(cam.class_activation_map(model, X, TARGET), expected)
    close(cam.class_activation_map(model, X, TARGET, relu=True), np.maximum(expected, 0))


@pytest.mark.parametrize("layer", ["early", "late"])
def test_score_cam_is_a_plain_sum(layer):
    lower, upper = halves(deep_net(), layer)
    expected = []
    for image, c in zip(X, TARGET):
        A, gains = lower(image[None]).numpy()[0], []
        nothing = upper(lower(np.zeros_like(image)[None])).numpy()[0, c]
        for k in range(A.shape[-1]):
            H = enlarged(A[..., k], SHAPE[:2])
            H = (H - H.min()) / (H.max() - H.min()) if H.max() > H.min() else 0 * H
            gains.append(upper(lower((image * H[..., None])[None])).numpy()[0, c] - nothing)
        weights = np.exp(gains) / np.exp(gains).sum()
        expected.append(sum(w * A[..., k] for k, w in enumerate(weights)))
    close(explained("score_cam", deep_net(), layer=layer), np.stack(expected))


def test_guided_grad_cam_is_a_product():
    maps = np.maximum(slow_maps("grad_cam", *maps_and_gradients(deep_net(), "late")), 0)
    expected = guided_backprop(deep_net(), X, TARGET) * all_enlarged(maps, SHAPE[:2])[..., None]
    close(explained("guided_grad_cam", deep_net(), layer="late"), expected)


def test_images_of_one_channel():
    model, x = pooled_net(shape=(11, 9, 1)), noise(3, 11, 9, 1)
    A, g = maps_and_gradients(model, "late", x)
    close(explained("grad_cam", model, x, relu=False), slow_maps("grad_cam", A, g))
    assert explained("guided_grad_cam", model, x, [3, 0, 1]).shape == x.shape


# --- Grad-CAM++ against the equations of its paper


def papers_map(upper, A, c):
    """Of one image: alpha and w with the second and third derivatives of Y = exp(S) to each value of A by itself."""
    size = A.size
    copies, one_each = np.repeat(A[None], size, 0), np.eye(size).reshape(size, *A.shape)
    t = tf.zeros(size, "float64")  # one number for each copy, added to one value there
    with tf.GradientTape() as third:
        third.watch(t)
        with tf.GradientTape() as second:
            second.watch(t)
            with tf.GradientTape() as first:
                first.watch(t)
                Y = tf.exp(upper(copies + t[:, None, None, None] * one_each)[:, c])
            D1 = first.gradient(Y, t)
        D2 = second.gradient(D1, t)
    D3 = third.gradient(D2, t)
    D1, D2, D3 = (D.numpy().reshape(A.shape) for D in (D1, D2, D3))
    below = 2 * D2 + A.sum((0, 1)) * D3
    alpha = np.divide(D2, below, out=np.zeros_like(A), where=below != 0)
    w = (alpha * np.maximum(D1, 0)).sum((0, 1))
    return A @ w


def ours_and_papers(activation):
    """Our maps, the paper's, and exp(S)."""
    model = deep_net(activation)
    lower, upper = halves(model, "late")
    A, scores = lower(X).numpy(), upper(lower(X)).numpy()[range(3), TARGET]
    papers = np.stack([papers_map(upper, *one) for one in zip(A, TARGET)])
    return explained("paper", model, layer="late", relu=False), papers, np.exp(scores)[:, None, None]


def test_grad_cam_plus_plus_is_the_papers_up_to_the_exponential_of_the_score():
    ours, papers, factor = ours_and_papers("relu")
    close(factor * ours, papers, 1e-8)


def test_powers_of_the_gradient_are_the_derivatives_only_where_the_network_is_piecewise_linear():
    ours, papers, factor = ours_and_papers("tanh")
    close(ours, slow_maps("paper", *maps_and_gradients(deep_net("tanh"), "late")))
    ours, papers = (R / np.abs(R).max((1, 2), keepdims=True) for R in (factor * ours, papers))
    assert np.abs(ours - papers).max() > 1e-2


# --- the size of the images


@pytest.mark.parametrize("size", [True, (30, 17), (3, 2), (2, 1), (1, 40), [np.int64(7), 7]], ids=str)
def test_upsampled_maps(size):
    R = explained("grad_cam", deep_net(), layer="late", relu=False)
    ours = explained("grad_cam", deep_net(), layer="late", relu=False, upsample=size)
    size = SHAPE[:2] if size is True else tuple(size)
    assert ours.shape == (3, *size) and ours.dtype == "float64"
    close(ours, all_enlarged(R, size), 1e-12)
    close(ours, np.stack([cv2.resize(M, size[::-1], interpolation=cv2.INTER_LINEAR) for M in R]), 1e-6)


@pytest.mark.parametrize("shape", [(1, 5), (4, 1), (1, 1)], ids=str)
def test_maps_of_one_row_or_column(shape):
    x = noise(2, *shape, 3)
    model = sequential((*shape, 3), conv(4, 1, name="map"), average(), dense(2))
    how = {"x": x, "target": 1, "layer": "map", "relu": False}
    close(
        explained("grad_cam", model, upsample=(6, 7), **how), all_enlarged(explained("grad_cam", model, **how), (6, 7))
    )


@each_cam
def test_each_method_upsamples(name):
    if name != "guided_grad_cam":  # its size is that of the images
        R = explained(name, shared_net(), relu=False)
        close(explained(name, shared_net(), relu=False, upsample=(5, 8)), all_enlarged(R, (5, 8)), 1e-12)
