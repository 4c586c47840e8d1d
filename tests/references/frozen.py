"""Small networks whose weights NumPy draws from a seed, and the maps of all methods on them.

They compute in float64, so that another processor, which adds in another order, has the same maps to all the digits
that are stored.
"""

import keras
import numpy as np
from keras import layers as L

from tests.helpers import METHODS
from utils import cam
from utils.attributions import deeplift, lrp
from utils.composites import NAMED

SHAPE, TARGET = (10, 10, 1), [0, 1, 2]
X = np.random.default_rng(1).random((3, *SHAPE))


def average():
    """Average pooling, no biases."""
    layers = [L.Conv2D(4, 3, padding="same", activation="relu", use_bias=False, name="conv1"), L.AveragePooling2D(2)]
    layers += [L.Conv2D(5, 3, padding="same", activation="relu", use_bias=False, name="conv2"), L.Flatten()]
    layers += [L.Dense(6, "relu", use_bias=False, name="dense1"), L.Dense(3, use_bias=False)]
    return keras.Sequential([keras.Input(SHAPE), *layers])


def maximum():
    """Max pooling, batch normalization and a softmax."""
    layers = [L.Conv2D(4, 3, padding="same", activation="relu", name="conv1"), L.MaxPooling2D(2)]
    layers += [L.Conv2D(5, 3, padding="same", name="conv2"), L.BatchNormalization(), L.ReLU()]
    layers += [L.MaxPooling2D(3, 2, padding="same"), L.Flatten()]
    layers += [L.Dense(6, "relu", name="dense1"), L.Dense(3, "softmax")]
    return keras.Sequential([keras.Input(SHAPE), *layers])


def residual():
    """A residual block with a squeeze-excite gate and swish, a depthwise convolution, and a global average."""
    x = keras.Input(SHAPE)
    y = L.Conv2D(4, 3, padding="same", activation="relu", name="conv1")(x)
    z = L.Activation("swish")(L.BatchNormalization()(y))
    z = L.BatchNormalization()(L.Conv2D(4, 3, padding="same")(z))
    gate = L.Conv2D(4, 1, activation="sigmoid")(L.GlobalAveragePooling2D(keepdims=True)(z))
    y = L.ELU()(L.Add()([y, L.Multiply()([z, gate])]))
    y = L.DepthwiseConv2D(3, name="conv2")(L.ZeroPadding2D()(y))
    y = L.Dense(6, "relu", name="dense1")(L.GlobalAveragePooling2D()(y))
    return keras.Model(x, L.Dense(3)(y))


def network(name, seed=None):
    before = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    try:
        build, usual = NETWORKS[name]
        model, generator = build(), np.random.default_rng(usual if seed is None else seed)
    finally:
        keras.config.set_floatx(before[0])
        keras.config.set_dtype_policy(before[1])
    for weight in model.weights:
        drawn = generator.standard_normal(weight.shape)
        if weight.name in ("moving_variance", "gamma"):
            drawn = 0.7 + 0.6 * generator.random(weight.shape)
        elif len(weight.shape) < 2:
            drawn = 0.1 * drawn
        else:
            drawn = drawn * np.sqrt(2 / np.prod(weight.shape[:-1]))
        weight.assign(drawn)
    return model


# and a seed of weights for which no method has only zeros
NETWORKS = {"average": (average, 38), "maximum": (maximum, 2), "residual": (residual, 0)}
CAMS = (cam.grad_cam, cam.grad_cam_plus_plus, cam.hires_cam, cam.layer_cam, cam.score_cam)


def calls():
    """Name -> a function of a network that returns a map."""
    found = {name: lambda model, f=f: f(model, X, TARGET) for name, f in METHODS.items()}
    found |= {f"lrp/{name}": lambda model, name=name: lrp(model, X, TARGET, name) for name in NAMED}
    found["deeplift/reveal_cancel"] = lambda model: deeplift(model, X, TARGET, rule="reveal_cancel")
    found["deeplift/baseline"] = lambda model: deeplift(model, X, TARGET, baseline=X[::-1].copy())
    found["lrp/layer=dense1"] = lambda model: lrp(model, X, TARGET, layer="dense1")
    for f in CAMS:
        found[f.__name__] = lambda model, f=f: f(model, X, TARGET, relu=False, verbose=False)
    found["authors"] = lambda model: cam.grad_cam_plus_plus(
        model, X, TARGET, variant="authors", relu=False, verbose=False
    )
    found["guided_grad_cam"] = lambda model: cam.guided_grad_cam(model, X, TARGET, verbose=False)
    return found
