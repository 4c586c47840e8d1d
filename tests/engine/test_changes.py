"""A model stays as it is; what is changed in it later shows, and what has gone leaves nothing."""

import gc
import weakref

import keras
import numpy as np
import pytest

from tests.helpers import BACKWARD, METHODS, differences, images, pixels, residual_net, small_cnn
from utils import attributions
from utils.attributions import lrp
from utils.relevance import relevance_ledger


@pytest.fixture(scope="module")
def changing():
    """A network, its weights and others, and a network that has had the others from the beginning."""
    model, other = small_cnn(), small_cnn()
    *rest, kernel, bias = weights = model.get_weights()
    other.set_weights([*rest, 2 * kernel, bias])
    return model, weights, other


@pytest.mark.parametrize("name", METHODS)
def test_methods_see_later_changes_of_the_weights(name, changing):
    model, weights, other = changing
    model.set_weights(weights)
    x = images(2)
    before, expected = METHODS[name](model, x, 0), METHODS[name](other, x, 0)
    model.set_weights(other.get_weights())
    assert np.allclose(METHODS[name](model, x, 0), expected, atol=1e-12)
    assert np.abs(before - expected).max() > 0.1 * np.abs(expected).max()


def exchange_activation(model):
    model.layers[0].activation = keras.activations.tanh


def exchange_layer(model):
    model.pop()
    model.add(keras.layers.Dense(4, dtype="float64"))


def add_lora(model):
    model.layers[-1].enable_lora(2)
    model.layers[-1].lora_kernel_b.assign(np.ones((2, 4)))


@pytest.mark.parametrize("change", [exchange_activation, exchange_layer, add_lora])
def test_a_changed_model_is_noticed(change):
    model, x = small_cnn(), images(2)
    before = attributions.gradient(model, x, 0)
    change(model)
    after = attributions.gradient(model, x, 0)
    assert np.abs(after - before).max() > 1e-3
    assert np.abs(after - differences(model, x, [0, 0])).max() < 1e-8


def test_new_statistics_of_a_normalization_are_noticed():
    normalization = keras.layers.Normalization(axis=-1, dtype="float64")
    normalization.adapt(images(9))
    model = keras.Sequential([keras.Input((8, 7, 2), dtype="float64"), normalization, *small_cnn().layers])
    x = images(2)
    attributions.gradient(model, x, 0)
    normalization.adapt(5 * images(9) + 1)
    assert np.abs(attributions.gradient(model, x, 0) - differences(model, x, [0, 0])).max() < 1e-6


def test_models_that_are_gone_are_forgotten():
    gone = []
    for head in (None, "softmax"):
        model = small_cnn(head)
        for method in METHODS.values():
            method(model, images(1), 0)
        gone.append(weakref.ref(model))
    del model
    gc.collect()
    assert not any(reference() for reference in gone)


def test_a_model_that_shares_its_input_with_another_is_forgotten():
    x = keras.Input((6,))
    inner = keras.Model(x, keras.layers.Dense(4)(x))
    outer = keras.Model(x, keras.layers.Dense(3)(inner(x)))
    attributions.gradient(inner, np.ones((1, 6), "float32"), 0)
    reference = weakref.ref(inner)
    del x, inner, outer
    gc.collect()
    assert reference() is None


def test_explained_models_are_saved_as_before(tmp_path):
    model = small_cnn("softmax")
    model.save_weights(tmp_path / "before.weights.h5")
    attributions.gradient(model, images(1), 0)
    model.save_weights(tmp_path / "after.weights.h5")
    sizes = [(tmp_path / f"{when}.weights.h5").stat().st_size for when in ("before", "after")]
    assert sizes[0] == sizes[1]
    other = small_cnn("softmax", seed=1)
    other.load_weights(tmp_path / "after.weights.h5")
    assert np.array_equal(other(images()).numpy(), model(images()).numpy())


def test_the_model_stays_as_it_is():
    model, x = small_cnn("softmax"), images(2)
    model.compile("adam", "mse")
    model.layers[0].trainable = False
    weights, config, output = model.get_weights(), model.to_json(), model(x).numpy()
    nodes = [(len(layer._inbound_nodes), len(layer._outbound_nodes)) for layer in model.layers]
    for method in METHODS.values():
        method(model, x)
    assert all(np.array_equal(a, b) for a, b in zip(weights, model.get_weights()))
    assert model.to_json() == config and np.array_equal(model(x).numpy(), output) and model.compiled
    assert [layer.trainable for layer in model.layers] == [False, True, True, True, True]
    assert [(len(layer._inbound_nodes), len(layer._outbound_nodes)) for layer in model.layers] == nodes


def test_the_model_that_was_passed_is_untouched():
    model, x = residual_net(), pixels(2, 6, 6, 2, seed=0)
    model.compile("adam", "mse")
    for layer in model.layers[:4]:
        layer.trainable = False
    weights, config, output = model.get_weights(), model.to_json(), model(x).numpy()
    operations = list(model.operations)
    nodes = [(len(layer._inbound_nodes), len(layer._outbound_nodes)) for layer in operations]
    trainable, state = [layer.trainable for layer in model.layers], (model.compiled, model.optimizer, model.loss)
    for name in BACKWARD:
        attributions.METHODS[name](model, x)
    lrp(model, x, 0, "EPSILON_GAMMA_BOX")
    relevance_ledger(model, x, 0)
    lrp(model, x, layer=model.layers[1].name)
    assert all(np.array_equal(a, b) for a, b in zip(weights, model.get_weights()))
    assert model.to_json() == config and np.array_equal(model(x).numpy(), output)
    assert [layer.trainable for layer in model.layers] == trainable
    assert (model.compiled, model.optimizer, model.loss) == state
    now = [(len(layer._inbound_nodes), len(layer._outbound_nodes)) for layer in operations]
    assert now == nodes
