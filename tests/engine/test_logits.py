"""`logits_of` finds a softmax of any form at the end of a model, and changes nothing else."""

import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from utils.attributions import gradient
from utils.logits import logits_of

X = np.random.default_rng(0).standard_normal((6, 5)).astype("float32")


def nested(x):
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(6, "relu"), layers.Dense(3, "softmax")])
    return inner(layers.Dense(4, "relu")(x))


def nested_twice(x):
    inner_x = keras.Input((4,))
    inner = keras.Model(inner_x, keras.Sequential([layers.Dense(3), layers.Softmax()])(inner_x))
    return keras.Sequential([layers.Dense(4, "relu"), inner])(x)


def convolution(x):
    x = layers.Reshape((1, 1, 8))(x)
    return layers.Flatten()(layers.Conv2D(3, 1, activation="softmax")(x))


SOFTMAX_HEADS = {
    "activation": lambda x: layers.Dense(3, activation="softmax")(x),
    "activation by function": lambda x: layers.Dense(3, activation=keras.ops.softmax)(x),
    "activation of TensorFlow": lambda x: layers.Dense(3, activation=tf.nn.softmax)(x),
    "activation by layer": lambda x: layers.Dense(3, activation=layers.Softmax())(x),
    "Softmax layer": lambda x: layers.Softmax()(layers.Dense(3)(x)),
    "Activation layer": lambda x: layers.Activation("softmax")(layers.Dense(3)(x)),
    "operation": lambda x: keras.ops.softmax(layers.Dense(3)(x)),
    "function": lambda x: keras.activations.softmax(layers.Dense(3)(x)),
    "before dropout": lambda x: layers.Dropout(0.5)(layers.Dense(3, activation="softmax")(x)),
    "before a linear activation": lambda x: layers.Activation("linear")(layers.Dense(3, activation="softmax")(x)),
    "before a reshape": lambda x: layers.Reshape((3,))(layers.Dense(3, activation="softmax")(x)),
    "convolution": convolution,
    "nested": nested,
    "nested twice": nested_twice,
}


def model_with(head):
    x = keras.Input((5,))
    return keras.Model(x, head(layers.Dense(8, "relu")(x)))


@pytest.mark.parametrize("name", SOFTMAX_HEADS)
def test_the_softmax_of_the_logits_is_the_output(name, capsys):
    model = model_with(SOFTMAX_HEADS[name])
    config, output = model.get_config() if name != "activation of TensorFlow" else None, model(X).numpy()
    logits = logits_of(model)
    assert "dropped the" in capsys.readouterr().out
    assert np.allclose(tf.nn.softmax(logits(X)), output, atol=1e-6)
    assert not np.allclose(logits(X).numpy().sum(1), 1, atol=0.01)
    assert len(logits.weights) == len(model.weights)
    assert np.array_equal(model(X).numpy(), output)
    if config:
        assert model.get_config() == config


@pytest.mark.parametrize("name", SOFTMAX_HEADS)
def test_gradients_are_those_of_the_logits(name):
    model = model_with(SOFTMAX_HEADS[name])
    logits, x = logits_of(model, verbose=False), tf.constant(X)
    with tf.GradientTape() as tape:
        tape.watch(x)
        score = logits(x)[:, 1]
    assert np.allclose(gradient(model, X, 1), tape.gradient(score, x), atol=1e-6)
    with tf.GradientTape() as tape:
        tape.watch(x)
        score = model(x)[:, 1]
    assert np.allclose(gradient(model, X, 1, explain="output"), tape.gradient(score, x), atol=1e-6)


@pytest.mark.parametrize("activation", ["sigmoid", "log_softmax"])
def test_other_heads(activation):
    model = model_with(lambda x: layers.Dense(3, activation=activation)(x))
    logits = logits_of(model, verbose=False)
    assert np.allclose(keras.activations.get(activation)(logits(X)), model(X), atol=1e-6)


def test_a_model_without_a_head_is_returned_as_it_is(capsys):
    for head in (layers.Dense(3), layers.Dense(3, activation="relu")):
        model = model_with(head)
        assert logits_of(model) is model
        assert "no softmax" in capsys.readouterr().out


def test_a_softmax_in_the_middle_stays():
    model = model_with(lambda x: layers.Dense(3)(layers.Dense(4, activation="softmax")(x)))
    assert logits_of(model, verbose=False) is model


def test_later_weights_show():
    model = model_with(SOFTMAX_HEADS["nested twice"])
    logits = logits_of(model, verbose=False)
    model.set_weights([2 * weight for weight in model.get_weights()])
    assert np.allclose(tf.nn.softmax(logits(X)), model(X), atol=1e-6)


def test_mixed_precision_models():
    x = keras.Input((5,))
    hidden = layers.Dense(8, "relu", dtype="mixed_float16")(x)
    model = keras.Model(x, layers.Dense(3, "softmax", dtype="mixed_float16")(hidden))
    logits = logits_of(model, verbose=False)(X)
    assert logits.dtype == "float16"
    assert np.allclose(tf.nn.softmax(logits), model(X), atol=1e-2)
    assert gradient(model, X, 0).dtype == "float32"


def test_a_model_and_its_logits_can_be_forgotten():
    model = model_with(SOFTMAX_HEADS["nested"])
    logits = logits_of(model, verbose=False)
    references = [weakref.ref(model), weakref.ref(logits)]
    del model, logits
    gc.collect()
    assert not any(reference() for reference in references)


class Gate(layers.Layer):
    """Has an activation, but does not end with it."""

    def __init__(self):
        super().__init__()
        self.activation, self.dense = keras.activations.sigmoid, layers.Dense(3)

    def call(self, x):
        return x * self.activation(self.dense(x))


class Cooled(layers.Dense):
    def call(self, x):
        return self.activation((keras.ops.matmul(x, self.kernel) + self.bias) / 4) * 7


@pytest.mark.parametrize(
    "head",
    [
        lambda x: Gate()(layers.Dense(3)(x)),
        lambda x: Cooled(3, activation="softmax")(x),
        lambda x: layers.SimpleRNN(3, activation="softmax")(layers.Reshape((2, 4))(x)),
    ],
    ids=["gate", "own call", "recurrent"],
)
def test_an_activation_in_the_middle_of_a_layer_is_no_head(head):
    model = model_with(head)
    assert logits_of(model, verbose=False) is model


@pytest.mark.parametrize(
    "behind",
    [layers.Rescaling(100.0), lambda x: x[:, :2], keras.ops.log, lambda x: keras.ops.cast(x, "float64")],
    ids=["rescaled", "sliced", "logarithm", "cast"],
)
def test_probabilities_that_are_changed_afterwards_are_refused(behind):
    model = model_with(lambda x: behind(layers.Dense(3, activation="softmax")(x)))
    with pytest.raises(ValueError, match="neither probabilities nor logits.*explain='output'"):
        gradient(model, X, 0)
    assert gradient(model, X, 0, explain="output").shape == X.shape


def test_a_softmax_over_another_axis_is_no_head():
    model = model_with(lambda x: layers.Softmax(axis=0)(layers.Dense(3)(x)))
    assert logits_of(model, verbose=False) is model


def test_one_output_of_an_inner_model_with_two():
    x = keras.Input((5,))
    inner = keras.Model(x, [layers.Dense(2)(x), layers.Dense(3, activation="softmax")(x)])
    model = keras.Model(x, inner(x)[1])
    logits = logits_of(model, verbose=False)
    assert np.allclose(tf.nn.softmax(logits(X)), model(X), atol=1e-6)


def test_layers_keep_no_record_of_their_logits():
    model = model_with(SOFTMAX_HEADS["before a reshape"])
    records = [len(layer._outbound_nodes) for layer in model.layers]
    for _ in range(5):
        logits_of(model, verbose=False)
    assert [len(layer._outbound_nodes) for layer in model.layers] == records
