"""Class activation maps against plain loops in float64, the papers' equations, and models of every form."""

import functools
import gc
import json
import logging
import warnings
import weakref

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L
from keras import ops
from test_bad_input import Own, refused

from utils import cam
from utils.attributions import guided_backprop

F = {"dtype": "float64"}
PLUS_PLUS = functools.partial(cam.grad_cam_plus_plus, variant="paper")
AUTHORS = functools.partial(cam.grad_cam_plus_plus, variant="authors")
BY_GRADIENT = {
    "grad_cam": cam.grad_cam,
    "paper": PLUS_PLUS,
    "authors": AUTHORS,
    "hires_cam": cam.hires_cam,
    "layer_cam": cam.layer_cam,
}
OF_A_LAYER = BY_GRADIENT | {"score_cam": cam.score_cam, "guided_grad_cam": cam.guided_grad_cam}
METHODS = OF_A_LAYER | {"class_activation_map": cam.class_activation_map}

each_method = pytest.mark.parametrize("name", METHODS)
# methods by gradients differ in their weights alone
each_kind = pytest.mark.parametrize("name", ["grad_cam", "score_cam", "guided_grad_cam", "class_activation_map"])
zero_or_not = pytest.mark.filterwarnings("ignore:.*maps are zero everywhere")


def noise(*shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape)


def randomize(model, seed=0):
    """Random weights and biases; returns the model."""
    generator = np.random.default_rng(seed)
    for weight in model.weights:
        scale = 0.3 if len(weight.shape) < 2 else 1 / np.sqrt(np.prod(weight.shape[:-1]))
        value = scale * generator.standard_normal(weight.shape)
        weight.assign(1 + value**2 if weight.name in ("gamma", "moving_variance") else value)
    return model


def conv(filters, size=3, activation="relu", dtype="float64", **how):
    return L.Conv2D(filters, size, activation=activation, dtype=dtype, **how)


def dense(units, activation=None, dtype="float64", **how):
    return L.Dense(units, activation=activation, dtype=dtype, **how)


def average(dtype="float64", **how):
    return L.GlobalAveragePooling2D(dtype=dtype, **how)


def chain(shape, *layers, dtype="float64", seed=0):
    return randomize(keras.Sequential([keras.Input(shape, dtype=dtype), *layers]), seed)


SHAPE = (11, 9, 2)


@functools.cache
def deep(activation="relu"):
    """A network with a hidden layer above its feature maps `early`, 9 x 7 x 5, and `late`, 3 x 2 x 6."""
    features = [conv(5, name="early"), L.MaxPooling2D(2, **F), conv(6, 2, name="late")]
    return chain(SHAPE, *features, L.Flatten(**F), dense(8, activation), dense(4, "softmax"))


def pooled(head="softmax", dtype="float64", shape=SHAPE, classes=4):
    """A network that ends in a global average and a dense layer, both feature maps as above."""
    how = {"dtype": dtype}
    features = [conv(5, name="early", **how), L.MaxPooling2D(2, **how), conv(6, 2, name="late", **how)]
    return chain(shape, *features, average(**how), dense(classes, head, name="head", **how), dtype=dtype)


@functools.cache
def network():
    """One of these, for tests that leave it as it is."""
    return pooled()


X, TARGET = noise(3, *SHAPE), np.array([3, 0, 3])  # these maps have positive values


def explained(name, model, x=X, target=TARGET, **how):
    """The maps of a method by its name, silent."""
    how = how if name == "class_activation_map" else {"verbose": False} | how
    return METHODS[name](model, x, target, **how)


def close(ours, expected, tolerance=1e-10):
    scale = np.abs(expected).max()
    assert ours.shape == expected.shape and scale > 0
    assert np.abs(ours - expected).max() <= tolerance * scale


# --- the oracle: one image, one place and one channel at a time


def halves(model, name):
    """A chain as a model to the output of the layer `name`, and one from there to the logits, of layers of its own."""
    place = [layer.name for layer in model.layers].index(name) + 1
    lower = keras.Model(model.inputs[0], model.get_layer(name).output)
    copies = [type(layer).from_config(layer.get_config()) for layer in model.layers[place:]]
    copies[-1].activation = keras.activations.linear
    upper = keras.Sequential([keras.Input(lower.output.shape[1:], **F), *copies])
    upper.set_weights([value for layer in model.layers[place:] for value in layer.get_weights()])
    return lower, upper


def maps_and_gradients(model, name, x=X, target=TARGET):
    """Feature maps A and gradients g of the logits, `[n, height, width, channels]`."""
    lower, upper = halves(model, name)
    A = lower(x)
    with tf.GradientTape() as tape:
        tape.watch(A)
        score = tf.gather(upper(A), target, axis=1, batch_dims=1)
    return A.numpy(), tape.gradient(score, A).numpy()


def slow_map(method, A, g):
    """The map of one image, signed."""
    height, width, channels = A.shape
    places, result = list(np.ndindex(height, width)), np.zeros((height, width))
    for k in range(channels):
        total, alpha, w = sum(A[p][k] for p in places), np.zeros((height, width)), 0
        for p in places:
            below = 2 * g[p][k] ** 2 + g[p][k] ** 3 * total
            alpha[p] = g[p][k] ** 2 / below if below else 0
        for p in places:
            if method == "grad_cam":
                w += g[p][k] / (height * width)
            elif method == "paper":
                w += alpha[p] * max(0, g[p][k])
            elif method == "authors" and alpha.any():
                w += alpha[p] / alpha.sum() * max(0, g[p][k])
        for p in places:
            if method == "hires_cam":
                w = g[p][k]
            elif method == "layer_cam":
                w = max(0, g[p][k])
            result[p] += w * A[p][k]
    return result


def slow_maps(method, A, g):
    return np.stack([slow_map(method, *one) for one in zip(A, g)])


def enlarged(M, size):
    """A map in another size: bilinear, half-pixel centres, clamped at the edges."""
    result = np.zeros(size)
    for place in np.ndindex(*size):
        at = [min(max((p + 0.5) * n / m - 0.5, 0), n - 1) for p, n, m in zip(place, M.shape, size)]
        low = [int(a) for a in at]
        for corner in np.ndindex(2, 2):
            share = np.prod([a - i if c else 1 - a + i for a, i, c in zip(at, low, corner)])
            result[place] += share * M[tuple(min(i + c, n - 1) for i, c, n in zip(low, corner, M.shape))]
    return result


def all_enlarged(maps, size):
    return np.stack([enlarged(M, size) for M in maps])


@zero_or_not
@pytest.mark.parametrize("layer", ["early", "late"])
@pytest.mark.parametrize("name", BY_GRADIENT)
def test_maps_by_gradients_are_plain_sums(name, layer):
    A, g = maps_and_gradients(deep(), layer)
    for counterfactual in (False, True):
        expected = slow_maps(name, A, -g if counterfactual else g)
        how = {"layer": layer, "counterfactual": counterfactual}
        signed = explained(name, deep(), relu=False, **how)
        assert signed.dtype == "float64"
        close(signed, expected)
        close(explained(name, deep(), relu=True, **how), np.maximum(expected, 0))


def test_gradients_are_differences():
    lower, upper = halves(deep(), "late")
    A = lower(X).numpy()
    g = np.zeros_like(A)
    for n, one in enumerate(A):
        nudges = 1e-6 * np.eye(one.size).reshape(-1, *one.shape)
        up, down = (upper(one + sign * nudges).numpy()[:, TARGET[n]] for sign in (1, -1))
        g[n] = ((up - down) / 2e-6).reshape(one.shape)
    for name in BY_GRADIENT:
        close(explained(name, deep(), layer="late", relu=False), slow_maps(name, A, g), 1e-7)


def test_class_activation_map_is_a_plain_sum():
    model = pooled()
    A, (kernel, _) = halves(model, "late")[0](X).numpy(), model.get_layer("head").get_weights()
    expected = np.zeros(A.shape[:3])
    for n, i, j, k in np.ndindex(*A.shape):
        expected[n, i, j] += kernel[k, TARGET[n]] * A[n, i, j, k]
    close(cam.class_activation_map(model, X, TARGET), expected)
    close(cam.class_activation_map(model, X, TARGET, relu=True), np.maximum(expected, 0))


@pytest.mark.parametrize("layer", ["early", "late"])
def test_score_cam_is_a_plain_sum(layer):
    lower, upper = halves(deep(), layer)
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
    close(explained("score_cam", deep(), layer=layer), np.stack(expected))


def test_guided_grad_cam_is_a_product():
    maps = np.maximum(slow_maps("grad_cam", *maps_and_gradients(deep(), "late")), 0)
    expected = guided_backprop(deep(), X, TARGET) * all_enlarged(maps, SHAPE[:2])[..., None]
    close(explained("guided_grad_cam", deep(), layer="late"), expected)


def test_no_target_means_the_predicted_class():
    predicted = deep()(X).numpy().argmax(1)
    assert len(set(predicted)) > 1
    how = {"layer": "late", "relu": False, "verbose": False}
    assert np.array_equal(cam.grad_cam(deep(), X, **how), cam.grad_cam(deep(), X, predicted, **how))


# --- class activation map and Grad-CAM


def test_class_activation_map_is_grad_cam_times_the_number_of_places():
    model = pooled()
    ratio = cam.class_activation_map(model, X, TARGET) / explained("grad_cam", model, relu=False)
    assert np.abs(ratio - 3 * 2).max() < 1e-6


def test_class_activation_map_averages_to_the_logit():
    model = pooled(head=None)
    bias = model.get_layer("head").get_weights()[1]
    close(cam.class_activation_map(model, X, TARGET).mean((1, 2)) + bias[TARGET], model(X).numpy()[range(3), TARGET])


def test_hires_cam_sums_to_the_score_without_biases():
    model = deep()
    lower, upper = halves(model, "late")
    for layer in upper.layers:
        layer.set_weights([value * (value.ndim > 1) for value in layer.get_weights()])
    whole = keras.Sequential([keras.Input(SHAPE, **F), lower, upper])
    R = explained("hires_cam", whole, layer="late", relu=False)
    close(R.sum((1, 2)), whole(X).numpy()[range(3), TARGET])


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
    model = deep(activation)
    lower, upper = halves(model, "late")
    A, scores = lower(X).numpy(), upper(lower(X)).numpy()[range(3), TARGET]
    papers = np.stack([papers_map(upper, *one) for one in zip(A, TARGET)])
    return explained("paper", model, layer="late", relu=False), papers, np.exp(scores)[:, None, None]


def test_grad_cam_plus_plus_is_the_papers_up_to_the_exponential_of_the_score():
    ours, papers, factor = ours_and_papers("relu")
    close(factor * ours, papers, 1e-8)


def test_powers_of_the_gradient_are_the_derivatives_only_where_the_network_is_piecewise_linear():
    ours, papers, factor = ours_and_papers("tanh")
    close(ours, slow_maps("paper", *maps_and_gradients(deep("tanh"), "late")))
    ours, papers = (R / np.abs(R).max((1, 2), keepdims=True) for R in (factor * ours, papers))
    assert np.abs(ours - papers).max() > 1e-2


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


# --- the size of the images


@pytest.mark.parametrize("size", [True, (30, 17), (3, 2), (2, 1), (1, 40), [np.int64(7), 7]], ids=str)
def test_upsampled_maps(size):
    R = explained("grad_cam", deep(), layer="late", relu=False)
    ours = explained("grad_cam", deep(), layer="late", relu=False, upsample=size)
    size = SHAPE[:2] if size is True else tuple(size)
    assert ours.shape == (3, *size) and ours.dtype == "float64"
    close(ours, all_enlarged(R, size), 1e-12)
    close(ours, np.stack([cv2.resize(M, size[::-1], interpolation=cv2.INTER_LINEAR) for M in R]), 1e-6)


@pytest.mark.parametrize("shape", [(1, 5), (4, 1), (1, 1)], ids=str)
def test_maps_of_one_row_or_column(shape):
    x = noise(2, *shape, 3)
    model = chain((*shape, 3), conv(4, 1, name="map"), average(), dense(2))
    how = {"x": x, "target": 1, "layer": "map", "relu": False}
    close(
        explained("grad_cam", model, upsample=(6, 7), **how), all_enlarged(explained("grad_cam", model, **how), (6, 7))
    )


@each_method
def test_each_method_upsamples(name):
    if name != "guided_grad_cam":  # its size is that of the images
        R = explained(name, network(), relu=False)
        close(explained(name, network(), relu=False, upsample=(5, 8)), all_enlarged(R, (5, 8)), 1e-12)


@functools.cache
def strided():
    return chain((16, 16, 1), conv(4, strides=2, padding="same", use_bias=False), average(), dense(3))


@each_kind
def test_a_shifted_image_has_a_shifted_map(name):
    model, x = strided(), np.zeros((1, 16, 16, 1))
    x[:, 5:10, 4:9] = noise(1, 5, 5, 1)
    how = {} if name == "guided_grad_cam" else {"upsample": True}
    here, there = (explained(name, model, image, 1, **how) for image in (x, np.roll(x, (2, 4), (1, 2))))
    assert here.any() and not here[:, :2].any() and not here[:, -3:].any()
    close(there, np.roll(here, (2, 4), (1, 2)))


# --- the same network in other forms


def with_weights(model):
    model.set_weights(pooled().get_weights())
    return model


def features():
    return [conv(5, name="early"), L.MaxPooling2D(2, **F), conv(6, 2, name="late")]


def functional(head, *layers):
    x = y = keras.Input(SHAPE, **F)
    for layer in layers:
        y = layer(y)
    return with_weights(keras.Model(x, head(y)))


def sequential(*layers):
    return with_weights(keras.Sequential([keras.Input(SHAPE, **F), *layers]))


def backbone(kind=keras.Sequential):
    inner = keras.Sequential([keras.Input(SHAPE, **F), *features()], name="backbone")
    return inner if kind is keras.Sequential else keras.Model(inner.inputs[0], inner.outputs[0], name="backbone")


def nested_twice():
    outer = keras.Sequential([keras.Input(SHAPE, **F), backbone(), average()], name="pooled")
    return functional(dense(4, "softmax"), outer)


FORMS = {
    "logits": lambda: sequential(*features(), average(), dense(4)),
    "functional": lambda: functional(dense(4, "softmax"), *features(), average()),
    "softmax layer": lambda: sequential(*features(), average(), dense(4), L.Softmax(**F)),
    "softmax as an activation layer": lambda: sequential(*features(), average(), dense(4, L.Softmax(**F))),
    "operation": lambda: functional(lambda y: ops.softmax(dense(4)(y)), *features(), average()),
    "sigmoid": lambda: sequential(*features(), average(), dense(4, "sigmoid")),
    "dropout before the head": lambda: sequential(*features(), average(), L.Dropout(0.5, **F), dense(4)),
    "flattened average": lambda: sequential(*features(), average(keepdims=True), L.Flatten(**F), dense(4)),
    "nested": lambda: sequential(backbone(), average(), dense(4, "softmax")),
    "nested functional": lambda: functional(dense(4, "softmax"), backbone(keras.Model), average()),
    "nested twice": nested_twice,
    "nested with its head": lambda: sequential(
        keras.Sequential([keras.Input(SHAPE, **F), *features(), average(), dense(4, "softmax")])
    ),
    "a batch of fixed size": lambda: with_weights(
        keras.Sequential([keras.Input(SHAPE, batch_size=2, **F), *features(), average(), dense(4)])
    ),
    "images of any size": lambda: with_weights(
        keras.Sequential([keras.Input((None, None, 2), **F), *features(), average(), dense(4)])
    ),
}


@functools.cache
def in_one_form(name):
    return explained(name, network())


@functools.cache
def nested():
    return FORMS["nested"]()


@pytest.mark.parametrize("form", FORMS)
def test_the_form_of_a_network_does_not_matter(form):
    model = FORMS[form]()
    for name in ("grad_cam", "class_activation_map"):
        close(explained(name, model, X[:1], TARGET[:1]), in_one_form(name)[:1])


def test_a_layer_that_stands_behind_the_head_and_before_it():
    shared = L.Dropout(0.5, **F)
    model = functional(lambda y: shared(dense(4, "softmax")(shared(y))), *features(), average())
    close(explained("grad_cam", model), in_one_form("grad_cam"))


@each_kind
def test_a_nested_network_is_as_a_flat_one(name):
    close(explained(name, nested()), in_one_form(name))


@each_method
def test_the_batch_size_does_not_matter(name):
    x, target = np.concatenate([X, X, X]), np.tile(TARGET, 3)
    first, *others = (explained(name, network(), x, target, batch_size=size) for size in (1, 7, 64, None))
    for other in others:
        close(other, first)


def test_a_layer_by_its_name_by_itself_or_as_the_end_of_its_model(capsys):
    twice = nested_twice()
    for model, inner in ((nested(), nested().layers[0]), (twice, twice.get_layer("pooled").layers[0])):
        for layer in ("late", inner.get_layer("late"), inner, "backbone"):
            close(explained("grad_cam", model, layer=layer), in_one_form("grad_cam"))
    early = inner.get_layer("early")
    close(explained("grad_cam", twice, layer=early), explained("grad_cam", network(), layer="early"))
    assert capsys.readouterr().out == ""


def test_layers_of_one_name_in_two_models_are_told_apart_by_themselves():
    x = keras.Input(SHAPE, **F)
    one, other = backbone(), keras.Sequential([keras.Input(SHAPE, **F), *features()], name="other")
    model = randomize(keras.Model(x, dense(4)(average()(one(x) - other(x)))))
    with refused("'late' stands in several places", "pass the layer itself"):
        explained("grad_cam", model, layer="late")
    for inner in (one, other):
        same = explained("grad_cam", model, X[:1], 0, layer=inner, relu=False)
        close(explained("grad_cam", model, X[:1], 0, layer=inner.get_layer("late"), relu=False), same)


@pytest.mark.parametrize("name", OF_A_LAYER)
def test_the_last_feature_map_is_named_in_print(name, capsys):
    model = network()
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


# --- networks of keras.applications

LAST = {  # the last feature map
    "VGG16": "block5_pool",
    "ResNet50V2": "post_relu",
    "MobileNetV3Small": "activation",
    "DenseNet121": "pool3_relu",
    "EfficientNetV2B0": "block5a_project_bn",
    "ConvNeXtTiny": "convnext_tiny_stage_2_block_0_layer_scale",
}
HALF = ("DenseNet121", "EfficientNetV2B0", "ConvNeXtTiny")  # these are deep: up to that layer is enough


@pytest.mark.parametrize("name", LAST)
def test_a_network_of_keras_under_an_average_and_a_dense_layer(name, capsys):
    """The gradient is the kernel of the dense layer, divided by the number of places."""
    inner = getattr(keras.applications, name)(weights=None, include_top=False, input_shape=(64, 64, 3))
    if name in HALF:
        inner = keras.Model(inner.inputs[0], inner.get_layer(LAST[name]).output)
    generator = np.random.default_rng(0)
    for weight in inner.weights:
        if weight.name in ("moving_mean", "beta", "bias"):
            weight.assign(0.1 * generator.standard_normal(weight.shape))
    head = L.Dense(3, "softmax")
    model = keras.Sequential([keras.Input((64, 64, 3)), inner, L.GlobalAveragePooling2D(), L.Dropout(0.2), head])
    x = generator.random((1, 64, 64, 3), "float32")
    A, kernel = inner(x, training=False).numpy().astype("float64"), head.kernel.numpy()
    _, height, width, channels = A.shape
    signed = A @ kernel[:, 1] / (height * width)
    if signed.max() < 0:
        head.kernel.assign(-kernel)
        signed = -signed
    close(cam.grad_cam(model, x, 1), np.maximum(signed, 0), 1e-5)
    printed = capsys.readouterr().out
    assert f"the feature map of '{LAST[name]}" in printed and f"{height} x {width} x {channels}." in printed
    assert height * width > 1


# --- inputs and precision


def test_images_of_one_channel():
    model, x = pooled(shape=(11, 9, 1)), noise(3, 11, 9, 1)
    A, g = maps_and_gradients(model, "late", x)
    close(explained("grad_cam", model, x, relu=False), slow_maps("grad_cam", A, g))
    assert explained("guided_grad_cam", model, x, [3, 0, 1]).shape == x.shape


@functools.cache
def in_single_precision():
    return pooled(dtype="float32")


@each_kind
def test_single_precision(name):
    ours = explained(name, in_single_precision(), X.astype("float32"))
    assert ours.dtype == "float32"
    close(ours, in_one_form(name), 1e-4)


def half_precision(dtype, size, scale):
    """A network with maps of `size`; `scale` is that of its scores."""
    how = {"dtype": dtype}
    layers = [conv(8, padding="same", name="early", **how), conv(8, padding="same", **how), average(**how)]
    model = chain((size, size, 1), *layers, dense(3, dtype="float32", name="head"), dtype="float32")
    model.get_layer("head").kernel.assign(scale * model.get_layer("head").kernel)
    return model


@pytest.mark.parametrize(("size", "scale"), [(16, 1), (96, 0.01)], ids=["large gradients", "small gradients"])
@pytest.mark.parametrize("name", ["grad_cam", "paper"])
def test_mixed_precision(name, size, scale):
    """Gradients of an average over many places are below what half precision can hold."""
    x = np.random.default_rng(0).random((1, size, size, 1), "float32")
    how = {"x": x, "target": 1, "layer": "early", "relu": False}
    half, whole = (explained(name, half_precision(p, size, scale), **how) for p in ("mixed_float16", "float32"))
    assert half.dtype == "float32"
    close(half, whole, 2e-2)


@functools.cache
def with_words(dtype="int32"):
    """An image and five words: features times the mean of the words' vectors. Grad-CAM is known by hand."""
    image, words = keras.Input(SHAPE, name="image", **F), keras.Input((5,), dtype=dtype, name="words")
    vectors = L.GlobalAveragePooling1D(name="vector", **F)(L.Embedding(9, 6, **F)(words))
    y = average()(keras.Sequential(features(), name="backbone")(image))
    return randomize(keras.Model([image, words], dense(4, "softmax", name="head")(L.Multiply(**F)([y, vectors]))))


WORDS = np.random.default_rng(0).integers(0, 9, (3, 5))


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


def test_whole_numbers_are_watched_silently(caplog):
    with caplog.at_level(logging.WARNING, logger="tensorflow"):
        explained("grad_cam", with_words(), [X, WORDS], relu=False)
    assert not caplog.records


@each_kind
def test_no_images(name):
    shape = SHAPE if name == "guided_grad_cam" else (3, 2)
    for target in (0, None, []):
        assert explained(name, in_single_precision(), X[:0], target).shape == (0, *shape)


@functools.cache
def of_any_size():
    how = {"dtype": "float32"}
    return chain((None, None, 1), conv(2, **how), average(**how), dense(2, **how), **how)


@each_kind
def test_no_images_of_any_size(name):
    assert explained(name, of_any_size(), np.zeros((0, 5, 5, 1)), 0).shape[0] == 0


@each_method
def test_one_image(name):
    close(explained(name, network(), X[:1], TARGET[:1]), in_one_form(name)[:1])


@pytest.mark.parametrize("target", [2, np.int32(2), np.array(2), tf.constant(2), [2, 2, 2], np.full(3, 2, "uint8")])
def test_targets(target):
    ours, expected = (explained("grad_cam", network(), target=c, relu=False) for c in (target, [2] * 3))
    assert np.array_equal(ours, expected)


# --- odd networks: (model, the tensor of the layer, the layer), against a tape on the model as it is


def after(*layers, shape=(6, 6, 2)):
    """Input, the output of a convolution `map`, and what it becomes."""
    x = keras.Input(shape, **F)
    A = y = conv(4, activation=None, name="map")(x)
    for layer in layers:
        y = layer(y)
    return x, A, y


def scored(x, A, y, layer="map"):
    return randomize(keras.Model(x, dense(3)(L.Flatten(**F)(y)))), A, layer


def split_in_two(A):
    one, other = ops.split(A, 2, axis=-1)
    return one * other


def attended(A):
    tokens = L.Reshape((16, 4), **F)(A)
    return L.MultiHeadAttention(2, 3, **F)(tokens, tokens)


def masked_softmax(A):
    return L.Softmax(**F)(A, mask=ops.greater(A, 0))


def difference():
    """An inner model of two inputs, whose names are not in the order of the alphabet."""
    a, b = keras.Input((4, 4, 4), name="minuend", **F), keras.Input((4, 4, 4), name="ablation", **F)
    return keras.Model([a, b], a - 2 * ops.square(b))


def by_names(A):
    return difference()({"minuend": A, "ablation": A + 1})


def by_names_and_more():
    x, A, y = after()
    return scored(x, A, difference()({"minuend": A, "ablation": A + 1, "a third": ops.relu(A)}))


def stopped_in_part(A):
    return A * ops.stop_gradient(ops.relu(A))


def residual():
    x, A, y = after()
    block = keras.Model(z := keras.Input((4, 4, 4), **F), conv(4, padding="same")(z) + z)
    return scored(x, A, block(block(y)))


def one_output_of_two():
    x, A, y = after()
    inner = keras.Model(z := keras.Input((4, 4, 4), **F), [conv(3, name="unused")(z), ops.square(z)])
    return scored(x, A, inner(y)[1])


ODD = {
    "Lambda": lambda: scored(*after(L.Lambda(lambda t: t * ops.abs(t), **F))),
    "several outputs": lambda: scored(*after(split_in_two)),
    "attention": lambda: scored(*after(attended)),
    "Permute": lambda: scored(*after(L.Permute((3, 1, 2), **F), L.ReLU(**F))),
    "residual block, used twice": residual,
    "one output of two": one_output_of_two,
    "time distributed": lambda: scored(*after(L.TimeDistributed(dense(3, "tanh", name="each"), **F))),
    "dropout that was told to train": lambda: scored(*after(lambda A: L.Dropout(0.5, **F)(A, training=True))),
    "part without gradient": lambda: scored(*after(stopped_in_part)),
    "condition first": lambda: scored(*after(lambda A: A + ops.where(ops.greater(A, 0), A, 0.1 * A))),
    "whole numbers first": lambda: scored(*after(lambda A: A + ops.cast(ops.greater(A, 0), "int32") * A)),
    "single precision first": lambda: scored(*after(lambda A: A + ops.cast(ops.greater(A, 0), "float32") * A)),
    "mask": lambda: scored(*after(masked_softmax)),
    "inner model called by names": lambda: scored(*after(by_names)),
    "inner model called by names, and more": by_names_and_more,
}


@pytest.mark.parametrize("name", ODD)
def test_odd_networks(name):
    (model, tensor, layer), x = ODD[name](), noise(1, 6, 6, 2)
    with tf.GradientTape() as tape:
        points = tf.constant(x)
        tape.watch(points)
        A, scores = keras.Model(model.inputs, [tensor, model.outputs[0]])(points, training=False)
        score = scores[:, 1]
    expected = slow_maps("grad_cam", A.numpy(), tape.gradient(score, A).numpy())
    close(explained("grad_cam", model, x, 1, layer=layer, relu=False), expected)


def test_an_embedding_that_masks_what_is_empty():
    image, words = keras.Input((6, 6, 2), name="image", **F), keras.Input((5,), dtype="int32", name="words")
    vectors = L.GlobalAveragePooling1D(**F)(L.Embedding(9, 4, mask_zero=True, **F)(words))
    A = conv(4, name="map")(image)
    model = randomize(keras.Model([image, words], dense(3, name="head")(L.Multiply(**F)([average()(A), vectors]))))
    x, short = noise(1, 6, 6, 2), np.array([[3, 5, 0, 0, 0]])
    table, kernel = next(w.numpy() for w in model.weights if "embed" in w.path), model.get_layer("head").kernel.numpy()
    g = table[[3, 5]].mean(0) * kernel[:, 1] / 16
    expected = keras.Model(image, A)(x).numpy() @ g
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        close(explained("grad_cam", model, [x, short], 1, relu=False), expected)


def test_one_score_of_a_sigmoid():
    model, x = chain((6, 6, 2), conv(4, name="map"), average(), dense(1, "sigmoid", name="head")), noise(2, 6, 6, 2)
    A, p = keras.Model(model.inputs[0], model.get_layer("map").output)(x).numpy(), model(x).numpy()[..., None]
    signed = A @ model.get_layer("head").kernel.numpy()[:, 0] / 16
    close(explained("grad_cam", model, x, None, relu=False), signed)
    close(explained("grad_cam", model, x, None, relu=False, explain="output"), p * (1 - p) * signed)


def test_the_sigmoid_of_an_inner_model_of_two_inputs_is_a_head_too():
    x, A, y = after(average())
    a, b = keras.Input((4,), **F), keras.Input((4,), **F)
    logits, probabilities = (
        randomize(keras.Model(x, keras.Model([a, b], dense(3, head)(a * b))([y, y]))) for head in (None, "sigmoid")
    )
    images = noise(2, 6, 6, 2)
    expected = explained("grad_cam", logits, images, 1, relu=False)
    close(explained("grad_cam", probabilities, images, 1, relu=False), expected)


def test_a_feature_map_behind_a_stopped_gradient():
    """A frozen network: no gradient flows below the feature map, but there is one at the feature map."""
    x, _, y = after(ops.stop_gradient, L.ReLU(name="frozen", **F), average())
    model, images = randomize(keras.Model(x, dense(3, name="head")(y))), noise(2, 6, 6, 2)
    A = keras.Model(x, model.get_layer("frozen").output)(images).numpy()
    expected = A @ model.get_layer("head").kernel.numpy()[:, 1] / 16
    close(explained("grad_cam", model, images, 1, layer="frozen", relu=False), expected)


def test_the_default_is_a_feature_map_that_the_score_depends_on(capsys):
    z = keras.Input((6, 6, 2), **F)
    first = conv(4, name="first")(z)
    pyramid = keras.Model(z, [first, conv(4, name="second")(first)])
    x = keras.Input((6, 6, 2), **F)
    model, images = randomize(keras.Model(x, dense(3)(average()(pyramid(x)[0])))), noise(2, 6, 6, 2)
    expected = explained("grad_cam", model, images, 1, layer="first", relu=False)
    close(cam.grad_cam(model, images, 1, relu=False), expected)
    assert "'first'" in capsys.readouterr().out


def test_an_output_that_is_one_of_several():
    x, A, y = after(average(), dense(6, name="head"))
    model, images = randomize(keras.Model(x, ops.split(y, 2, axis=1)[0])), noise(2, 6, 6, 2)
    with refused("GlobalAveragePooling2D", "grad_cam needs no such end"):
        explained("class_activation_map", model, images, 1)


def test_a_quantized_head():
    model = pooled(head=None, dtype="float32")
    x = X.astype("float32")
    before = [explained(name, model, x, relu=False) for name in ("grad_cam", "class_activation_map")]
    model.get_layer("head").quantize("int8")
    close(explained("grad_cam", model, x, relu=False), before[0], 0.1)
    try:
        close(explained("class_activation_map", model, x), before[1], 0.1)
    except ValueError as error:  # right or refused
        assert "quantized" in str(error)


# --- what a call leaves behind


def layers_of(model):
    return model._flatten_layers(include_self=True)


def state(model, x):
    return {
        "weights": [weight.tobytes() for weight in model.get_weights()],
        "configuration": json.dumps(model.get_config(), default=str),
        "outputs": model(x).numpy().tobytes(),
        "trainable": [layer.trainable for layer in layers_of(model)],
        "records": [(len(layer._inbound_nodes), len(layer._outbound_nodes)) for layer in layers_of(model)],
        "compiled": (model.compiled, id(model.optimizer), model.loss),
        "layers": [id(layer) for layer in layers_of(model)],
    }


@pytest.mark.parametrize("form", ["nested", "softmax layer"])
def test_the_model_stays_as_it_is(form):
    model = FORMS[form]()
    model.compile("sgd", "mse")
    model.layers[-1].trainable = False
    before = state(model, X)
    for name in METHODS:
        explained(name, model, X[:1], TARGET[:1])
    assert state(model, X) == before


def test_later_changes_show():
    model, names = pooled(), ("grad_cam", "score_cam", "class_activation_map")
    for name in names:
        explained(name, model)
    model.set_weights([1.5 * weight for weight in model.get_weights()])
    changed = pooled()
    changed.set_weights(model.get_weights())
    for name in names:
        close(explained(name, model), explained(name, changed))
    model.get_layer("late").activation = keras.activations.softplus
    model.trainable = False
    changed = pooled()
    changed.get_layer("late").activation = keras.activations.softplus
    changed.set_weights(model.get_weights())
    for name in names:
        close(explained(name, model), explained(name, changed))


def test_an_exchanged_layer_shows():
    model = pooled()
    before = explained("grad_cam", model, relu=False)
    model.pop()
    model.add(dense(4, "softmax", name="head"))
    model.get_layer("head").set_weights([-w for w in pooled().get_layer("head").get_weights()])
    close(explained("grad_cam", model, relu=False), -before)


@pytest.mark.parametrize("name", [*BY_GRADIENT, "score_cam", "class_activation_map"])
def test_a_second_call_traces_nothing(name):
    calls = []

    def counted(x):
        calls.append(x)
        return ops.relu(x)

    model = chain((6, 6, 2), conv(4, activation=counted, name="map"), average(), dense(3, "softmax"))
    explained(name, model, noise(3, 6, 6, 2), 0, relu=False)
    first = len(calls)
    for n in (3, 5, 1):
        explained(name, model, noise(n, 6, 6, 2), 1, relu=False, upsample=True, batch_size=4)
    assert 0 < first == len(calls)


@zero_or_not
def test_models_can_be_forgotten():
    """With their layers, for these have the weights."""
    references = []
    for name in [*METHODS, *METHODS, *BY_GRADIENT]:
        model = chain((5, 5, 1), conv(2, name="map"), average(), dense(2, "softmax"))
        explained(name, model, noise(1, 5, 5, 1), 0)
        references += [(name, weakref.ref(model)), (name, weakref.ref(model.get_layer("map")))]
    del model
    gc.collect()
    assert len(references) > 40 and {name for name, reference in references if reference()} == set()


# --- maps that are zero everywhere


@functools.cache
def half_dead():
    """The second of two images has no feature that is on: the bias is below 0, and the image black."""
    model = chain((6, 6, 1), conv(4, use_bias=False), average(), dense(3))
    return model, np.concatenate([noise(1, 6, 6, 1), np.zeros((1, 6, 6, 1))])


@each_method
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
        METHODS[name](model, x[1:], 0, **how)
    assert seen[0].filename == __file__


@pytest.mark.parametrize("name", ["grad_cam", "score_cam", "class_activation_map"])
def test_a_signed_map_that_is_zero_everywhere_is_announced(name):
    model, x = half_dead()
    with pytest.warns(UserWarning, match=f"{name}: 1 of 2 maps are zero everywhere, the first for image 1"):
        explained(name, model, x, 0, relu=False)


# --- refusals


@functools.cache
def a_layer_twice():
    twice = conv(2, padding="same", name="twice")
    x = keras.Input(SHAPE, **F)
    y = conv(2, padding="same", name="once")(twice(twice(x)))
    return randomize(keras.Model(x, dense(4)(average()(y)))), twice


@functools.cache
def without_feature_maps():
    return chain((5,), dense(4), dense(4, name="last"))


@functools.cache
def channels_first():
    x, first = keras.Input(SHAPE, **F), {"data_format": "channels_first"}
    y = L.Permute((3, 1, 2), **F)(conv(4, name="map")(x))
    return keras.Model(x, dense(4)(L.Flatten(**F)(L.MaxPooling2D(2, name="first", **first, **F)(y))))


@functools.cache
def hidden_softmax():
    x, _, y = after(average(), dense(3), L.Lambda(lambda t: ops.softmax(t), **F))
    return randomize(keras.Model(x, y))


@functools.cache
def mixed():
    x, _, y = after(lambda A: A - ops.mean(A, 0, keepdims=True), L.ReLU(**F), average())
    return randomize(keras.Model(x, dense(3)(y)))


@pytest.mark.parametrize("name", ["grad_cam", "paper", "score_cam", "guided_grad_cam"])
class TestEveryMethodRefuses:
    @pytest.mark.parametrize("layer", ["nowhere", "head", 0, ["late"], b"late"], ids=str)
    def test_what_is_no_feature_map(self, name, layer):
        with refused(
            repr(layer), "no feature map", "Expected a layer of", "[n, height, width, channels]", "early", "late"
        ):
            explained(name, network(), layer=layer)

    def test_a_layer_of_another_model(self, name):
        with refused("'late'", "Expected a layer of"):
            explained(name, network(), layer=deep().get_layer("late"))

    def test_a_layer_in_several_places(self, name):
        model, twice = a_layer_twice()
        for layer in ("twice", twice):
            with refused("'twice' stands in several places", "Expected a layer of", "once"):
                explained(name, model, layer=layer)

    def test_a_network_without_feature_maps(self, name):
        with refused("no feature map", "[n, height, width, channels]", "there is none"):
            explained(name, without_feature_maps(), noise(3, 5), 0)

    def test_channels_first(self, name):
        with refused("'first' has channels first", "Expected: channels last"):
            explained(name, channels_first(), target=0, layer="map")

    def test_probabilities_whose_softmax_cannot_be_seen(self, name):
        for _ in range(2):
            with refused("look like probabilities", "explain='output'"):
                explained(name, hidden_softmax(), noise(2, 6, 6, 2), 0)

    def test_images_that_are_mixed(self, name):
        with refused("mixes the images of a batch"):
            explained(name, mixed(), noise(3, 6, 6, 2), 0)

    def test_several_outputs(self, name):
        x, _, y = after(average())
        with refused("2 outputs", "keras.Model(inputs, outputs)"):
            explained(name, keras.Model(x, [dense(3)(y), dense(2)(y)]), noise(3, 6, 6, 2))

    def test_explain(self, name):
        with refused("Received: 'probability'", "Expected: 'logit' or 'output'"):
            explained(name, network(), explain="probability")


@each_method
class TestEveryMethod:
    def test_a_single_image(self, name):
        with refused("Received: shape (11, 9, 2)", "Expected: [n, 11, 9, 2]", "x[None]"):
            explained(name, network(), X[0])

    def test_wrong_channels(self, name):
        with refused("Received: shape (3, 11, 9, 1)", "Expected: [n, 11, 9, 2]"):
            explained(name, network(), X[..., :1])

    def test_numbers_that_are_not_finite(self, name):
        bad = X.copy()
        bad[1, 2, 3, 0] = np.nan
        with refused("finite", "Received: 1 values", "(1, 2, 3, 0)"):
            explained(name, network(), bad)

    def test_a_class_out_of_range(self, name):
        with refused("class", "Received", "Expected: a class index from 0 to 3"):
            explained(name, network(), target=4)

    def test_a_subclassed_model(self, name):
        with refused("subclassed (Own)", "Expected: a functional or Sequential model"):
            explained(name, Own())

    def test_a_subclassed_model_inside(self, name):
        x = keras.Input(SHAPE)
        with refused("subclassed (Own)", "Expected: a functional or Sequential model"):
            explained(name, keras.Model(x, dense(4, dtype="float32")(average("float32")(Own()(x)))))

    @pytest.mark.parametrize("batch_size", [0, -1, 2.5, True])
    def test_batch_size(self, name, batch_size):
        with refused("batch_size must be a whole number of at least 1", f"Received: {batch_size}"):
            explained(name, network(), batch_size=batch_size)

    @pytest.mark.parametrize("size", [1, 0, None, 5, (4,), (1, 2, 3), "big", np.array([4, 4])], ids=str)
    def test_what_is_no_size(self, name, size):
        if name != "guided_grad_cam":
            with refused("upsample must be True, False or (height, width)", "Received"):
                explained(name, network(), upsample=size)

    @pytest.mark.parametrize("size", [(0, 4), (4.0, 4), (-1, 4), (True, 4)], ids=str)
    def test_a_side_that_is_no_whole_number(self, name, size):
        if name != "guided_grad_cam":
            with refused("upsample must be a whole number of at least 1", "Received"):
                explained(name, network(), upsample=size)


def test_a_layer_that_the_score_does_not_depend_on():
    model, _, _ = one_output_of_two()
    for name in ("grad_cam", "paper", "layer_cam"):
        with refused("does not depend on 'unused'", "Choose another layer"):
            explained(name, model, noise(1, 6, 6, 2), 0, layer="unused")


@pytest.mark.parametrize("variant", ["Paper", "", None, 1, ["paper"]], ids=str)
def test_a_variant_that_there_is_not(variant):
    with refused("no such variant", f"Received: {variant!r}", "Expected: 'paper' or 'authors'"):
        cam.grad_cam_plus_plus(network(), X, TARGET, variant=variant)


NO_AVERAGE_AT_THE_END = {
    "flattened": lambda: [conv(4), L.Flatten(**F), dense(4)],
    "a hidden layer": lambda: [conv(4), average(), dense(5), dense(4)],
    "the maximum": lambda: [conv(4), L.GlobalMaxPooling2D(**F), dense(4)],
    "no dense layer": lambda: [conv(4), average()],
    "a norm between": lambda: [conv(4), average(), L.BatchNormalization(**F), dense(4)],
    "dense alone": lambda: [L.Flatten(**F), dense(4)],
}


@pytest.mark.parametrize("name", NO_AVERAGE_AT_THE_END)
def test_a_class_activation_map_needs_an_average_at_the_end(name):
    model = chain(SHAPE, *NO_AVERAGE_AT_THE_END[name]())
    with refused("ends in GlobalAveragePooling2D and one Dense layer", "Received", "grad_cam needs no such end"):
        cam.class_activation_map(model, X, TARGET)


def test_a_class_activation_map_of_a_relu():
    with refused("'head' has an activation", "no sum over places"):
        cam.class_activation_map(pooled("relu"), X, TARGET)


@pytest.mark.parametrize("channels", [4, 5])
def test_a_class_activation_map_of_channels_first(channels):
    """With as many channels as columns, shapes fit."""
    first = L.GlobalAveragePooling2D(data_format="channels_first", name="first", **F)
    model = chain((4, 4, 2), conv(channels, 1), L.Permute((3, 1, 2), **F), first, dense(3))
    with refused("'first' has channels first", "Expected: channels last"):
        cam.class_activation_map(model, noise(2, 4, 4, 2), 0)


class TestInputs:
    def test_score_cam_with_two(self):
        with refused("one input", "grad_cam"):
            explained("score_cam", with_words(), [X, WORDS])

    def test_guided_grad_cam_with_two(self):
        with refused("one input", "Received", "2 inputs"):
            explained("guided_grad_cam", with_words(), [X, WORDS])

    @pytest.mark.parametrize("x", [X, [X], [X, WORDS, WORDS], {"image": X}, {"image": X, "word": WORDS}], ids=type)
    def test_another_number(self, x):
        with refused("has 2 inputs", "Received", "Expected: a list of arrays for ['image', 'words']"):
            explained("grad_cam", with_words(), x)

    def test_lists_for_one_input(self):
        with refused("does not fit the input", "Received: shape (1, 3, 11, 9, 2)"):
            explained("grad_cam", network(), [X])

    def test_different_lengths(self):
        with refused("differ in length", "[3, 2]"):
            explained("grad_cam", with_words(), [X, WORDS[:2]])

    def test_fractions_where_whole_numbers_belong(self):
        with refused("'words'", "whole numbers (int32)", "Received: float64"):
            explained("grad_cam", with_words(), [X, WORDS / 2])

    @pytest.mark.parametrize("words", [WORDS + 256, WORDS - 300], ids=["too large", "too small"])
    def test_whole_numbers_that_do_not_fit(self, words):
        with refused("'words'", "int8", "Received"):
            explained("grad_cam", with_words("int8"), [X, words])

    def test_text(self):
        image, text = keras.Input((6, 6, 2), name="image"), keras.Input((1,), dtype="string", name="text")
        codes = L.Flatten()(L.StringLookup(vocabulary=["a", "b"], output_mode="one_hot")(text))
        features = average("float32")(conv(3, dtype="float32")(image))
        model = keras.Model([image, text], dense(3, dtype="float32")(L.Concatenate()([features, codes])))
        with refused("input", "string", "Expected"):
            explained("grad_cam", model, [noise(2, 6, 6, 2), np.array([["a"], ["b"]])], 0)


class TestImagesThatAreNotHeightWidthChannels:
    """Maps cannot be brought to the size of such images."""

    def refused(self, model, x):
        for name, how in (("grad_cam", {"upsample": True}), ("score_cam", {}), ("guided_grad_cam", {})):
            with refused("Expected"):
                explained(name, model, x, 0, **how)

    def test_without_channels(self):
        x = keras.Input((6, 6), **F)
        y = conv(4, name="map")(L.Reshape((6, 6, 1), **F)(x))
        self.refused(randomize(keras.Model(x, dense(3)(average()(y)))), noise(2, 6, 6))

    def test_rows_of_numbers(self):
        x = keras.Input((36,), **F)
        y = conv(4, name="map")(L.Reshape((6, 6, 1), **F)(x))
        self.refused(randomize(keras.Model(x, dense(3)(average()(y)))), noise(2, 36))

    def test_films(self):
        x = keras.Input((4, 6, 6, 2), **F)
        y = conv(4, name="map")(ops.mean(x, 1))
        self.refused(randomize(keras.Model(x, dense(3)(average()(y)))), noise(2, 4, 6, 6, 2))

    def test_channels_first_and_then_moved(self):
        """Shapes fit, but the map would be of the size channels x height."""
        x = keras.Input((2, 6, 8), **F)
        y = conv(4, name="map")(L.Permute((2, 3, 1), **F)(x))
        self.refused(randomize(keras.Model(x, dense(3)(average()(y)))), noise(2, 2, 6, 8))


def test_a_shared_network_has_no_last_feature_map():
    """Which of two images would the map be of?"""
    a, b = keras.Input(SHAPE, **F), keras.Input(SHAPE, **F)
    inner = backbone()
    both = L.Concatenate(**F)([average()(inner(a)), average()(inner(b))])
    model = randomize(keras.Model([a, b], dense(4)(both)))
    with refused("'late'", "several places"):
        explained("grad_cam", model, [X, X])
