"""The networks of keras.applications, with random weights: the same values, a ledger that sums, and Grad-CAM.

They are deep, and Keras takes seconds to build one, ours to rebuild it layer by layer; so each is built once for all
tests, as small as it can be, and rebuilt once. Some tests still take longer than the others of this folder.
"""

import keras
import numpy as np
import pytest
from keras import applications

from tests.helpers import close
from utils import cam
from utils.attributions import lrp
from utils.composites import EPSILON, EPSILON_PLUS
from utils.relevance import relevance_ledger

# name -> smallest image that the network takes, or twice that where the last feature map is to have several places
SIZES = {
    "VGG16": 64,
    "ResNet50": 32,
    "ResNet50V2": 64,
    "MobileNetV2": 32,
    "MobileNetV3Small": 64,
    "DenseNet121": 32,
    "InceptionV3": 75,
    "Xception": 71,
    "NASNetMobile": 32,
    "EfficientNetV2B0": 32,
    "ConvNeXtTiny": 32,
}
LAST = {  # the last feature map, or one before where the image is too small for that
    "VGG16": "block5_pool",
    "ResNet50V2": "post_relu",
    "MobileNetV3Small": "activation",
    "DenseNet121": "pool3_relu",
    "EfficientNetV2B0": "block5a_project_bn",
    "ConvNeXtTiny": "convnext_tiny_stage_2_block_0_layer_scale",
}


@pytest.fixture(scope="module")
def network(request):
    """Built once for all tests of it, which stand one behind the other."""
    keras.utils.set_random_seed(0)
    size = SIZES[request.param]
    how = {"weights": None, "classes": 5, "classifier_activation": None}
    network = getattr(applications, request.param)(input_shape=(size, size, 3), **how)
    generator = np.random.default_rng(0)
    for weight in network.weights:
        if weight.name in ("moving_mean", "beta", "bias"):
            weight.assign(0.1 * generator.standard_normal(weight.shape))
        elif weight.name in ("moving_variance", "gamma") and len(weight.shape) == 1:
            weight.assign(0.7 + 0.6 * generator.random(weight.shape))
    return network


def images_of(network, n=2):
    return np.random.default_rng(1).random((n, *network.input_shape[1:]), "float32")


def features_of(network, last):
    """The part of a network up to its last layer of that name or kind whose output has several places."""
    fits = [layer for layer in network.layers if layer.name.startswith(last) and layer.output.shape[1:3] > (1, 1)]
    return keras.Model(network.inputs[0], fits[-1].output)


@pytest.mark.parametrize("network", SIZES, indirect=True)
def test_the_rebuilt_network_has_the_same_values_and_a_ledger_that_sums(network):
    """What comes into the last layer is the score that the rebuilt network computes: here, of each class."""
    x = images_of(network)
    scores, each = network(x, training=False).numpy(), np.tile(np.arange(5), 2)
    assert np.isfinite(scores).all() and np.abs(scores).max() > 0
    rows = relevance_ledger(network, np.repeat(x, 5, 0), each, EPSILON)
    assert np.abs(rows[0].incoming - scores.ravel()).max() < 1e-5 * np.abs(scores).max()
    for row in rows:
        total = row.inputs + row.bias + row.stabiliser
        scale = np.abs([row.incoming, row.inputs, row.bias, row.stabiliser]).max()
        assert np.isfinite(row.inputs).all() and np.abs(total - row.incoming).max() <= 1e-5 * scale


@pytest.mark.parametrize("network", LAST, indirect=True)
def test_grad_cam_under_an_average_and_a_dense_layer(network, request, capsys):
    """The gradient is the kernel of the dense layer, divided by the number of places."""
    last = LAST[request.node.callspec.params["network"]]
    inner, x, head = features_of(network, last), images_of(network, 1), keras.layers.Dense(3, "softmax")
    top = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dropout(0.2), head]
    model = keras.Sequential([keras.Input(x.shape[1:]), inner, *top])
    A, kernel = inner(x, training=False).numpy().astype("float64"), head.kernel.numpy()
    _, height, width, channels = A.shape
    signed = A @ kernel[:, 1] / (height * width)
    if signed.max() < 0:
        head.kernel.assign(-kernel)
        signed = -signed
    close(cam.grad_cam(model, x, 1), np.maximum(signed, 0), 1e-5)
    printed = capsys.readouterr().out
    assert f"the feature map of '{last}" in printed and f"{height} x {width} x {channels}." in printed
    assert height * width > 1


@pytest.mark.parametrize("network", ["VGG16"], indirect=True)
def test_a_network_as_the_first_layer_of_another(network):
    backbone, x = features_of(network, "block5_pool"), images_of(network)
    head = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dropout(0.2), keras.layers.Dense(4, "softmax")]
    nested = keras.Sequential([keras.Input(x.shape[1:]), backbone, *head])
    y = backbone.output
    for layer in head:
        y = layer(y)
    flat = keras.Model(backbone.input, y)
    R = lrp(nested, x, 2, EPSILON_PLUS)
    assert R.shape == x.shape and np.isfinite(R).all() and np.abs(R).max() > 0
    assert np.abs(R - lrp(flat, x, 2, EPSILON_PLUS)).max() < 1e-5 * np.abs(R).max()
