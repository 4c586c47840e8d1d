"""How every method is called: arrays, targets, batches, and the score that is explained."""

import re
import tracemalloc

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.helpers import BACKWARD, METHODS, ROOT, images, net_of, noise, pixels, shared_cnn, small_cnn
from utils import attributions
from utils.attributions import deeplift, integrated_gradients, smoothgrad
from utils.parts import UnsupportedLayerError


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_calling_convention(name, dtype):
    model, x = shared_cnn(None, dtype), images(3, dtype=dtype)
    R = METHODS[name](model, x)
    assert isinstance(R, np.ndarray) and R.shape == x.shape and R.dtype == dtype
    assert np.array_equal(
        METHODS[name](model, tf.constant(x), tf.constant([0, 1, 2])), METHODS[name](model, x, [0, 1, 2])
    )
    assert np.array_equal(METHODS[name](model, x, 1), METHODS[name](model, x, [1, 1, 1]))
    assert METHODS[name](model, x[:0]).shape == (0, 8, 7, 2)


@pytest.mark.parametrize("name", METHODS)
def test_results_do_not_depend_on_the_batch(name):
    model, x = shared_cnn(None, "float32"), images(64, dtype="float32")
    whole = METHODS[name](model, x, batch_size=64)
    for batch_size in (1, 7):
        part = METHODS[name](model, x[:9], batch_size=batch_size)
        assert np.abs(part - whole[:9]).max() < 1e-6 * max(1, np.abs(whole).max())
    assert np.abs(METHODS[name](model, x[5:6]) - whole[5:6]).max() < 1e-6 * max(1, np.abs(whole).max())


@pytest.mark.parametrize("name", METHODS)
def test_the_logit_is_explained_through_a_softmax_and_the_output_on_request(name):
    plain, headed, x = shared_cnn(None, "float64"), shared_cnn("softmax"), images(3)
    assert all(np.array_equal(a, b) for a, b in zip(plain.get_weights(), headed.get_weights()))
    of_logits = METHODS[name](plain, x, 1)
    assert np.allclose(METHODS[name](headed, x, 1), of_logits, atol=1e-12)
    try:
        of_probabilities = METHODS[name](headed, x, 1, explain="output")
    except UnsupportedLayerError:  # there is no backward rule for it
        assert name in ("lrp", "deep_taylor", "deeplift")
    else:
        assert np.abs(of_probabilities - of_logits).max() > 0.1 * np.abs(of_logits).max()


def test_no_target_means_the_predicted_class():
    model, x = small_cnn(seed=2), 9 * (images(50) - 0.5)
    predicted = model(x).numpy().argmax(1)
    assert len(set(predicted)) > 1
    assert np.array_equal(attributions.gradient(model, x), attributions.gradient(model, x, predicted))


@pytest.mark.parametrize("batch_size", [1, 4, 8, 64])
def test_an_images_own_baseline_goes_with_its_copies(batch_size):
    model, x, baseline = shared_cnn(None, "float64"), images(8), images(8, seed=2)
    how = {"sigma": 0.1, "samples": 8, "method": integrated_gradients, "steps": 3}
    together = smoothgrad(model, x, 0, baseline=baseline, batch_size=batch_size, **how)
    for k in range(8):
        alone = smoothgrad(model, x[k : k + 1], 0, baseline=baseline[k], **how)
        assert np.allclose(together[k], alone[0], atol=1e-12)


def test_seeds():
    model, x = shared_cnn(None, "float64"), images()
    assert np.array_equal(smoothgrad(model, x, 0, seed=3), smoothgrad(model, x, 0, seed=3))
    assert not np.allclose(smoothgrad(model, x, 0, seed=3), smoothgrad(model, x, 0, seed=4))


@pytest.mark.parametrize("name", BACKWARD)
def test_batches_of_1_7_and_64(name):
    method, model = attributions.METHODS[name], net_of("residual")[0]
    x = pixels(64, 6, 6, 2, seed=4)
    whole = method(model, x, np.arange(64) % 3, batch_size=64)
    for size in (1, 7, None):
        assert np.abs(method(model, x, np.arange(64) % 3, batch_size=size) - whole).max() < 1e-12
    assert np.abs(method(model, x[5:6], 2) - whole[5:6]).max() < 1e-12


def test_batches_of_deeplift_with_references_of_their_own():
    model, x, ref = net_of("plain")[0], noise(64, 8, 7, 2), noise(64, 8, 7, 2, seed=3)
    for rule in ("rescale", "reveal_cancel"):
        whole = deeplift(model, x, 1, ref, rule, batch_size=64)
        for size in (1, 7):
            assert np.abs(deeplift(model, x, 1, ref, rule, batch_size=size) - whole).max() < 1e-12


def test_memory_does_not_grow_with_steps():
    model, x = shared_cnn(None, "float32"), images(1, dtype="float32")
    peaks = []
    for steps in (300, 3000):
        integrated_gradients(model, x, 0, steps=steps)
        tracemalloc.start()
        integrated_gradients(model, x, 0, steps=steps)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0] + 100_000


@pytest.mark.parametrize(
    ("name", "how", "total", "unit"),
    [
        ("integrated_gradients", {"steps": 20}, 60, "gradient"),
        ("smoothgrad", {"samples": 20}, 60, "map"),
        ("occlusion", {"window": 2, "stride": 1}, 3 * 7 * 6, "forward pass"),
        ("rise", {"masks": 20}, 60, "forward pass"),
    ],
)
def test_a_progress_bar_where_it_is_asked_for(name, how, total, unit, capsys):
    model, x, method = shared_cnn(None, "float64"), images(3), METHODS[name]
    silent = method(model, x, 1, batch_size=7, **how)
    assert capsys.readouterr() == ("", "")
    assert np.array_equal(method(model, x, 1, batch_size=7, progress=True, **how), silent)
    shown = capsys.readouterr().out
    assert f"{total}/{total}" in shown and f"/{unit}" in shown and shown.endswith("\n")
    method(model, x[:0], 1, progress=True, **how)
    assert capsys.readouterr() == ("", "")


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
