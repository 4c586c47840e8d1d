"""How class activation maps are called: images, inputs, targets, layers, and what later calls see."""

import functools
import gc
import logging
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L
from keras import ops

from tests.helpers import (
    BY_GRADIENT,
    CAMS,
    OF_A_LAYER,
    SHAPE,
    TARGET,
    WORDS,
    F,
    X,
    all_enlarged,
    average,
    close,
    conv,
    deep_net,
    dense,
    each_cam,
    each_kind,
    explained,
    features,
    noise,
    pooled_net,
    randomize,
    refused,
    sequential,
    shared_map,
    shared_net,
    with_words,
    zero_or_not,
)
from utils import cam


def test_no_target_means_the_predicted_class():
    predicted = deep_net()(X).numpy().argmax(1)
    assert len(set(predicted)) > 1
    how = {"layer": "late", "relu": False, "verbose": False}
    assert np.array_equal(cam.grad_cam(deep_net(), X, **how), cam.grad_cam(deep_net(), X, predicted, **how))


@each_cam
def test_the_batch_size_does_not_matter(name):
    x, target = np.concatenate([X, X, X]), np.tile(TARGET, 3)
    first, *others = (explained(name, shared_net(), x, target, batch_size=size) for size in (1, 7, 64, None))
    for other in others:
        close(other, first)


@each_kind
def test_single_precision(name):
    ours = explained(name, shared_net("float32"), X.astype("float32"))
    assert ours.dtype == "float32"
    close(ours, shared_map(name), 1e-4)


def test_two_inputs():
    model = with_words()
    A = model.get_layer("backbone")(X).numpy()
    vector = keras.Model(model.inputs[1], model.get_layer("vector").output)(WORDS).numpy()
    g = vector * model.get_layer("head").kernel.numpy()[:, TARGET].T / A[0, ..., 0].size
    expected = np.einsum("nijk,nk->nij", A, g)
    for x in ([X, WORDS], (X, WORDS), {"words": WORDS, "image": X}, [X.astype("float32"), WORDS.tolist()]):
        tolerance = 1e-10 if isinstance(x, (tuple, dict)) or x[0].dtype == "float64" else 1e-5
        close(explained("grad_cam", model, x, relu=False), expected, tolerance)
    close(explained("grad_cam", model, [X, WORDS], relu=False, upsample=True), all_enlarged(expected, SHAPE[:2]))
    close(explained("grad_cam", model, [X, WORDS], relu=False, batch_size=2), expected)
    for name in BY_GRADIENT:
        assert explained(name, model, [X, WORDS], relu=False).shape == (3, 3, 2)


def test_two_images_of_different_size():
    a, b = keras.Input((8, 8, 2), **F), keras.Input((6, 6, 2), **F)
    one, other = conv(4, name="one")(a), conv(4, name="other")(b)
    model = randomize(keras.Model([a, b], dense(3)(L.Concatenate(**F)([average()(one), average()(other)]))))
    x = [noise(2, 8, 8, 2), noise(2, 6, 6, 2)]
    assert explained("grad_cam", model, x, 1, layer="one", relu=False).shape == (2, 6, 6)
    with refused("inputs have the", "Expected", "upsample=(height, width)"):
        explained("grad_cam", model, x, 1, layer="one", relu=False, upsample=True)


def test_integers_are_watched_silently(caplog):
    with caplog.at_level(logging.WARNING, logger="tensorflow"):
        explained("grad_cam", with_words(), [X, WORDS], relu=False)
    assert not caplog.records


@each_kind
def test_no_images(name):
    shape = SHAPE if name == "guided_grad_cam" else (3, 2)
    for target in (0, None, []):
        assert explained(name, shared_net("float32"), X[:0], target).shape == (0, *shape)


@functools.cache
def of_any_size():
    how = {"dtype": "float32"}
    return sequential((None, None, 1), conv(2, **how), average(**how), dense(2, **how), **how)


@each_kind
def test_no_images_of_any_size(name):
    assert explained(name, of_any_size(), np.zeros((0, 5, 5, 1)), 0).shape[0] == 0


@each_cam
def test_one_image(name):
    close(explained(name, shared_net(), X[:1], TARGET[:1]), shared_map(name)[:1])


@pytest.mark.parametrize("target", [2, np.int32(2), np.array(2), tf.constant(2), [2, 2, 2], np.full(3, 2, "uint8")])
def test_targets(target):
    ours, expected = (explained("grad_cam", shared_net(), target=c, relu=False) for c in (target, [2] * 3))
    assert np.array_equal(ours, expected)


# --- the layer by default


@pytest.mark.parametrize("name", OF_A_LAYER)
def test_the_last_feature_map_is_named_in_print(name, capsys):
    model = shared_net()
    by_default = OF_A_LAYER[name](model, X, TARGET)
    method = "grad_cam_plus_plus" if name in ("paper", "authors") else name
    method = "grad_cam" if name == "guided_grad_cam" else method
    assert capsys.readouterr().out == f"{method}: the feature map of 'late', 3 x 2 x 6.\n"
    assert np.array_equal(OF_A_LAYER[name](model, X, TARGET, layer="late"), by_default)
    OF_A_LAYER[name](model, X, TARGET, verbose=False)
    assert capsys.readouterr().out == ""


def test_maps_of_one_place_are_no_feature_maps(capsys):
    """Behind `late` come a map of 1 x 1 and a gate of 1 x 1, as in squeeze-and-excitation networks."""
    x = keras.Input(SHAPE, **F)
    y = keras.Sequential(features())(x)
    y = L.Multiply(**F, name="gated")([y, conv(6, 1, "sigmoid")(average(keepdims=True)(y))])
    y = conv(8, 1, name="top")(average(keepdims=True)(y))
    model = randomize(keras.Model(x, dense(4)(L.Flatten(**F)(y))))
    expected = explained("grad_cam", model, layer="gated", relu=False)
    close(cam.grad_cam(model, X, TARGET, relu=False), expected)
    assert "'gated'" in capsys.readouterr().out


def test_the_default_is_a_feature_map_that_the_score_depends_on(capsys):
    z = keras.Input((6, 6, 2), **F)
    first = conv(4, name="first")(z)
    pyramid = keras.Model(z, [first, conv(4, name="second")(first)])
    x = keras.Input((6, 6, 2), **F)
    model, images = randomize(keras.Model(x, dense(3)(average()(pyramid(x)[0])))), noise(2, 6, 6, 2)
    expected = explained("grad_cam", model, images, 1, layer="first", relu=False)
    close(cam.grad_cam(model, images, 1, relu=False), expected)
    assert "'first'" in capsys.readouterr().out


# --- what later calls see


def test_later_changes_show():
    model, names = pooled_net(), ("grad_cam", "score_cam", "class_activation_map")
    for name in names:
        explained(name, model)
    model.set_weights([1.5 * weight for weight in model.get_weights()])
    changed = pooled_net()
    changed.set_weights(model.get_weights())
    for name in names:
        close(explained(name, model), explained(name, changed))
    model.get_layer("late").activation = keras.activations.softplus
    model.trainable = False
    changed = pooled_net()
    changed.get_layer("late").activation = keras.activations.softplus
    changed.set_weights(model.get_weights())
    for name in names:
        close(explained(name, model), explained(name, changed))


def test_an_exchanged_layer_shows():
    model = pooled_net()
    before = explained("grad_cam", model, relu=False)
    model.pop()
    model.add(dense(4, "softmax", name="head"))
    model.get_layer("head").set_weights([-w for w in pooled_net().get_layer("head").get_weights()])
    close(explained("grad_cam", model, relu=False), -before)


@pytest.mark.parametrize("name", [*BY_GRADIENT, "score_cam", "class_activation_map"])
def test_a_second_call_traces_nothing(name):
    calls = []

    def counted(x):
        calls.append(x)
        return ops.relu(x)

    model = sequential((6, 6, 2), conv(4, activation=counted, name="map"), average(), dense(3, "softmax"))
    explained(name, model, noise(3, 6, 6, 2), 0, relu=False)
    first = len(calls)
    for n in (3, 5, 1):
        explained(name, model, noise(n, 6, 6, 2), 1, relu=False, upsample=True, batch_size=4)
    assert 0 < first == len(calls)


@zero_or_not
def test_models_can_be_forgotten():
    """With their layers, for these have the weights."""
    references = []
    for name in CAMS:
        model = sequential((5, 5, 1), conv(2, name="map"), average(), dense(2, "softmax"))
        explained(name, model, noise(1, 5, 5, 1), 0)
        references += [(name, weakref.ref(model)), (name, weakref.ref(model.get_layer("map")))]
    del model
    gc.collect()
    assert len(references) == 2 * len(CAMS) and {name for name, reference in references if reference()} == set()
