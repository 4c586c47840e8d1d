"""The networks of keras.applications, with random weights: the same values, a ledger that sums, and Grad-CAM.

They are deep, and Keras takes seconds to build one; so each is built once for all tests, for images as small as it
takes. Those that repeat a block a great many times are built with fewer repetitions, by Keras's own functions: a
repetition proves nothing that ResNet50 and Xception, which are whole, do not.
"""

import keras
import numpy as np
import pytest
from keras import applications
from keras.src.applications.convnext import ConvNeXt
from keras.src.applications.densenet import DenseNet
from keras.src.applications.efficientnet_v2 import EfficientNetV2

from tests.helpers import close
from utils import cam
from utils.attributions import lrp
from utils.composites import EPSILON, EPSILON_PLUS
from utils.relevance import relevance_ledger

CLASSES = 3
# smallest image that the network takes, or twice that where the last feature map is to have several places; how it is
# made
NETWORKS = {
    "VGG16": (64, applications.VGG16, {}),
    "ResNet50": (32, applications.ResNet50, {}),
    "MobileNetV3Small": (32, applications.MobileNetV3Small, {}),
    "Xception": (71, applications.Xception, {}),
    "DenseNet121": (32, DenseNet, {"blocks": [2, 2, 2, 2]}),  # not 6, 12, 24 and 16
    "EfficientNetV2B0": (  # not up to 8 repetitions, but up to 3
        32,
        EfficientNetV2,
        {"width_coefficient": 1.0, "depth_coefficient": 0.3, "default_size": 224, "name": "efficientnetv2-b0"},
    ),
    "ConvNeXtTiny": (  # not 3, 3, 9 and 3 blocks; a quarter of the channels
        32,
        ConvNeXt,
        {"depths": [1, 1, 2, 1], "projection_dims": [24, 48, 96, 192], "name": "convnext_tiny"},
    ),
}
LAST = {  # the last feature map, or one before where the image is too small for that
    "VGG16": "block5_pool",
    "DenseNet121": "pool3_relu",
    "EfficientNetV2B0": "block5a_project_bn",
    "ConvNeXtTiny": "convnext_tiny_stage_2_block_0_layer_scale",
}


@pytest.fixture(scope="module")
def network(request):
    """Built once for all tests of it, which stand one behind the other."""
    keras.utils.set_random_seed(0)
    size, build, how = NETWORKS[request.param]
    network = build(input_shape=(size, size, 3), weights=None, classes=CLASSES, classifier_activation=None, **how)
    generator = np.random.default_rng(0)
    for weight in network.weights:
        if weight.name in ("moving_mean", "beta", "bias"):
            weight.assign(0.1 * generator.standard_normal(weight.shape))
        elif weight.name in ("moving_variance", "gamma") and len(weight.shape) == 1:
            weight.assign(0.7 + 0.6 * generator.random(weight.shape))
    return network


def images_of(network, n):
    return np.random.default_rng(1).random((n, *network.input_shape[1:]), "float32")


def features_of(network, last):
    """The part of a network up to its last layer of that name or kind whose output has several places."""
    fits = [layer for layer in network.layers if layer.name.startswith(last) and layer.output.shape[1:3] > (1, 1)]
    return keras.Model(network.inputs[0], fits[-1].output)


@pytest.mark.parametrize("network", NETWORKS, indirect=True)
def test_the_rebuilt_network_has_the_same_values_and_a_ledger_that_sums(network):
    """What comes into the last layer is the score that the rebuilt network computes: here, of each class."""
    x = images_of(network, 1)
    scores = network(x, training=False).numpy()
    assert np.isfinite(scores).all() and np.abs(scores).max() > 0
    rows = relevance_ledger(network, np.repeat(x, CLASSES, 0), np.arange(CLASSES), EPSILON)
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
    backbone, x = features_of(network, "block5_pool"), images_of(network, 2)
    head = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dropout(0.2), keras.layers.Dense(4, "softmax")]
    nested = keras.Sequential([keras.Input(x.shape[1:]), backbone, *head])
    y = backbone.output
    for layer in head:
        y = layer(y)
    flat = keras.Model(backbone.input, y)
    R = lrp(nested, x, 2, EPSILON_PLUS)
    assert R.shape == x.shape and np.isfinite(R).all() and np.abs(R).max() > 0
    assert np.abs(R - lrp(flat, x, 2, EPSILON_PLUS)).max() < 1e-5 * np.abs(R).max()
