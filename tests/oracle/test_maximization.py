"""Activation maximization beside maxima that are known on paper, and experts beside sums and differences."""

import functools
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L
from scipy.stats import multivariate_normal
from sklearn.covariance import LedoitWolf

from tests.helpers import F, average, close, conv, dense, noise, pixels, sequential
from utils import experts
from utils.inside import activations
from utils.maximization import maximize, maximize_code

SHAPE = (4, 3, 1)
BOX = {"low": -50.0, "high": 50.0}


@functools.cache
def linear(head=None, classes=3):
    """Logits W.x + b."""
    return sequential(SHAPE, L.Flatten(**F), dense(classes), *([L.Activation(head, **F)] if head else []))


def slopes(model):
    """W as images `[classes, ...]`."""
    return np.moveaxis(model.layers[-1].get_weights()[0].reshape(*SHAPE, -1), -1, 0)


@functools.cache
def network():
    layers = [conv(4, 3, "elu", padding="same", name="map"), conv(5, 3, "elu", name="second"), average(), dense(3)]
    return sequential((7, 6, 1), *layers)


# --- images


@pytest.mark.parametrize("weight", [1.0, 0.1])
def test_a_linear_score_less_a_penalty_has_its_top_on_paper(weight):
    """w.x - lambda |x - c|^2 is largest at c + w / 2 lambda, and within the box at what is nearest to that."""
    model, centre = linear(), pixels(*SHAPE)
    top = centre + slopes(model) / (2 * weight)
    expert = experts.l2_expert(centre)
    found = maximize(model, [0, 1, 2], objective="logit", expert=expert, weight=weight, low=-5, high=5)
    close(found, np.clip(top, -5, 5), 1e-4)
    cut_off = maximize(model, 1, objective="logit", expert=expert, weight=weight)
    assert ((top[1] < 0) | (top[1] > 1)).any()
    close(cut_off, np.clip(top[1:2], 0, 1), 1e-4)


def test_a_linear_score_and_a_gaussian_have_their_top_on_paper():
    """w.x - (x - m)' S^-1 (x - m) / 2 is largest at m + S w."""
    seen = noise(40, 12) @ noise(12, 12, seed=2)
    fit = LedoitWolf().fit(seen)
    model = linear()
    top = fit.location_ + fit.covariance_ @ slopes(model)[2].ravel()
    expert = experts.gaussian_expert(seen.reshape(40, *SHAPE))
    found = maximize(model, 2, objective="logit", expert=expert, steps=1000, **BOX)
    close(found, top.reshape(1, *SHAPE), 1e-3)


def test_logits_that_can_be_met_are_met():
    v = np.array([[3.0, -2.0, 0.5], [-1.0, 4.0, 1.0]])
    x, history = maximize(linear(), objective=v, steps=800, return_history=True, **BOX)
    assert np.abs(linear()(x) - v).max() < 1e-3
    close(history.answer[0], -np.square(linear()(history.images[0]).numpy() - v).sum(1))


@pytest.mark.parametrize("head", [None, "softmax", "sigmoid"])
def test_the_probability_is_that_of_the_models_own_head(head):
    model = linear(head)
    x, history = maximize(model, [2, 0], steps=5, return_history=True)
    p = (keras.ops.softmax(model(x)) if head is None else model(x)).numpy()
    close(history.answer[-1], np.log(p[[0, 1], [2, 0]]), 1e-6)
    assert (history.answer[-1] > history.answer[0]).all()


def test_a_single_score_is_that_of_a_sigmoid():
    x, history = maximize(linear(None, 1), 0, steps=5, return_history=True)
    close(history.answer[-1], np.log(1 / (1 + np.exp(-linear(None, 1)(x).numpy()[:, 0]))), 1e-9)


def test_units_are_channels_or_places_of_them():
    x, history = maximize(network(), layer="second", unit=[3, 0], steps=20, return_history=True)
    close(history.answer[-1], activations(network(), x, "second")["second"].mean((1, 2))[[0, 1], [3, 0]])
    x, history = maximize(network(), layer="map", unit=(2, 3, 1), steps=20, return_history=True)
    close(history.answer[-1], activations(network(), x, "map")["map"][:, 2, 3, 1])
    away = np.abs(x - history.images[0])[0, ..., 0]
    seen = np.zeros_like(away, bool)
    seen[1:4, 2:5] = True  # what a window of 3 x 3 pixels around (2, 3) covers
    assert away[seen].min() > 0.1 and not away[~seen].any()


def test_each_image_is_found_by_itself_and_again():
    expert, options = experts.l2_expert(0.2), {"steps": 30, "jitter": 2, "weight": 0.1}
    both = maximize(network(), [2, 1], expert=expert, **options)
    for k, target in enumerate([2, 1]):
        close(maximize(network(), target, expert=expert, **options), both[k : k + 1], 1e-9)
    assert np.abs(maximize(network(), [2, 1], expert=expert, seed=1, **options) - both).max() > 1e-3
    still = [maximize(network(), 1, seed=seed, start=0.5, steps=30) for seed in (0, 1)]
    assert np.array_equal(*still)  # nothing is drawn where there is neither noise nor jitter


def test_jitter_moves_what_the_network_sees_and_not_the_image():
    model = sequential((6, 6, 1), conv(1, 1, None, name="map"), average(), dense(1))
    one = maximize(model, layer="map", unit=(2, 3, 0), start=0.5, steps=60)
    moved = maximize(model, layer="map", unit=(2, 3, 0), start=0.5, steps=60, jitter=1)
    x, history = maximize(network(), 1, steps=9, jitter=3, return_history=True)  # at the end, no shift
    close(history.answer[-1], np.log(keras.ops.softmax(network()(x)).numpy()[:, 1]))
    assert (one != 0.5).sum() == 1 and (moved[0, 1:4, 2:5] != 0.5).all() and (moved != 0.5).sum() == 9


def test_jitter_is_not_for_the_expert():
    centre = pixels(7, 6, 1)
    found = maximize(network(), 0, expert=experts.l2_expert(centre), weight=1e3, jitter=2)
    assert np.abs(found - centre).max() < 1e-3


def test_the_unit_of_the_score_changes_nothing_and_the_model_is_only_read():
    small = keras.models.clone_model(linear())
    small.set_weights([1e-9 * w for w in linear().get_weights()])
    before = [w.copy() for w in linear().get_weights()]
    large, tiny = (maximize(model, 1, objective="logit", steps=20) for model in (linear(), small))
    close(tiny, large, 1e-6)
    assert all(map(np.array_equal, before, linear().get_weights()))


def test_the_history_begins_at_the_start_and_ends_at_the_image():
    x, history = maximize(network(), [0, 2], steps=100, expert=experts.l2_expert(), weight=0.5, return_history=True)
    assert history.answer.shape == history.objective.shape == (101, 2)
    assert history.steps[0] == 0 and history.steps[-1] == 100 and history.images.shape == (31, 2, 7, 6, 1)
    assert np.array_equal(history.images[-1], x) and np.abs(history.images[0] - 0.5).max() < 0.15
    close(history.objective[-1], history.answer[-1] - 0.5 * np.square(x).sum((1, 2, 3)))
    few = maximize(network(), 0, steps=3, return_history=True)[1]
    assert few.steps.tolist() == [0, 1, 2, 3]


def test_the_steps_are_those_of_kerass_adam():
    model, steps = network(), 12
    x = keras.Variable(np.full((1, 7, 6, 1), 0.5))
    rate = keras.optimizers.schedules.CosineDecay(0.05, steps)
    adam = keras.optimizers.Adam(rate, epsilon=1e-12)
    for _ in range(steps):
        with tf.GradientTape() as tape:
            loss = -tf.math.log_softmax(model(x.value))[0, 1]
        adam.apply([tape.gradient(loss, x.value)], [x])
        x.assign(np.clip(x, 0, 1))
    close(maximize(model, 1, start=0.5, steps=steps), np.asarray(x), 1e-5)


def test_an_expert_may_change_from_call_to_call():
    centre = 0.0

    def expert(images):
        return -tf.reduce_sum(tf.square(images - centre), [1, 2, 3])

    first = maximize(linear(), 0, objective="logit", expert=expert, weight=100.0)
    centre = 1.0
    assert first.max() < 0.1 < 0.9 < maximize(linear(), 0, objective="logit", expert=expert, weight=100.0).min()


# --- codes


@functools.cache
def generator():
    return sequential((5,), dense(42, "tanh"), L.Reshape((7, 6, 1), **F))


def test_at_the_top_of_the_codes_the_slopes_cancel():
    """Of log p(c|g(z)) by finite differences, and of the penalty on paper."""
    centre, target = noise(2, 5), [1, 0]
    images, z = maximize_code(network(), generator(), target, centre=centre, l2=0.05, steps=600)
    close(images, generator()(z).numpy())

    def log_p(z):
        return np.log(keras.ops.softmax(network()(generator()(z))).numpy()[[0, 1], target])

    for k in range(5):
        h = 1e-4 * np.eye(5)[k]
        slope = (log_p(z + h) - log_p(z - h)) / 2e-4
        assert np.abs(slope - 0.1 * (z - centre)[:, k]).max() < 1e-4
    assert np.abs(z - centre).max() > 0.01


def test_several_starts_for_one_class():
    starts = noise(3, 5)
    images, z, history = maximize_code(network(), generator(), 2, start=starts, steps=10, return_history=True)
    assert images.shape == (3, 7, 6, 1) and z.shape == (3, 5) and history.images.shape == (11, 3, 7, 6, 1)
    close(history.images[0], generator()(starts).numpy())
    close(history.images[-1], images)
    alone = maximize_code(network(), generator(), 2, start=starts[1], steps=10)
    close(alone[1], z[1:2], 1e-9)


# --- experts


def bits(n):
    return np.array(list(itertools.product([0, 1], repeat=n)))


MACHINE = noise(12, 6), noise(12, seed=2), noise(6, seed=3)
SEEN = noise(30, *SHAPE) * pixels(*SHAPE)
EXPERTS = {
    "l2": experts.l2_expert(0.3),
    "l2 of an image": experts.l2_expert(pixels(*SHAPE)),
    "total variation": experts.total_variation_expert,
    "gaussian": experts.gaussian_expert(SEEN),
    "machine": experts.rbm_expert(*MACHINE),
}


@pytest.mark.parametrize("name", EXPERTS)
def test_slopes_of_experts_by_differences(name):
    x, h, v = pixels(3, *SHAPE), 1e-5, noise(3, *SHAPE, seed=5)
    images = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(images)
        value = EXPERTS[name](images)
    up, down = (EXPERTS[name](tf.constant(x + sign * h * v)).numpy() for sign in (1, -1))
    close((tape.gradient(value, images).numpy() * v).sum((1, 2, 3)), (up - down) / (2 * h), 1e-6)


def test_values_of_experts_by_hand():
    x = pixels(3, *SHAPE)
    close(EXPERTS["l2"](tf.constant(x)).numpy(), -np.square(x - 0.3).sum((1, 2, 3)))
    steps = [np.abs(np.diff(x, axis=axis)).sum((1, 2, 3)) for axis in (1, 2)]
    close(EXPERTS["total variation"](tf.constant(x)).numpy(), -sum(steps), 5e-3)
    assert EXPERTS["total variation"](tf.ones((1, *SHAPE))).numpy() == 0


def test_a_gaussian_beside_scipy():
    fit = LedoitWolf().fit(SEEN.reshape(30, -1))
    x = noise(4, 12, seed=9)
    density = multivariate_normal(fit.location_, fit.covariance_).logpdf
    ours = EXPERTS["gaussian"](tf.constant(x.reshape(4, *SHAPE))).numpy()
    close(ours - ours[0] + 1, density(x) - density(x[0]) + 1, 1e-8)


def test_a_free_energy_is_a_sum_over_all_hidden_states():
    W, a, b = MACHINE
    x, h = bits(12)[::500].astype(float), bits(6)
    energy = x @ a[:, None] + h @ b + x @ W @ h.T  # [images, states]
    images = tf.constant(x.reshape(-1, *SHAPE))
    close(EXPERTS["machine"](images).numpy(), np.log(np.exp(energy).sum(1)))


def test_a_denoiser_has_a_slope_alone():
    denoiser = sequential(SHAPE, conv(1, 3, None, padding="same"))
    x = tf.constant(pixels(2, *SHAPE))
    for r in (denoiser, lambda images: 0.5 * images):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = experts.denoiser_expert(r, 0.2)(x)
        close(tape.gradient(value, x).numpy(), (r(x).numpy() - x.numpy()) / 0.04)
        assert not value.numpy().any()


def test_a_denoiser_leads_to_what_it_leaves_alone():
    model = linear()
    expert = experts.denoiser_expert(lambda images: 0.25 + 0 * images, 0.01)
    assert np.abs(maximize(model, 1, objective="logit", expert=expert) - 0.25).max() < 1e-3


@pytest.mark.parametrize("name", [*EXPERTS, "denoiser"])
def test_experts_take_arrays_of_any_numbers(name):
    expert = EXPERTS.get(name, experts.denoiser_expert(lambda images: 0.5 * images, 0.2))
    x = np.round(pixels(3, *SHAPE))
    for dtype in ("int64", "uint8", "bool", "float32", "float64"):
        close(np.asarray(expert(x.astype(dtype)), "float64") + 1, expert(tf.constant(x)).numpy() + 1, 1e-5)


# --- numbers that are too small, too large, or next to nothing beside others


def two_logits(scale, dtype):
    model = keras.Sequential([keras.Input((2,), dtype=dtype), L.Dense(2, dtype=dtype)])
    model.set_weights([scale * np.array([[1.0, 0.0], [-1.0, 0.0]]), np.zeros(2)])
    return model


@pytest.mark.parametrize("scale", [1e-3, 1, 300])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_top_is_the_same_in_any_type_and_unit(scale, dtype):
    """x_1 - x_2 less 2 |x - 0.4|^2 is largest at (0.65, 0.15)."""
    expert = experts.l2_expert(0.4)
    found = maximize(two_logits(scale, dtype), 0, objective="logit", expert=expert, weight=2 * scale, start=0.5)
    close(found.astype("float64"), np.array([[0.65, 0.15]]), 1e-2 if dtype == "float16" else 1e-5)


def test_codes_in_float16():
    draw = keras.Sequential([keras.Input((2,), dtype="float16"), L.Identity(dtype="float16")])
    _, z = maximize_code(two_logits(1, "float16"), draw, 0, l2=0.1)
    _, expected = maximize_code(two_logits(1, "float64"), sequential((2,), L.Identity(**F)), 0, l2=0.1)
    close(z.astype("float64"), expected, 1e-2)


def test_a_probability_next_to_1_leads_up_in_steps_of_the_same_length():
    """Slopes of 1e-24, whose squares are 0 in float32."""
    steps = []
    for dtype in ("float32", "float64"):
        model = keras.Sequential([keras.Input((3,), dtype=dtype), L.Dense(1, activation="sigmoid", dtype=dtype)])
        model.set_weights([np.array([[0.5], [-1.0], [2.0]]), np.array([55.0])])
        steps.append(maximize(model, 0, start=0.5, steps=3).astype("float64"))
    close(*steps, 1e-4)


def test_a_softmax_that_looks_like_a_sigmoid_is_none():
    model = sequential((2,), L.Dense(3, activation="softmax", **F))
    model.set_weights([np.array([[1.0, 2, 0], [0, 1, 1]]), np.array([12.0, -12, -12])])
    _, history = maximize(model, 1, start=0.5, steps=1, return_history=True)
    close(history.answer[0], np.log(model(np.full((1, 2), 0.5)).numpy()[:, 1]), 1e-6)


def test_an_expert_that_is_a_model_is_only_read():
    layers = [L.RandomFlip(), L.BatchNormalization(), L.Flatten(), L.Dense(1), L.Reshape(())]
    density = keras.Sequential([keras.Input(SHAPE), *layers])
    before = [np.copy(values) for values in density.get_weights()]
    maximize(linear(), [0, 1], expert=density, steps=3)
    assert all(np.array_equal(a, b) for a, b in zip(before, density.get_weights(), strict=True))


def test_a_slope_that_is_rounding_alone_leads_nowhere():
    """In float32 each image is found by itself, though sums over a batch are rounded in another order."""
    keras.utils.set_random_seed(3)
    layers = [L.Conv2D(16, 3, activation="relu"), L.MaxPooling2D(), L.Conv2D(16, 3, activation="relu"), L.Flatten()]
    model = keras.Sequential([keras.Input((16, 16, 3)), *layers, L.Dense(10)])
    together, alone = maximize(model, np.arange(10)), maximize(model, 8)
    assert np.abs(together[8] - alone[0]).max() < 0.01


def test_an_expert_may_be_larger_than_a_score_in_float16():
    """|x - 128|^2 of 768 values up to 255 is more than float16 can hold; a millionth of it is not."""
    layers = [L.Flatten(dtype="mixed_float16"), L.Dense(2, dtype="mixed_float16")]
    model = keras.Sequential([keras.Input((16, 16, 3)), *layers])
    wide = {"low": 0.0, "high": 255.0, "weight": 1e-6, "steps": 3, "start": 200.0}
    _, history = maximize(model, 0, expert=experts.l2_expert(128.0), return_history=True, **wide)
    close(history.objective[:1] - history.answer[:1], np.array([[-1e-6 * 768 * 72**2]]), 1e-2)
