"""The networks of generate.py in Keras, with the weights and the values that it stored."""

import functools
from pathlib import Path

import keras
import numpy as np
from keras import layers

NETWORKS = ("average", "maximum", "residual")


@functools.cache
def references():
    """All arrays of captum.npz: name -> array, read-only."""
    with np.load(Path(__file__).parent / "captum.npz") as file:
        arrays = dict(file)
    for array in arrays.values():
        array.setflags(write=False)  # one copy for all tests
    return arrays


@functools.cache
def reference_network(name):
    """One of NETWORKS as a functional Keras model, logits out, in float64; built once, so that it is compiled once."""
    stored = references()
    x = keras.Input(stored["inputs"].shape[1:], dtype="float64")
    model = keras.Model(x, {"average": _average, "maximum": _maximum, "residual": _residual}[name](x), name=name)
    for layer in model.layers:
        for variable in layer.weights:
            variable.assign(stored[f"{name}/weights/{layer.name}/{variable.name}"])
    used = sum(len(layer.weights) for layer in model.layers)
    assert used == sum(key.startswith(f"{name}/weights/") for key in stored), "a stored weight has no place"
    return model


def _average(x):
    return _pooling_network(x, layers.AveragePooling2D, bias=False)


def _maximum(x):
    return _pooling_network(x, layers.MaxPooling2D, bias=True)


def _pooling_network(x, pooling, bias):
    x = pooling(2, dtype="float64")(_conv(6, "conv1", bias, "relu")(x))
    x = pooling(2, dtype="float64")(_conv(8, "conv2", bias, "relu")(x))
    x = layers.Flatten(dtype="float64")(x)
    x = layers.Dense(12, "relu", use_bias=bias, name="dense1", dtype="float64")(x)
    return layers.Dense(5, use_bias=bias, name="dense2", dtype="float64")(x)


def _residual(x):
    x = _conv(6, "stem", True, "relu")(x)
    for block in ("block1", "block2"):
        y = _norm(f"{block}_norm1")(_conv(6, f"{block}_conv1", False)(x))
        y = layers.ReLU(dtype="float64")(y)
        y = _norm(f"{block}_norm2")(_conv(6, f"{block}_conv2", False)(y))
        x = layers.ReLU(dtype="float64")(layers.Add(dtype="float64")([x, y]))
    x = layers.GlobalAveragePooling2D(dtype="float64")(x)
    return layers.Dense(5, name="dense", dtype="float64")(x)


def _conv(filters, name, bias, activation=None):
    return layers.Conv2D(filters, 3, padding="same", activation=activation, use_bias=bias, name=name, dtype="float64")


def _norm(name):
    return layers.BatchNormalization(epsilon=1e-3, name=name, dtype="float64")
