"""The gradient methods against slow oracles in float64, their axioms, and exact answers on paper."""

import gc
import pathlib
import re
import tracemalloc
import weakref

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from models import load_model
from utils import attributions, network
from utils.attributions import METHODS, integrated_gradients, quadrature, smoothgrad
from utils.parts import UnsupportedLayerError

ROOT = pathlib.Path(__file__).resolve().parents[1]
RULES = ("left", "right", "midpoint", "trapezoid", "gauss")


def small_cnn(head=None, dtype="float64", seed=0):
    """A convolutional network with biases and random weights; `[n, 8, 7, 2]` -> `[n, 4]`."""
    keras.utils.set_random_seed(seed)
    layers = [
        keras.Input((8, 7, 2), dtype=dtype),
        keras.layers.Conv2D(5, 3, activation="relu", bias_initializer="normal", dtype=dtype),
        keras.layers.MaxPooling2D(2, dtype=dtype),
        keras.layers.Flatten(dtype=dtype),
        keras.layers.Dense(6, activation="relu", bias_initializer="normal", dtype=dtype),
        keras.layers.Dense(4, activation=head, bias_initializer="normal", dtype=dtype),
    ]
    return keras.Sequential(layers)


def images(n=5, seed=1, dtype="float64"):
    return np.random.default_rng(seed).random((n, 8, 7, 2)).astype(dtype)


def function_model(function, inputs, dtype="float64"):
    """A Keras model of a function of `inputs` numbers, built from operations; one output."""
    x = keras.Input((inputs,), dtype=dtype)
    return keras.Model(x, function(x))


def differences(model, x, target, h=1e-6):
    """The gradient by central differences, one input value at a time, on the model as it is."""
    result = np.zeros_like(x)
    for n in range(len(x)):
        nudges = h * np.eye(x[n].size).reshape(-1, *x[n].shape)
        up, down = (model(x[n] + sign * nudges).numpy()[:, target[n]] for sign in (1, -1))
        result[n] = ((up - down) / (2 * h)).reshape(x[n].shape)
    return result


def test_gradient_agrees_with_differences():
    model, x, target = small_cnn(), images(), np.array([0, 1, 2, 3, 0])
    assert np.abs(attributions.gradient(model, x, target) - differences(model, x, target)).max() < 1e-8


def test_the_gradient_of_an_output_agrees_with_differences():
    model, x, target = small_cnn("softmax"), images(), np.array([0, 1, 2, 3, 0])
    ours = attributions.gradient(model, x, target, explain="output")
    assert np.abs(ours - differences(model, x, target)).max() < 1e-8


def test_products_of_the_gradient():
    model, x = small_cnn(), images()
    g = attributions.gradient(model, x, 2)
    assert np.array_equal(attributions.sensitivity(model, x, 2), g**2)
    assert np.array_equal(attributions.gradient_x_input(model, x, 2), g * x)
    assert np.array_equal(attributions.simple_taylor(model, x, 2), g * x)


def test_no_target_means_the_predicted_class():
    model, x = small_cnn(seed=2), 9 * (images(50) - 0.5)
    predicted = model(x).numpy().argmax(1)
    assert len(set(predicted)) > 1
    assert np.array_equal(attributions.gradient(model, x), attributions.gradient(model, x, predicted))


def test_interior_gradients_are_gradients_at_points_of_the_way():
    model, x, baseline = small_cnn(), images(3), images(3, seed=2)
    maps = attributions.interior_gradients(model, x, 1, baseline, alpha=[0, 0.3, 1])
    for alpha, R in zip((0, 0.3, 1), maps):
        point = baseline + alpha * (x - baseline)
        assert np.allclose(R, attributions.gradient(model, point, 1), atol=1e-12)
    assert np.array_equal(attributions.interior_gradients(model, x, 1, baseline, alpha=0.3), maps[1])


# --- simple Taylor


def test_simple_taylor_is_exact_without_biases():
    model = load_model("mnist_cnn")
    x = np.random.default_rng(0).random((20, 28, 28, 1), "float32")
    R, remainder = attributions.simple_taylor(model, x, 3, return_remainder=True)
    score = model(x).numpy()[:, 3]
    assert np.abs(remainder).max() < 1e-4 * np.abs(score).max()
    assert np.allclose(R.sum((1, 2, 3)), score, rtol=1e-3, atol=1e-3)


def test_simple_taylor_reports_what_is_left_over_with_biases():
    model, x = small_cnn(), images()
    R, remainder = attributions.simple_taylor(model, x, 3, return_remainder=True)
    gain = (model(x) - model(np.zeros_like(x))).numpy()[:, 3]
    assert np.allclose(R.sum((1, 2, 3)) + remainder, gain, atol=1e-12)
    assert np.abs(remainder).max() > 0.01


def test_simple_taylor_at_a_root_point():
    # f = x1^2 + 3 x2 around (1, 2): slopes 2 and 3
    model = function_model(lambda x: keras.ops.square(x[:, :1]) + 3 * x[:, 1:], 2)
    R, remainder = attributions.simple_taylor(model, np.array([[4.0, 7.0]]), 0, [1.0, 2.0], return_remainder=True)
    assert np.allclose(R, [[6, 15]])
    assert np.allclose(remainder, (16 + 21) - (1 + 6) - 21)


# --- integrated gradients


@pytest.mark.parametrize("rule", RULES)
def test_quadrature_weights_sum_to_one_and_straight_lines_are_exact(rule):
    alphas, weights = quadrature(rule, 7)
    assert len(alphas) == len(weights) == 7 and np.isclose(weights.sum(), 1)
    expected = {"left": 0.5 - 0.5 / 7, "right": 0.5 + 0.5 / 7}.get(rule, 0.5)
    assert np.isclose(weights @ alphas, expected)


def test_gauss_and_legendre_are_exact_on_polynomials_up_to_degree_2n_minus_1():
    alphas, weights = quadrature("gauss", 4)
    assert np.isclose(weights @ alphas**7, 1 / 8, rtol=1e-13)
    assert not np.isclose(weights @ alphas**8, 1 / 9, rtol=1e-8)


@pytest.mark.parametrize("rule", RULES)
def test_integrated_gradients_agree_with_a_plain_loop(rule):
    model, x, baseline, target = small_cnn(), images(), images(seed=2), np.array([3, 2, 1, 0, 1])
    alphas, weights = quadrature(rule, 9)
    average = sum(w * differences(model, baseline + a * (x - baseline), target) for a, w in zip(alphas, weights))
    ours = integrated_gradients(model, x, target, baseline, steps=9, rule=rule)
    assert np.abs(ours - (x - baseline) * average).max() < 1e-8


@pytest.mark.parametrize("rule", RULES)
def test_completeness(rule):
    model, x, baseline = small_cnn(), images(), images(seed=2)
    R, error = integrated_gradients(model, x, 1, baseline, 2000, rule, return_completeness_error=True)
    gain = (model(x) - model(baseline)).numpy()[:, 1]
    assert np.allclose(R.sum((1, 2, 3)) - gain, error, atol=1e-12)
    assert np.abs(error).max() < 2e-3 * np.abs(gain).max()


@pytest.mark.parametrize(
    ("function", "x", "expected"),
    [
        (lambda x: 2 * x[:, :1] - 3 * x[:, 1:] + 5, (4, 2), (8, -6)),  # linear: any number of steps
        (lambda x: x[:, :1] * x[:, 1:], (3, 5), (7.5, 7.5)),
        (lambda x: keras.ops.square(x[:, :1]) * x[:, 1:], (2, 3), (8, 4)),
        (lambda x: keras.ops.maximum(x[:, :1], x[:, 1:]), (3, 1), (3, 0)),
        (lambda x: keras.ops.minimum(x[:, :1], x[:, 1:]), (3, 1), (0, 1)),
        (lambda x: 1 - keras.ops.relu(1 - x[:, :1]) + 0 * x[:, 1:], (2, 1), (1, 0)),  # saturated
    ],
    ids=["linear", "product", "square times", "max", "min", "saturated"],
)
def test_integrated_gradients_on_paper(function, x, expected):
    R = integrated_gradients(function_model(function, 2), np.array([x], "float64"), 0, steps=1000)
    assert np.allclose(R, [expected], atol=1e-3)


def test_integrated_gradients_equal_gradient_x_input_without_biases():
    model, x = load_model("mnist_dense"), np.random.default_rng(0).random((9, 28, 28, 1), "float32")
    difference = integrated_gradients(model, x, 3, steps=20) - attributions.gradient_x_input(model, x, 3)
    assert np.abs(difference).max() < 1e-5


def test_baselines_of_every_shape():
    model, x, one = small_cnn(), images(), images(1, seed=2)
    full = integrated_gradients(model, x, 0, np.repeat(one, 5, 0))
    for baseline in (one, one[0]):
        assert np.array_equal(integrated_gradients(model, x, 0, baseline), full)
    by_number = integrated_gradients(model, x, 0, 0.5)
    assert np.array_equal(by_number, integrated_gradients(model, x, 0, np.full_like(x, 0.5)))


# --- SmoothGrad


def test_smoothgrad_is_a_mean_over_noisy_copies():
    model, x, target = small_cnn(), images(3), np.array([3, 0, 1])
    noise = np.random.default_rng(7).standard_normal((6, 8, 7, 2))
    maps = np.stack([differences(model, x + 0.2 * e, target) for e in noise])
    R, error = smoothgrad(model, x, target, 0.2, samples=6, seed=7, return_standard_error=True)
    assert np.abs(R - maps.mean(0)).max() < 1e-8
    assert np.abs(error - maps.std(0, ddof=1) / np.sqrt(6)).max() < 1e-8
    square, square_error = smoothgrad(model, x, target, 0.2, 6, variant="square", seed=7, return_standard_error=True)
    assert np.abs(square - (maps**2).mean(0)).max() < 1e-7
    assert np.abs(square_error - (maps**2).std(0, ddof=1) / np.sqrt(6)).max() < 1e-7
    assert np.abs(smoothgrad(model, x, target, 0.2, 6, variant="variance", seed=7) - maps.var(0)).max() < 1e-7


def test_smoothgrad_of_one_relu_is_the_normal_distribution_function():
    model = function_model(keras.ops.relu, 1)
    x = np.array([[-0.5], [0.0], [0.4]])
    R, error = smoothgrad(model, x, 0, sigma=0.3, samples=20_000, return_standard_error=True)
    assert (np.abs(R - scipy.stats.norm.cdf(x / 0.3)) < 5 * error + 1e-4).all()


def test_smoothgrad_without_noise_is_the_method_itself():
    model, x = small_cnn(), images()
    assert np.allclose(smoothgrad(model, x, 0, sigma=0, samples=3), attributions.gradient(model, x, 0), atol=1e-14)
    smooth = smoothgrad(model, x, 0, sigma=0, samples=2, method="integrated_gradients", steps=5)
    assert np.allclose(smooth, integrated_gradients(model, x, 0, steps=5), atol=1e-14)


def test_the_default_noise_is_a_share_of_each_images_range():
    model, x = small_cnn(), images(2) * np.array([1, 10]).reshape(2, 1, 1, 1)
    R = smoothgrad(model, x, 0, samples=4)
    for k in range(2):
        assert np.allclose(R[k], smoothgrad(model, x[k : k + 1], 0, sigma=0.15 * np.ptp(x[k]), samples=4)[0])


@pytest.mark.parametrize("batch_size", [1, 4, 8, 64])
def test_an_images_own_baseline_goes_with_its_copies(batch_size):
    model, x, baseline = small_cnn(), images(8), images(8, seed=2)
    how = {"sigma": 0.1, "samples": 8, "method": integrated_gradients, "steps": 3}
    together = smoothgrad(model, x, 0, baseline=baseline, batch_size=batch_size, **how)
    for k in range(8):
        alone = smoothgrad(model, x[k : k + 1], 0, baseline=baseline[k], **how)
        assert np.allclose(together[k], alone[0], atol=1e-12)


def test_seeds():
    model, x = small_cnn(), images()
    assert np.array_equal(smoothgrad(model, x, 0, seed=3), smoothgrad(model, x, 0, seed=3))
    assert not np.allclose(smoothgrad(model, x, 0, seed=3), smoothgrad(model, x, 0, seed=4))


# --- what all methods have in common


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_calling_convention(name, dtype):
    model, x = small_cnn(dtype=dtype), images(3, dtype=dtype)
    R = METHODS[name](model, x)
    assert isinstance(R, np.ndarray) and R.shape == x.shape and R.dtype == dtype
    assert np.array_equal(
        METHODS[name](model, tf.constant(x), tf.constant([0, 1, 2])), METHODS[name](model, x, [0, 1, 2])
    )
    assert np.array_equal(METHODS[name](model, x, 1), METHODS[name](model, x, [1, 1, 1]))
    assert METHODS[name](model, x[:0]).shape == (0, 8, 7, 2)


@pytest.mark.parametrize("name", METHODS)
def test_results_do_not_depend_on_the_batch(name):
    model, x = small_cnn(dtype="float32"), images(64, dtype="float32")
    whole = METHODS[name](model, x, batch_size=64)
    for batch_size in (1, 7):
        part = METHODS[name](model, x[:9], batch_size=batch_size)
        assert np.abs(part - whole[:9]).max() < 1e-6 * max(1, np.abs(whole).max())
    assert np.abs(METHODS[name](model, x[5:6]) - whole[5:6]).max() < 1e-6 * max(1, np.abs(whole).max())


@pytest.mark.parametrize("name", METHODS)
def test_methods_see_later_changes_of_the_weights(name):
    model, x = small_cnn(), images(2)
    METHODS[name](model, x, 0)
    *rest, kernel, bias = model.get_weights()
    model.set_weights([*rest, 2 * kernel, bias])
    assert np.allclose(METHODS[name](model, x, 0), METHODS[name](fresh(model), x, 0), atol=1e-12)


@pytest.mark.parametrize("name", METHODS)
def test_the_logit_is_explained_through_a_softmax_and_the_output_on_request(name):
    plain, headed, x = small_cnn(), small_cnn("softmax"), images(3)
    headed.set_weights(plain.get_weights())
    of_logits = METHODS[name](plain, x, 1)
    assert np.allclose(METHODS[name](headed, x, 1), of_logits, atol=1e-12)
    try:
        of_probabilities = METHODS[name](headed, x, 1, explain="output")
    except UnsupportedLayerError:  # there is no backward rule for it
        assert name in ("lrp", "deep_taylor", "deeplift")
    else:
        assert np.abs(of_probabilities - of_logits).max() > 0.1 * np.abs(of_logits).max()


def softmax(z):  # not Keras's
    return tf.nn.softmax(z)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_refuses_a_softmax_that_cannot_be_seen_and_images_that_are_mixed(name):
    with pytest.raises(ValueError, match="look like probabilities|no rule|no backward rule"):
        METHODS[name](small_cnn(softmax), images(3), 1)
    x = keras.Input((8, 7, 2), dtype="float64")
    centred = x - keras.ops.mean(x, 0, keepdims=True)
    with pytest.raises(ValueError, match="mixes the images|no backward rule"):
        METHODS[name](keras.Model(x, small_cnn()(centred)), images(3), 1)


def test_the_code_in_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: None)
    keras.utils.set_random_seed(0)
    chain = [keras.Input((16, 16, 3)), keras.layers.Conv2D(4, 3, activation="relu"), keras.layers.Flatten()]
    model = keras.Sequential([*chain, keras.layers.Dense(5, activation="softmax")])
    names = {"model": model, "x": np.random.default_rng(0).random((2, 16, 16, 3), "float32")}
    blocks = re.findall("```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert len(blocks) == 2
    for block in blocks:
        exec(block, names)
    assert (tmp_path / "maps.png").stat().st_size > 10_000
    assert names["R"].shape == names["x"].shape and len(names["maps"]) == len(METHODS)


def fresh(model):
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


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


def test_one_trace_serves_all_batch_sizes_and_targets():
    model = small_cnn()
    attributions.gradient(model, images(3), 0)
    found = network.network_of(model)
    compiled = found._backward
    for n, target in ((1, 1), (7, None), (20, np.arange(20) % 4)):
        attributions.gradient(model, images(n), target)
        integrated_gradients(model, images(n), target, steps=n + 2)
        smoothgrad(model, images(n), target, samples=n + 1)
    assert network.network_of(model) is found and found._backward is compiled


def test_models_that_are_gone_are_forgotten():
    gone = []
    for seed in range(5):
        for head in (None, "softmax"):
            model = small_cnn(head, seed=seed)
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


def test_memory_does_not_grow_with_steps():
    model, x = small_cnn(dtype="float32"), images(1, dtype="float32")
    peaks = []
    for steps in (300, 3000):
        integrated_gradients(model, x, 0, steps=steps)
        tracemalloc.start()
        integrated_gradients(model, x, 0, steps=steps)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0] + 100_000


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
