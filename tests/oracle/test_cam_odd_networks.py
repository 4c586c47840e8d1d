"""Grad-CAM of odd networks, against a tape on the model as it is."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L
from keras import ops

from tests.helpers import (
    F,
    after,
    average,
    close,
    conv,
    dense,
    explained,
    noise,
    one_output_of_two,
    randomize,
    scored,
    sequential,
    slow_maps,
)


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
    "integers first": lambda: scored(*after(lambda A: A + ops.cast(ops.greater(A, 0), "int32") * A)),
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
    model, x = (
        sequential((6, 6, 2), conv(4, name="map"), average(), dense(1, "sigmoid", name="head")),
        noise(2, 6, 6, 2),
    )
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
