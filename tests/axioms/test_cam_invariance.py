"""The same network in other forms has the same class activation maps."""

import functools
import json

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

from tests.helpers import (
    CAMS,
    SHAPE,
    TARGET,
    F,
    X,
    average,
    backbone,
    close,
    conv,
    dense,
    each_kind,
    explained,
    features,
    pooled_net,
    randomize,
    refused,
    sequential,
    shared_map,
    shared_net,
)


def with_weights(model):
    model.set_weights(pooled_net().get_weights())
    return model


def functional(head, *layers):
    x = y = keras.Input(SHAPE, **F)
    for layer in layers:
        y = layer(y)
    return with_weights(keras.Model(x, head(y)))


def in_one_form(*layers):
    return with_weights(keras.Sequential([keras.Input(SHAPE, **F), *layers]))


def nested_twice():
    outer = keras.Sequential([keras.Input(SHAPE, **F), backbone(), average()], name="pooled")
    return functional(dense(4, "softmax"), outer)


FORMS = {
    "logits": lambda: in_one_form(*features(), average(), dense(4)),
    "functional": lambda: functional(dense(4, "softmax"), *features(), average()),
    "softmax layer": lambda: in_one_form(*features(), average(), dense(4), L.Softmax(**F)),
    "softmax as an activation layer": lambda: in_one_form(*features(), average(), dense(4, L.Softmax(**F))),
    "operation": lambda: functional(lambda y: ops.softmax(dense(4)(y)), *features(), average()),
    "sigmoid": lambda: in_one_form(*features(), average(), dense(4, "sigmoid")),
    "dropout before the head": lambda: in_one_form(*features(), average(), L.Dropout(0.5, **F), dense(4)),
    "flattened average": lambda: in_one_form(*features(), average(keepdims=True), L.Flatten(**F), dense(4)),
    "nested": lambda: in_one_form(backbone(), average(), dense(4, "softmax")),
    "nested functional": lambda: functional(dense(4, "softmax"), backbone(keras.Model), average()),
    "nested twice": nested_twice,
    "nested with its head": lambda: in_one_form(
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
def nested():
    return FORMS["nested"]()


@pytest.mark.parametrize("form", FORMS)
def test_the_form_of_a_network_does_not_matter(form):
    model = FORMS[form]()
    for name in ("grad_cam", "class_activation_map"):
        close(explained(name, model, X[:1], TARGET[:1]), shared_map(name)[:1])


def test_a_layer_that_stands_behind_the_head_and_before_it():
    shared = L.Dropout(0.5, **F)
    model = functional(lambda y: shared(dense(4, "softmax")(shared(y))), *features(), average())
    close(explained("grad_cam", model), shared_map("grad_cam"))


@each_kind
def test_a_nested_network_is_as_a_flat_one(name):
    close(explained(name, nested()), shared_map(name))


def test_a_layer_by_its_name_by_itself_or_as_the_end_of_its_model(capsys):
    twice = nested_twice()
    for model, inner in ((nested(), nested().layers[0]), (twice, twice.get_layer("pooled").layers[0])):
        for layer in ("late", inner.get_layer("late"), inner, "backbone"):
            close(explained("grad_cam", model, layer=layer), shared_map("grad_cam"))
    early = inner.get_layer("early")
    close(explained("grad_cam", twice, layer=early), explained("grad_cam", shared_net(), layer="early"))
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


def half_precision(dtype, size, scale):
    """A network with maps of `size`; `scale` is that of its scores."""
    how = {"dtype": dtype}
    layers = [conv(8, padding="same", name="early", **how), conv(8, padding="same", **how), average(**how)]
    model = sequential((size, size, 1), *layers, dense(3, dtype="float32", name="head"), dtype="float32")
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


def test_a_quantized_head():
    model = pooled_net(head=None, dtype="float32")
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
    for name in CAMS:
        explained(name, model, X[:1], TARGET[:1])
    assert state(model, X) == before
