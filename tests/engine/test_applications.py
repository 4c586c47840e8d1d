"""The networks of keras.applications, with random weights: the same values, and a ledger that sums."""

import keras
import numpy as np
import pytest
from keras import applications

from utils.attributions import lrp
from utils.composites import EPSILON, EPSILON_PLUS
from utils.relevance import relevance_ledger
from utils.surgery import with_rules

# name -> smallest image that the network takes
SIZES = {
    "VGG16": 32,
    "ResNet50": 32,
    "ResNet50V2": 32,
    "MobileNetV2": 32,
    "MobileNetV3Small": 32,
    "DenseNet121": 32,
    "InceptionV3": 75,
    "Xception": 71,
    "NASNetMobile": 32,
    "EfficientNetV2B0": 32,
    "ConvNeXtTiny": 32,
}


def build(name, **how):
    keras.utils.set_random_seed(0)
    size = SIZES[name]
    network = getattr(applications, name)(weights=None, input_shape=(size, size, 3), classes=5, **how)
    generator = np.random.default_rng(0)
    for weight in network.weights:
        if weight.name in ("moving_mean", "beta", "bias"):
            weight.assign(0.1 * generator.standard_normal(weight.shape))
        elif weight.name in ("moving_variance", "gamma") and len(weight.shape) == 1:
            weight.assign(0.7 + 0.6 * generator.random(weight.shape))
    return network, generator.random((2, size, size, 3), "float32")


def same_values(network, rebuilt, x):
    ours, theirs = (model(x, training=False).numpy() for model in (rebuilt, network))
    assert np.isfinite(theirs).all() and np.abs(theirs).max() > 0
    assert np.abs(ours - theirs).max() < 1e-5 * np.abs(theirs).max()


@pytest.mark.parametrize("name", SIZES)
def test_the_rebuilt_network_has_the_same_values_and_a_ledger_that_sums(name):
    network, x = build(name, classifier_activation=None)
    same_values(network, with_rules(network, EPSILON), x)
    rows = relevance_ledger(network, x, [0, 3], EPSILON)
    assert np.allclose(rows[0].incoming, network(x).numpy()[[0, 1], [0, 3]], rtol=1e-4)
    for row in rows:
        total = row.inputs + row.bias + row.stabiliser
        scale = np.abs([row.incoming, row.inputs, row.bias, row.stabiliser]).max()
        assert np.isfinite(row.inputs).all() and np.abs(total - row.incoming).max() <= 1e-5 * scale


def test_a_network_as_the_first_layer_of_another():
    backbone, x = build("VGG16", include_top=False)
    head = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dropout(0.2), keras.layers.Dense(4, "softmax")]
    nested = keras.Sequential([keras.Input((32, 32, 3)), backbone, *head])
    y = backbone.output
    for layer in head:
        y = layer(y)
    flat = keras.Model(backbone.input, y)
    R = lrp(nested, x, 2, EPSILON_PLUS)
    assert R.shape == x.shape and np.isfinite(R).all() and np.abs(R).max() > 0
    assert np.abs(R - lrp(flat, x, 2, EPSILON_PLUS)).max() < 1e-5 * np.abs(R).max()
