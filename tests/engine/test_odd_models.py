"""Models as strangers bring them: sizes that are not known, other types, compiled otherwise than they compute."""

import keras
import numpy as np
import pytest
from keras import layers as L

from tests.helpers import F, noise, pixels, randomize, relative_error
from utils import cam
from utils.attributions import METHODS, deeplift, gradient, gradient_x_input, guided_backprop, lrp
from utils.parts import UnsupportedLayerError
from utils.scores import scores_of

RULES = (lrp, deeplift, guided_backprop)


@pytest.mark.parametrize("method", [*RULES, gradient], ids=lambda method: method.__name__)
def test_images_of_any_size(method):
    def net(size):
        keras.utils.set_random_seed(0)
        layers = [layer for _ in range(4) for layer in (L.Conv2D(4, 3, activation="relu"), L.MaxPooling2D())]
        return keras.Sequential([keras.Input((size, size, 3)), *layers, L.GlobalAveragePooling2D(), L.Dense(3)])

    anything, fixed, x = net(None), net(64), pixels(2, 64, 64, 3).astype("float32")
    fixed.set_weights(anything.get_weights())
    assert relative_error(method(anything, x, 1), method(fixed, x, 1)) < 1e-5
    smaller = pixels(1, 52, 56, 3).astype("float32")
    assert method(anything, smaller, 1).shape == smaller.shape


def test_a_series_of_any_length():
    layers = [L.Conv1D(4, 7, strides=2, activation="relu") for _ in range(3)]
    model = keras.Sequential([keras.Input((None, 1)), *layers, L.GlobalAveragePooling1D(), L.Dense(3)])
    assert lrp(model, noise(2, 500, 1).astype("float32"), 1).shape == (2, 500, 1)


@pytest.mark.parametrize("set_back", [True, False])
def test_models_in_64_bits_by_floatx(set_back):
    keras.config.set_floatx("float64")
    try:
        layers = [L.Conv2D(4, 3, activation="relu"), L.BatchNormalization(), L.GlobalAveragePooling2D(), L.Dense(3)]
        model = keras.Sequential([keras.Input((8, 8, 2)), *layers])
        if set_back:
            keras.config.set_floatx("float32")
        for method in (*RULES, gradient):
            assert method(model, pixels(2, 8, 8, 2), 1).dtype == "float64"
    finally:
        keras.config.set_floatx("float32")


@pytest.mark.parametrize("method", RULES, ids=lambda method: method.__name__)
def test_quantized_models_are_refused(method):
    model = keras.Sequential([keras.Input((16,)), L.Dense(8, activation="relu"), L.Dense(3)])
    model.quantize("int8")
    with pytest.raises(UnsupportedLayerError, match="(?s)quantized.*floating point"):
        method(model, noise(2, 16).astype("float32"), 1)


class TensorOfTorch:
    """As a tensor of PyTorch that requires gradients: no array, until it is detached."""

    def __init__(self, values):
        self.values = values

    def __array__(self, *arguments, **how):
        raise RuntimeError("Can't call numpy() on Tensor that requires grad.")

    def detach(self):
        return self

    def cpu(self):
        return self.values


def test_tensors_that_require_gradients():
    model, x = randomize(keras.Sequential([keras.Input((5,), **F), L.Dense(3, **F)])), noise(2, 5)
    assert np.array_equal(gradient_x_input(model, TensorOfTorch(x), 1), gradient_x_input(model, x, 1))


def test_a_baseline_for_each_channel():
    model = randomize(keras.Sequential([keras.Input((4, 4, 3), **F), L.Flatten(**F), L.Dense(3, "tanh", **F)]))
    x, grey = noise(2, 4, 4, 3), np.array([0.5, 0.4, 0.3])
    image = np.broadcast_to(grey, (4, 4, 3))
    for name in ("integrated_gradients", "deeplift", "interior_gradients"):
        assert np.array_equal(METHODS[name](model, x, 1, baseline=grey), METHODS[name](model, x, 1, baseline=image))


def test_a_leaky_relu_behind_a_sum_is_computed_as_it_is():
    """TensorFlow's optimizer of graphs loses its slope: `model.predict` is wrong, and what is here is not."""
    x = keras.Input((12, 12, 1))
    branches = [L.Conv2D(6, 3, padding="same", bias_initializer="normal")(x) for _ in range(2)]
    y = L.GlobalAveragePooling2D()(L.LeakyReLU(0.4)(L.Add()(branches)))
    model, points = keras.Model(x, L.Dense(3)(y)), pixels(4, 12, 12, 1).astype("float32")
    scores = model(points).numpy()
    assert np.allclose(scores_of(model)(points), scores, atol=1e-5)
    R = lrp(model, points, 1, "EPSILON", layer=model.layers[-1].name)
    assert np.allclose(R[:, 1], scores[:, 1], atol=1e-5)
    _, error = deeplift(model, points, 1, return_completeness_error=True)
    assert np.abs(error).max() < 1e-4
    A = cam.hires_cam(model, points, 1, relu=False, verbose=False)
    bias = model.layers[-1].bias.numpy()[1]
    assert np.allclose(A.sum((1, 2)) + bias, scores[:, 1], atol=1e-4)


class OwnCall(keras.Sequential):
    """As the classes of keras-hub: a `__call__` of its own, which does what the graph does."""

    def __call__(self, *arguments, **how):
        return super().__call__(*arguments, **how)


def test_a_class_with_a_call_of_its_own_is_taken_by_its_graph():
    layers = lambda: [keras.Input((6, 6, 2), **F), L.Conv2D(3, 3, **F), L.GlobalAveragePooling2D(**F), L.Dense(3, **F)]  # noqa: E731
    own, plain, x = randomize(OwnCall(layers())), randomize(keras.Sequential(layers())), noise(2, 6, 6, 2)
    plain.set_weights(own.get_weights())
    for method in (gradient, lrp, deeplift):
        assert np.array_equal(method(own, x, 1), method(plain, x, 1))
    assert np.array_equal(*(cam.grad_cam(model, x, 1, verbose=False) for model in (own, plain)))


# --- class activation maps of other things than images


@pytest.mark.parametrize(
    ("shape", "convolution", "pool"),
    [((20, 2), L.Conv1D, L.GlobalAveragePooling1D), ((6, 5, 4, 2), L.Conv3D, L.GlobalAveragePooling3D)],
)
def test_maps_of_series_and_volumes(shape, convolution, pool):
    layers = [convolution(4, 3, activation="relu", name="features"), pool(), L.Dense(2, use_bias=False)]
    model, x = keras.Sequential([keras.Input(shape), *layers]), pixels(2, *shape).astype("float32")
    A = keras.Model(model.inputs, model.get_layer("features").output)(x).numpy()
    expected = A @ model.layers[-1].kernel.numpy()[:, 1]
    maps = cam.class_activation_map(model, x, 1)
    assert maps.shape == A.shape[:-1] and np.allclose(maps, expected, atol=1e-5)
    places = np.prod(A.shape[1:-1])
    assert np.allclose(cam.grad_cam(model, x, 1, relu=False, verbose=False) * places, expected, atol=1e-4)
    assert cam.grad_cam(model, x, 1, upsample=True, verbose=False).shape == x.shape[:-1]
    assert cam.score_cam(model, x, 1, verbose=False).shape == maps.shape


def test_maps_of_bytes_and_tokens():
    layers = [L.Rescaling(1 / 255), L.Conv2D(4, 3, activation="relu"), L.GlobalAveragePooling2D(), L.Dense(2)]
    model = keras.Sequential([keras.Input((8, 8, 3), dtype="uint8"), *layers])
    x = (255 * pixels(2, 8, 8, 3)).astype("uint8")
    behind = keras.Sequential([keras.Input((8, 8, 3)), *layers])
    expected = cam.grad_cam(behind, x.astype("float32"), 1, verbose=False)
    assert np.allclose(cam.grad_cam(model, x, 1, verbose=False), expected, atol=1e-6)
    tokens = keras.Sequential(
        [keras.Input((9,), dtype="int32"), L.Embedding(20, 4), L.Conv1D(4, 3), L.GlobalAveragePooling1D(), L.Dense(2)]
    )
    assert cam.grad_cam(tokens, np.arange(18).reshape(2, 9), 1, verbose=False).shape == (2, 7)


def test_a_network_that_ends_in_the_average_itself():
    layers = [L.Conv2D(5, 3, activation="relu"), L.Conv2D(3, 1, name="maps"), L.GlobalAveragePooling2D()]
    model, x = keras.Sequential([keras.Input((8, 8, 3)), *layers]), pixels(2, 8, 8, 3).astype("float32")
    expected = keras.Model(model.inputs, model.get_layer("maps").output)(x).numpy()[..., 2]
    maps = cam.class_activation_map(model, x, 2)
    assert np.allclose(maps, expected, atol=1e-6) and np.allclose(maps.mean((1, 2)), model(x)[:, 2], atol=1e-5)


def test_warnings_point_at_the_callers_line():
    model = keras.Sequential([keras.Input((8,)), L.Dense(4, activation="tanh"), L.Dense(2)])
    with pytest.warns(UserWarning, match="no ReLU") as found:
        guided_backprop(model, np.ones((1, 8), "float32"), 1)
    assert found[0].filename == __file__
