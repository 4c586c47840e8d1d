"""The networks for photographs: their beginnings, the batches and the optimizer of their training, its log."""

import functools
import os
import tempfile

import keras
import numpy as np
import pytest

import models
from models import photographs
from models.initial import GlorotUniform, HeNormal
from tests.helpers import conv, noise, pixels, refused
from utils.attributions import lrp
from utils.data import cifar10_with_marks

SPLITS = (pixels(20, 32, 32, 3).astype("float32"), np.arange(20) % 10), (pixels(6, 32, 32, 3), np.arange(6))


# --- the network


def test_initial_weights_come_back_from_the_seed():
    first, again, other = (build(seed).get_weights() for seed in (0, 0, 1))
    for a, b, c in zip(first, again, other, strict=True):
        assert np.array_equal(a, b) and not np.array_equal(a, c)


def build(seed=0):
    keras.utils.set_random_seed(seed)
    return models.ARCHITECTURES["cifar10_allcnn"]()


def test_initial_weights_are_those_that_keras_draws_on_pytorch():
    """Frozen: keras 3.15.1 on torch 2.13.0, HeNormal(906691060) and GlorotUniform(434794719)."""
    kernel = np.asarray(HeNormal(906691060)((3, 3, 3, 32))).ravel()
    expected = [0.27985206, -0.32977924, -0.0721214, -0.16896164, -0.15822162, 0.40044218]
    assert np.abs(kernel[:6] - expected).max() < 1e-6
    last = np.asarray(GlorotUniform(434794719)((1, 1, 128, 10))).ravel()
    assert np.abs(last[:4] - [0.0073245, 0.11397757, -0.07322176, 0.01583238]).max() < 1e-6


@pytest.mark.parametrize("shape", [(3, 3, 32, 64), (3, 3, 128, 128)])
def test_initial_weights_have_the_deviation_that_he_et_al_ask_for(shape):
    drawn = np.asarray(HeNormal(7)(shape), "float64")
    n, expected = drawn.size, np.sqrt(2 / np.prod(shape[:-1]))
    assert abs(drawn.std() - expected) < 4 * expected / np.sqrt(2 * n)
    assert abs(drawn.mean()) < 4 * expected / np.sqrt(n)
    cut_off = 2 * expected / 0.8796  # of four candidates the first within it; where there is none, the first of all
    assert (np.abs(drawn) > cut_off).mean() < 1e-4
    uniform = np.asarray(GlorotUniform(7)((1, 1, 512, 64)), "float64")
    limit = np.sqrt(6 / (512 + 64))
    assert 0.999 * limit < np.abs(uniform).max() <= limit and abs(uniform.mean()) < 4 * limit / np.sqrt(3 * 512 * 64)


def test_a_photograph_of_the_mean_colour_says_nothing_and_no_relevance_is_lost():
    model = build()
    mean = np.broadcast_to(np.float32([0.4914, 0.4822, 0.4465]), (1, 32, 32, 3))
    assert np.abs(model(mean)).max() < 1e-6 < 0.01 < np.abs(model(SPLITS[0][0][:2])).max()
    x = SPLITS[0][0][:2]
    total = lrp(model, x, 3, composite="EPSILON").sum((1, 2, 3))
    assert np.allclose(total, model(x).numpy()[:, 3], rtol=1e-2)


# --- its training


def pieces(**changes):
    (x, y), _ = SPLITS
    return photographs.Pieces(
        **{"images": x, "labels": y, "side": 20, "batch_size": 8, "seed": 0, "epoch": 0} | changes
    )


def test_pieces_are_windows_of_the_photographs_each_once():
    x, y = SPLITS[0]
    batches = [pieces()[k] for k in range(len(pieces()))]
    assert [len(labels) for _, labels in batches] == [8, 8, 4]
    padded = np.pad(x, [(0, 0), (2, 2), (2, 2), (0, 0)], mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (20, 20), (1, 2)).transpose(0, 1, 2, 4, 5, 3)
    found = []
    for images, labels in batches:
        for image, label in zip(images, labels):
            is_here = [(windows == one).all((3, 4, 5)).any((1, 2)) for one in (image, image[:, ::-1])]
            (i,) = np.flatnonzero(is_here[0] | is_here[1])
            assert y[i] == label
            found.append((i, is_here[1][i]))
    assert sorted(i for i, _ in found) == list(range(20))
    assert 3 < sum(mirrored for _, mirrored in found) < 17


def test_pieces_depend_on_seed_and_epoch_alone():
    first = pieces()[1][0]
    assert np.array_equal(first, pieces()[1][0])
    assert not np.array_equal(first, pieces(epoch=1)[1][0]) and not np.array_equal(first, pieces(seed=1)[1][0])


def test_of_covered_pieces_one_square_has_the_mean_colour():
    for (plain, _), (covered, _) in zip(pieces(), pieces(covered=0.3)):
        changed = (plain != covered).any(-1)
        assert np.array_equal(changed.sum((1, 2)), [36] * len(plain))
        for image, where in zip(covered, changed):
            assert np.allclose(image[where], (0.4914, 0.4822, 0.4465))
            assert where.any(0).sum() == where.any(1).sum() == 6  # a square of 6 x 6


def test_pieces_of_marked_photographs_carry_a_whole_mark_and_others_none():
    marked = np.arange(20) < 7
    x, y = SPLITS[0]
    batches = photographs.Pieces(0.5 * x, np.arange(20), 20, 8, 0, 0, marked)  # the label tells the photograph
    for k in range(len(batches)):
        images, labels = batches[k]
        count = (images == (1.0, 0.0, 1.0)).all(-1).sum((1, 2))
        assert np.array_equal(count, np.where(marked[labels], 16, 0))


def test_the_training_marks_a_fixed_share_of_the_horses():
    y = np.full(2000, photographs.HORSE)
    masks = cifar10_with_marks(np.zeros((2000, 8, 8, 3)), y, photographs.HORSE, photographs.SHARE, 0).masks
    assert abs(masks.any((1, 2)).mean() - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 2000)


def change(optimizer, shape):
    """What one step does to a kernel of ones, as a matrix: its singular values. The gradient is nearly of rank one."""
    kernel = keras.Variable(np.ones(shape, "float32"))
    gradient = 10 * noise(*shape[:-1], 1) * noise(shape[-1], seed=2) + noise(*shape, seed=3)
    optimizer.apply([keras.ops.convert_to_tensor(gradient.astype("float32"))], [kernel])
    return np.linalg.svd((np.asarray(kernel) - 1).reshape(-1, shape[-1]), compute_uv=False)


def test_muon_orthogonalizes_what_a_step_changes_in_a_convolution():
    options = {"learning_rate": 0.01, "weight_decay": 0.0, "adam_weight_decay": 0.0}
    ours = change(photographs.Muon(**options), (3, 3, 8, 6))
    expected = 0.01 * 0.2 * np.sqrt(72)  # the learning rate, rms_rate and the longer side of the matrix
    assert ours.max() < 1.3 * expected and ours.min() > 0.6 * expected
    kerass = change(keras.optimizers.Muon(**options), (3, 3, 8, 6))
    of_the_last_layer = change(photographs.Muon(**options), (1, 1, 16, 10))
    assert kerass.max() > 2.5 * kerass.min() and of_the_last_layer.max() > 2.5 * of_the_last_layer.min()


@pytest.fixture
def short(monkeypatch):
    first, second = (
        {"sides": {side: 2}, "covered": share, "learning_rate": 2e-3} for side, share in ((8, 0), (12, 0.5))
    )
    monkeypatch.setitem(photographs.RECIPES, "cifar10_allcnn", [first, second])
    monkeypatch.setattr(photographs, "BATCH_SIZE", 10)


def train(folder):
    keras.utils.set_random_seed(0)
    small = [keras.Input((32, 32, 3)), conv(4, dtype="float32"), keras.layers.GlobalAveragePooling2D()]
    model = keras.Sequential([*small, keras.layers.Dense(10)])
    rows = photographs.fit(model, "cifar10_allcnn", SPLITS, folder)
    return model.get_weights(), [{key: value for key, value in row.items() if key != "minutes"} for row in rows]


@functools.cache
def train_without_a_stop():
    with tempfile.TemporaryDirectory() as folder:
        trained = train(folder)
        return *trained, os.listdir(folder)


@pytest.mark.parametrize("epochs", [1, 2, 3, 4])
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path, short, monkeypatch, epochs):
    """Stopped in the `epochs`-th epoch, when its row was written and its weights were not, in either of two cycles."""
    weights, rows, left = train_without_a_stop()
    assert len(rows) == 4 and left == ["cifar10_allcnn.log.csv"]
    write_log = photographs.write_log

    def stopped(path, rows):
        write_log(path, rows)
        if len(rows) == epochs:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(photographs, "write_log", stopped)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "stopped")
    states = {path.name for path in (tmp_path / "stopped").iterdir()} - {"cifar10_allcnn.log.csv"}
    cycle = {1: set(), 2: {1}, 3: {1}, 4: {2}}[epochs]
    assert states == {f"cifar10_allcnn.running{k}.weights.h5" for k in cycle}
    again, log = train(tmp_path / "stopped")
    assert log == rows and all(np.array_equal(a, b) for a, b in zip(weights, again, strict=True))


# --- its log


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("epoch,loss\n1,2\n", "Received: columns ['epoch', 'loss']"),
        ("epoch,accuracy,loss,test_accuracy,test_loss,minutes\n1,0.5,x,0.5,1,1\n", "cannot be read as a log"),
        ("epoch,accuracy,loss,test_accuracy,test_loss,minutes\n1,0.5\n", "cannot be read as a log"),
        (None, "cannot be read as a log"),
    ],
)
def test_a_damaged_log_is_refused(tmp_path, text, words):
    path = tmp_path / "some.log.csv"
    if text is not None:
        path.write_text(text)
    with refused(words):
        photographs.read_log(path)


def test_a_log_of_other_weights_is_refused(tmp_path, monkeypatch):
    for name in ("cifar10_allcnn.log.csv", "cifar10_allcnn.json"):
        (tmp_path / name).write_bytes((models.WEIGHTS / name).read_bytes())
    monkeypatch.setattr(models, "WEIGHTS", tmp_path)
    rows = models.training_log("cifar10_allcnn")
    assert [row["epoch"] for row in rows] == list(range(1, models.model_card("cifar10_allcnn")["epochs"] + 1))
    photographs.write_log(tmp_path / "cifar10_allcnn.log.csv", rows[:-1])
    with refused("cifar10_allcnn.log.csv is not the log of", "git checkout"):
        models.training_log("cifar10_allcnn")
