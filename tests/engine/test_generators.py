"""The networks that make digits: their trainings in small, what their cards promise, how they are loaded."""

import itertools
import json
import os
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

import models
from models import boltzmann, code_space, denoising, makers, train
from tests.helpers import refused
from utils import data
from utils.experts import denoiser_expert

FILES = {
    "mnist_generator": ["codes.npz", "json", "log.csv", "snapshots.npz", "weights.h5"],
    "mnist_discriminator": ["json", "weights.h5"],
    "mnist_denoiser": ["json", "weights.h5"],
    "mnist_rbm": ["json", "npz"],
}
needs_mnist = pytest.mark.skipif(not data.has_real_mnist(), reason="needs MNIST")


@pytest.fixture(scope="module")
def digits():
    """`(x, y)` of 300 test digits, of MNIST or of those that stand in its place; MNIST's first ones are easier."""
    x, y = data.load_mnist()[1]
    some = np.arange(300) * (len(x) // 300)
    return x[some], y[some]


@pytest.fixture(scope="module")
def classifier():
    return models.load_model("mnist_cnn")


@pytest.fixture
def folder(tmp_path, monkeypatch, digits):
    """A weights folder with the two classifiers alone, and few digits to train on."""
    for name, end in itertools.product(("mnist_cnn", "mnist_cnn_max"), ("json", "weights.h5")):
        shutil.copy(models.WEIGHTS / f"{name}.{end}", tmp_path)
    monkeypatch.setattr(models, "WEIGHTS", tmp_path)
    x, y = digits
    monkeypatch.setattr(data, "load_mnist", lambda: ((x[:200], y[:200]), (x[200:], y[200:])))
    return tmp_path


def written(folder, name):
    return sorted(path.name.removeprefix(f"{name}.") for path in folder.glob(f"{name}.*"))


# --- the networks


def test_the_generator_makes_images_and_takes_numbers_below_0_for_0():
    generator = models.ARCHITECTURES["mnist_generator"]()
    code = np.random.default_rng(0).normal(size=(3, 256)).astype("float32")
    made = generator(code).numpy()
    assert made.shape == (3, 28, 28, 1) and made.min() > 0 and made.max() < 1
    assert np.array_equal(made, generator(np.maximum(code, 0)))
    assert models.ARCHITECTURES["mnist_discriminator"]()(made).shape == (3, 1)


def test_the_denoiser_returns_images_whose_values_are_not_bounded():
    denoiser, x = models.ARCHITECTURES["mnist_denoiser"](), np.full((2, 28, 28, 1), 7.0, "float32")
    for sign in (1, -1):
        cleaned = denoiser(sign * x).numpy()
        assert cleaned.shape == x.shape and np.abs(cleaned).max() > 1
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in denoiser.layers)


# --- the generator's training


def test_training_the_generator_writes_what_it_promises(folder):
    card = train.train("mnist_generator", folder, epochs=2, images=200)
    for name in ("mnist_generator", "mnist_discriminator"):
        assert written(folder, name) == FILES[name]
        assert models.load_model(name).count_params() == models.model_card(name)["parameters"]
    assert json.loads((folder / "mnist_generator.json").read_text()) == card
    rows, codes = models.training_log("mnist_generator"), models.load_arrays("mnist_generator", "codes")
    assert [row["epoch"] for row in rows] == [1, 2] and tuple(rows[0]) == code_space.LOG
    assert rows[1]["test_image_loss"] == card["test_image_loss"] < rows[0]["test_image_loss"]
    assert {key: array.shape for key, array in codes.items()} == {
        "mean": (256,),
        "std": (256,),
        "class_means": (10, 256),
    }
    shown = models.load_arrays("mnist_generator", "snapshots")
    assert shown["steps"].tolist() == [0, 1, 2, 3, 4] and shown["images"].dtype == "uint8"
    assert shown["images"].shape == (5, 10, 28, 28) and (shown["images"][0] != shown["images"][-1]).any()
    assert 0 < models.model_card("mnist_discriminator")["test_accuracy"] <= 1


def test_losses_are_those_of_the_docstring_and_what_is_left_out_is_not_followed(classifier, digits):
    """One step with the image loss alone is a step of Keras's own training; all three losses are measured before it."""
    x, y = (array[:64] for array in digits)
    got = code_space.fit(classifier, ((x, y), (x, y)), 1, weights={"image": 1, "code": 0, "adversarial": 0})
    keras.utils.set_random_seed(0)
    generator, discriminator = (models.ARCHITECTURES[f"mnist_{name}"]() for name in ("generator", "discriminator"))
    c = code_space.encoder(classifier).predict(x, verbose=0)
    made = generator.predict(c, verbose=0)
    again = code_space.encoder(classifier).predict(made, verbose=0)
    row = got.rows[0]
    assert abs(row["image_loss"] - np.mean((made - x) ** 2)) < 2e-5
    assert abs(row["code_loss"] - np.mean((again - c) ** 2) / np.mean(c.var(0))) < 2e-4
    assert abs(row["adversarial_loss"] - np.mean(np.log1p(np.exp(-discriminator(made))))) < 2e-4
    generator.compile(keras.optimizers.Adam(1e-3), "mse")
    generator.train_on_batch(c, x)
    for ours, kerass in zip(got.generator.get_weights(), generator.get_weights(), strict=True):
        assert np.abs(ours - kerass).max() < 1e-4  # a step of Adam is 1e-3


@pytest.mark.parametrize("weights", [{}, {"code": 0}, {"image": 0, "adversarial": 2.0}])
def test_what_is_followed_is_the_weighted_sum_of_the_losses(classifier, digits, monkeypatch, weights):
    """Without compilation, so that the losses can be seen where they are followed."""
    weights, networks = (
        code_space.checked(weights),
        [models.ARCHITECTURES[f"mnist_{name}"]() for name in ("generator", "discriminator")],
    )
    followed = []
    monkeypatch.setattr(code_space, "follow", lambda tape, loss, network, optimizer: followed.append((loss, network)))
    monkeypatch.setattr(tf, "function", lambda **options: lambda function: function)
    step = code_space.one_step(*networks, code_space.encoder(classifier), 1.3, weights)
    *losses, _ = step(digits[0][:4], np.ones((4, 256), "float32")).numpy()
    assert [network for _, network in followed] == networks
    assert abs(followed[0][0] - np.dot(list(weights.values()), losses)) < 1e-5


@pytest.mark.parametrize("weights", [{"pixels": 1}, {"code": -1}, {"image": float("nan")}, dict.fromkeys("abc", 0)])
def test_weights_that_say_nothing_are_refused(weights):
    with refused("cannot be weighted so", "Expected: numbers from 0 for some of image, code, adversarial"):
        code_space.checked(weights)
    with refused("one of the three above 0"):
        code_space.checked(dict.fromkeys(code_space.WEIGHTS, 0))


def test_a_class_without_digits_has_no_mean_code():
    codes = code_space.describe(np.ones((4, 256), "float32"), np.array([0, 0, 1, 1]))
    assert np.isfinite(codes.class_means[:2]).all() and np.isnan(codes.class_means[2:]).all()


# --- the denoiser


def test_training_the_denoiser_writes_a_network_that_loads(folder):
    card = train.train("mnist_denoiser", folder, epochs=1, images=200)
    assert written(folder, "mnist_denoiser") == FILES["mnist_denoiser"] and card["sigma"] == 0.3
    assert models.load_model("mnist_denoiser").count_params() == card["parameters"]


def test_noise_has_the_deviation_of_the_card_and_is_not_cut_off():
    x = np.zeros((20, 28, 28, 1), "float32")
    first, again, other = (denoising.noisy(x, seed).numpy() for seed in ((0, 1), (0, 1), (0, 2)))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert abs(first.std() - denoising.SIGMA) < 4 * 0.3 / np.sqrt(2 * first.size) and first.min() < -0.5


def test_the_score_is_that_of_a_normal_density_if_the_denoiser_is_its_best():
    """x from N(m, t^2) with noise: r(x) = x + (m - x) s^2 / (s^2 + t^2), and the score is (m - x) / (s^2 + t^2)."""
    m, t, s = 0.4, 0.5, denoising.SIGMA
    x = np.linspace(-1, 2, 784).reshape(1, 28, 28, 1)
    images = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(images)
        value = denoiser_expert(lambda x: x + (m - x) * s**2 / (s**2 + t**2), s)(images)
    got = tape.gradient(value, images)
    assert np.allclose(got, (m - x) / (s**2 + t**2), rtol=1e-12)


# --- the Boltzmann machine


def tiny(seed=0, visible=5, hidden=3, scale=1.0):
    rng = np.random.default_rng(seed)
    return boltzmann.RBM(*(scale * rng.normal(size=shape) for shape in ((visible, hidden), visible, hidden)))


def states(n):
    return np.array(list(itertools.product((0.0, 1.0), repeat=n)))


def energies(rbm, v):
    """E(v, h) for each v and all states of the hidden units, in loops."""
    w, b, c = rbm
    return np.array([[-b @ one - c @ h - one @ w @ h for h in states(len(c))] for one in v])


def test_the_free_energy_is_that_of_a_sum_over_hidden_states():
    rbm, v = tiny(), states(5)
    expected = -np.log(np.exp(-energies(rbm, v)).sum(1))
    assert np.allclose(boltzmann.free_energy(rbm, v), expected, rtol=1e-12)


def test_the_gradient_of_the_free_energy_is_what_is_expected_of_the_hidden_units():
    """dF/dv = -b - W sigmoid(c + v W), also between 0 and 1."""
    (w, b, c), v = tiny(), tf.constant(np.random.default_rng(3).random((4, 5)))
    with tf.GradientTape() as tape:
        tape.watch(v)
        total = tf.reduce_sum(boltzmann.free_energy(tiny(), v))
    expected = -b - 1 / (1 + np.exp(-c - v.numpy() @ w)) @ w.T
    assert np.allclose(tape.gradient(total, v), expected, rtol=1e-12)


def test_annealed_importance_sampling_finds_log_z():
    rbm, base = tiny(1), np.linspace(-1, 1, 5)
    expected = np.log(np.exp(-energies(rbm, states(5))).sum())
    got, error = boltzmann.log_partition(rbm, base, chains=500, temperatures=200)
    assert 0 < error < 0.02 and abs(got - expected) < 4 * error


def test_gibbs_sampling_visits_states_as_often_as_they_are_probable():
    rbm, rng = tiny(2, visible=3, hidden=2), np.random.default_rng(0)
    v, p = boltzmann.gibbs(rbm, np.zeros((20_000, 3)), 30, rng)
    assert p.shape == v.shape and set(np.unique(v)) == {0, 1}
    expected = np.exp(-energies(rbm, states(3))).sum(1)
    got = np.bincount((v @ [4, 2, 1]).astype(int), minlength=8) / len(v)
    assert np.abs(got - expected / expected.sum()).max() < 4 * np.sqrt(0.25 / len(v))


def test_training_learns_which_states_occur():
    """Four pixels of which two always agree and the others never do: four states of 16, so log p is at most -log 4."""
    pairs = np.array([[0, 0, 0, 1], [0, 0, 1, 0], [1, 1, 0, 1], [1, 1, 1, 0]], "float32")
    rbm = boltzmann.fit(np.tile(pairs, (250, 1)), 100, hidden=4, learning_rate=1.0)
    log_z = np.log(np.exp(-energies(rbm, states(4))).sum())
    assert -np.log(4) - 0.2 < np.mean(-boltzmann.free_energy(rbm, pairs) - log_z) <= -np.log(4)


def test_training_the_machine_writes_arrays_that_load(folder, monkeypatch):
    quality = boltzmann.quality
    monkeypatch.setattr(boltzmann, "quality", lambda *args: quality(*args, temperatures=20))
    card = train.train("mnist_rbm", folder, epochs=1, images=200)
    assert written(folder, "mnist_rbm") == FILES["mnist_rbm"]
    rbm = models.load_rbm()
    assert [array.shape for array in rbm] == [(784, 500), (784,), (500,)] and {str(array.dtype) for array in rbm} == {
        "float32"
    }
    assert card["parameters"] == 784 * 500 + 784 + 500 and len(card["compared"]) == 2
    assert card["test_log_likelihood"] == max(kind["test_log_likelihood"] for kind in card["compared"].values())


def test_a_damaged_or_missing_machine_is_refused(tmp_path, monkeypatch):
    for end in FILES["mnist_rbm"]:
        shutil.copy(models.WEIGHTS / f"mnist_rbm.{end}", tmp_path)
    monkeypatch.setattr(models, "WEIGHTS", tmp_path)
    path = tmp_path / "mnist_rbm.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with refused("mnist_rbm.npz is not the file that mnist_rbm.json describes", "git checkout", "models.train"):
        models.load_rbm()
    path.unlink()
    with refused("mnist_rbm.npz is missing", "python -m models.train mnist_rbm"):
        models.load_rbm()
    os.remove(tmp_path / "mnist_rbm.json")
    path.write_bytes(content)
    with refused("mnist_rbm.json is missing"):
        models.load_rbm()
    with refused("models.load_rbm()", "Received: 'mnist_rbm'"):
        models.load_model("mnist_rbm")


# --- what the cards promise


@pytest.mark.parametrize("name", FILES)
def test_cards_and_files(name):
    card = models.model_card(name)
    assert card["name"] == name and written(models.WEIGHTS, name) == FILES[name]
    assert card["epochs"] == makers.EPOCHS[name] and card["minutes"] > 0 and card["test_images"] == 10_000
    assert {"seed", "versions", "trained_on", "sha256", "optimizer", "learning_rate", "batch_size"} <= set(card)
    for end in FILES[name]:
        if end != "json":
            assert models.verified(name, end).stat().st_size < 3_500_000
    if name in models.ARCHITECTURES:
        assert models.load_model(name).count_params() == card["parameters"]


def test_the_generator_was_trained_on_the_codes_of_this_classifier():
    assert models.model_card("mnist_generator")["encoder_sha256"] == models.model_card("mnist_cnn")["sha256"]


def test_the_log_and_the_snapshots_show_the_same_training():
    rows, card = models.training_log("mnist_generator"), models.model_card("mnist_generator")
    shown = models.load_arrays("mnist_generator", "snapshots")
    assert len(rows) == card["epochs"] and rows[-1]["test_code_loss"] == card["test_code_loss"]
    assert shown["steps"][0] == 0 and shown["steps"][-1] == card["epochs"] * 469 and len(shown["steps"]) == 8
    assert shown["images"].shape == (8, 10, 28, 28)
    last = shown["images"][-1].astype("float32")[..., None] / 255
    assert models.load_model("mnist_cnn_max")(last).numpy().argmax(-1).tolist() == list(range(10))


def test_the_mean_code_of_a_class_is_a_digit_of_this_class():
    codes = models.load_arrays("mnist_generator", "codes")
    made = models.load_model("mnist_generator")(codes["class_means"]).numpy()
    for name in ("mnist_cnn", "mnist_cnn_max"):
        assert models.load_model(name)(made).numpy().argmax(-1).tolist() == list(range(10))


@needs_mnist
def test_reconstructions_are_read_as_their_class(classifier, digits):
    card, (x, y) = models.model_card("mnist_generator"), digits
    codes = code_space.Codes(**models.load_arrays("mnist_generator", "codes"))
    assert abs(code_space.deviation(codes) - card["code_deviation"]) < 1e-3
    encode = code_space.encoder(classifier)
    c, generator = encode.predict(x, verbose=0), models.load_model("mnist_generator")
    image, code = code_space.reconstruction(generator, encode, codes, x, c)
    assert abs(image / card["test_image_loss"] - 1) < 0.15 and abs(code / card["test_code_loss"] - 1) < 0.15
    promised = card["read_by_mnist_cnn_max_as_their_class"]
    assert promised > 0.98
    read = train.accuracy(models.load_model("mnist_cnn_max"), generator.predict(c, verbose=0), y)
    assert abs(read - promised) < 4 * np.sqrt(promised * (1 - promised) / len(x))


@needs_mnist
def test_the_denoiser_takes_most_of_the_noise_away(digits):
    card = models.model_card("mnist_denoiser")
    error = denoising.test_error(models.load_model("mnist_denoiser"), digits[0])
    assert abs(error / card["test_mean_squared_error"] - 1) < 0.1 and error < 0.08 * card["mean_squared_noise"]


@needs_mnist
def test_the_machine_finds_digits_probable_that_it_has_not_seen(digits):
    card, rng, rbm = models.model_card("mnist_rbm"), np.random.default_rng(0), models.load_rbm()
    v = boltzmann.draw(digits[0].reshape(-1, 784), rng)
    test, shuffled = (np.asarray(boltzmann.free_energy(rbm, images)) for images in (v, rng.permuted(v, axis=1)))
    assert test.max() < shuffled.min()
    gap = (shuffled - test).mean()
    assert abs(gap - card["free_energy_shuffled_less_test"]) < 4 * (shuffled - test).std() / np.sqrt(len(v))
    assert abs(card["free_energy_test_less_training"]) < 2 and card["test_log_likelihood"] > -105
