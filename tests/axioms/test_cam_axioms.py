"""Class activation maps: exact answers, sums and averages, and maps that are zero everywhere."""

import functools
import warnings

import keras
import numpy as np
import pytest
from keras import layers as L

from tests.helpers import (
    CAMS,
    SHAPE,
    TARGET,
    F,
    X,
    average,
    close,
    conv,
    deep_net,
    dense,
    each_cam,
    each_kind,
    explained,
    halves,
    noise,
    pooled_net,
    sequential,
)
from utils import cam


def test_class_activation_map_is_grad_cam_times_the_number_of_places():
    model = pooled_net()
    ratio = cam.class_activation_map(model, X, TARGET) / explained("grad_cam", model, relu=False)
    assert np.abs(ratio - 3 * 2).max() < 1e-6


def test_class_activation_map_averages_to_the_logit():
    model = pooled_net(head=None)
    bias = model.get_layer("head").get_weights()[1]
    close(cam.class_activation_map(model, X, TARGET).mean((1, 2)) + bias[TARGET], model(X).numpy()[range(3), TARGET])


def test_hires_cam_sums_to_the_score_without_biases():
    model = deep_net()
    lower, upper = halves(model, "late")
    for layer in upper.layers:
        layer.set_weights([value * (value.ndim > 1) for value in layer.get_weights()])
    whole = keras.Sequential([keras.Input(SHAPE, **F), lower, upper])
    R = explained("hires_cam", whole, layer="late", relu=False)
    close(R.sum((1, 2)), whole(X).numpy()[range(3), TARGET])


def input_as_map(x):
    """Two channels of four places; the class's weights are 1 and 2, so g is 1/4 and 1/2."""
    same, head = L.Rescaling(1.0, name="same", **F), dense(1)
    model = keras.Sequential([keras.Input((2, 2, 2), **F), same, average(), head])
    head.set_weights([np.array([[1.0], [2.0]]), np.zeros(1)])
    return model, np.broadcast_to(np.array(x, "float64"), (1, 2, 2, 2))


def test_a_denominator_of_zero():
    # the sum of the first map is -8, so 2 + g sum A = 0; of the second it is 4, so alpha = 1/4 and w = 4 1/4 1/2
    model, x = input_as_map([-2, 1])
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        close(explained("paper", model, x, 0, relu=False), np.full((1, 2, 2), 0.5))
        close(explained("authors", model, x, 0, relu=False), np.full((1, 2, 2), 0.5))
        model, x = input_as_map([-2, 0])
        for name in ("paper", "authors"):
            assert np.array_equal(explained(name, model, x, 0, relu=False)[0], np.zeros((2, 2)))


@functools.cache
def strided():
    return sequential((16, 16, 1), conv(4, strides=2, padding="same", use_bias=False), average(), dense(3))


@each_kind
def test_a_shifted_image_has_a_shifted_map(name):
    model, x = strided(), np.zeros((1, 16, 16, 1))
    x[:, 5:10, 4:9] = noise(1, 5, 5, 1)
    how = {} if name == "guided_grad_cam" else {"upsample": True}
    here, there = (explained(name, model, image, 1, **how) for image in (x, np.roll(x, (2, 4), (1, 2))))
    assert here.any() and not here[:, :2].any() and not here[:, -3:].any()
    close(there, np.roll(here, (2, 4), (1, 2)))


# --- maps that are zero everywhere


@functools.cache
def half_dead():
    """The second of two images has no feature that is on: the bias is below 0, and the image black."""
    model = sequential((6, 6, 1), conv(4, use_bias=False), average(), dense(3))
    return model, np.concatenate([noise(1, 6, 6, 1), np.zeros((1, 6, 6, 1))])


@each_cam
def test_a_map_that_is_zero_everywhere_is_announced(name):
    model, x = half_dead()
    how = {"relu": True} if name == "class_activation_map" else {}
    target = next(c for c in range(3) if explained(name, model, x[:1], c, **how).any())
    method = {"paper": "grad_cam_plus_plus", "authors": "grad_cam_plus_plus", "guided_grad_cam": "grad_cam"}.get(
        name, name
    )
    with pytest.warns(UserWarning, match=f"{method}: 1 of 2 maps are zero everywhere, the first for image 1") as seen:
        R = explained(name, model, x, target, **how)
    assert np.isfinite(R).all() and R[0].any() and not R[1].any() and len(seen) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        explained(name, model, x[:1], target, **how)


@each_kind
def test_the_warning_points_to_the_call(name):
    model, x = half_dead()
    how = {"relu": True} if name == "class_activation_map" else {}
    with pytest.warns(UserWarning, match="zero everywhere") as seen:
        CAMS[name](model, x[1:], 0, **how)
    assert seen[0].filename == __file__


@pytest.mark.parametrize("name", ["grad_cam", "score_cam", "class_activation_map"])
def test_a_signed_map_that_is_zero_everywhere_is_announced(name):
    model, x = half_dead()
    with pytest.warns(UserWarning, match=f"{name}: 1 of 2 maps are zero everywhere, the first for image 1"):
        explained(name, model, x, 0, relu=False)
