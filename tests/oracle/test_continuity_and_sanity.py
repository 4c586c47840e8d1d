"""Continuity, randomized networks, the similarity of maps and what they cost, beside slow loops and known answers."""

import functools
import types

import keras
import numpy as np
import pytest
from keras import layers as L
from scipy import stats

from models.initial import HeNormal
from tests.helpers import (
    F,
    backbone,
    chain,
    close,
    conv,
    dense,
    function_model,
    images,
    noise,
    norm,
    pixels,
    randomize,
    refused,
    sequential,
    shared_cnn,
    small_cnn,
)
from utils import scores
from utils.attributions import deep_taylor, gradient, gradient_x_input
from utils.quality import (
    canny_edges,
    completeness_error,
    continuity,
    laplacian_edges,
    noisy_copies,
    price,
    randomized,
    shifted,
    shifts,
    similarity,
    time_over_gradient,
)

MODEL, X, TARGET = shared_cnn(), images(3), np.array([3, 0, 2])
MOVES = np.concatenate([shifts(X, 0.5, 0.25), noisy_copies(X)])
MEASURES = {"pearson": stats.pearsonr, "spearman": stats.spearmanr}

each_kind_of_map = pytest.mark.parametrize("absolute", [False, True], ids=["signed", "absolute"])


# --- continuity


@pytest.mark.parametrize("unit_mass", [False, True])
@pytest.mark.parametrize("target", [TARGET, None], ids=["target", "predicted"])
def test_continuity_is_a_loop(target, unit_mass):
    model = sequential((8, 7, 2), conv(3), L.Flatten(**F), dense(4))
    x = X - 0.5
    moves = np.concatenate([MOVES - 0.5, -x[None]])
    kept = model(x).numpy().argmax(-1) if target is None else target
    assert (model(-x).numpy().argmax(-1) != kept).any()
    slow = np.zeros(3)
    for i, (one, c) in enumerate(zip(x, kept)):
        R = gradient_x_input(model, one[None], c)
        for other in moves[:, i]:
            S = gradient_x_input(model, other[None], c)
            sizes = [np.abs(M).sum() if unit_mass else 1 for M in (R, S)]
            slow[i] = max(slow[i], np.abs(R / sizes[0] - S / sizes[1]).sum() / np.linalg.norm(other - one))
    close(continuity(gradient_x_input, model, x, target, moves, unit_mass), slow)
    close(continuity(gradient_x_input, model, x, target, list(moves), unit_mass), slow)
    alone = continuity(gradient_x_input, model, x[1:2], None if target is None else kept[1:2], moves[:, 1:2], unit_mass)
    close(alone, slow[1:2])


def maximum():
    """max(x1, x2) of positive numbers, as half of three ReLUs: x1 - x2, x2 - x1 and x1 + x2."""
    model = sequential((2,), dense(3, "relu", use_bias=False), dense(1, use_bias=False))
    model.set_weights([np.array([[1.0, -1, 1], [-1, 1, 1]]), np.full((3, 1), 0.5)])
    return model


@pytest.mark.parametrize("d", [0.5, 0.125, 2.0**-10])
def test_a_maximum_near_its_diagonal(d):
    """Montavon, Samek and Müller (2018), section 7.1: the gradient leaps there, deep Taylor does not."""
    model, x, moves = maximum(), np.array([[1 + d, 1.0], [1.0, 1 + d]]), np.array([[[1.0, 1 + d], [1 + d, 1.0]]])
    assert np.array_equal(model(x).numpy(), [[1 + d], [1 + d]])
    # d apart in both numbers: (1, 0) becomes (0, 1), over a way of d sqrt(2)
    close(continuity(gradient, model, x, 0, moves), np.full(2, 2 / (d * np.sqrt(2))))

    # z-box from 0 to 2: half of x1 - x2 is shared as x1 to 2 - x2, half of x1 + x2 as x1 to x2
    def bounded(model, x, target):
        return deep_taylor(model, x, target, low=0.0, high=2.0)

    first = (1 + d) / (2 + d)
    R = np.array([d * first + 1 + d, d * (1 - first) + 1]) / 2
    close(bounded(model, x, 0), np.array([R, R[::-1]]), 1e-5)
    close(continuity(bounded, model, x, 0, moves), np.full(2, np.sqrt(2) * first), 5e-3)


def test_maps_that_say_nothing():
    def constant(model, x, target):
        return np.full(x.shape, 0.3)

    def zero_for_the_first(model, x, target):
        return gradient(model, x, target) * (np.arange(3) > 0).reshape(3, 1, 1, 1)

    for unit_mass in (False, True):
        assert np.array_equal(continuity(constant, MODEL, X, None, MOVES, unit_mass), np.zeros(3))
    usual = continuity(gradient, MODEL, X, TARGET, MOVES, True)
    found = continuity(zero_for_the_first, MODEL, X, TARGET, MOVES, True)
    assert np.isnan(found[0]) and np.array_equal(found[1:], usual[1:])
    assert continuity(zero_for_the_first, MODEL, X, TARGET, MOVES)[0] == 0


def test_the_unit_of_the_map():
    def larger(*how):
        return -8 * gradient(*how)

    for unit_mass, factor in ((False, 8), (True, 1)):
        usual = continuity(gradient, MODEL, X, TARGET, MOVES, unit_mass)
        close(continuity(larger, MODEL, X, TARGET, MOVES, unit_mass), factor * usual, 1e-12)


# --- neighbours


def slow_shift(x, right, down, fill):
    """One value at a time: where it comes from, between up to four pixels."""
    n, height, width, channels = x.shape
    result = np.zeros(x.shape)
    for i, j in np.ndindex(height, width):
        for a in (0, 1):
            for b in (0, 1):
                up, left = i - down, j - right
                row, column = int(np.floor(up)) + a, int(np.floor(left)) + b
                share = (1 - abs(up - row)) * (1 - abs(left - column))
                inside = 0 <= row < height and 0 <= column < width
                result[:, i, j] += share * (x[:, row, column] if inside else fill)
    return result


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("move", [(1, 0), (0, -2), (-3, 1), (0.25, 0), (0, -0.75), (1.25, -0.5), (0.1, 0.01), (9, 0)])
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_shifts_are_loops(channels, move, dtype):
    x = noise(2, 6, 5, channels).astype(dtype)
    ours = shifted(x, *move, fill=0.5)
    assert ours.dtype == dtype
    close(ours.astype("float64"), slow_shift(x.astype("float64"), *move, 0.5), 4 * np.finfo(dtype).eps)
    if all(float(by).is_integer() for by in move):
        assert np.array_equal(ours, slow_shift(x, *move, 0.5))


def test_neighbours():
    x = X.astype("float32")
    right, left, down, up = shifts(x, 2, 0.5)
    assert np.array_equal(right[:, :, 2:], x[:, :, :-2]) and (right[:, :, :2] == 0.5).all()
    assert np.array_equal(left[:, :, :-2], x[:, :, 2:]) and np.array_equal(down[:, 2:], x[:, :-2])
    assert np.array_equal(up[:, :-2], x[:, 2:]) and (up[:, -2:] == 0.5).all()
    assert np.array_equal(shifted(x), x) and shifted(x) is not x
    drawn = noisy_copies(x, 0.5, 400) - x
    assert drawn.dtype == "float32" and drawn.shape == (400, 3, 8, 7, 2)
    assert abs(drawn.mean()) < 0.02 and abs(drawn.std() - 0.5) < 0.02
    assert np.abs(drawn[:, 0] - drawn[:, 2]).max() < 1e-6  # the same for each image
    assert np.array_equal(noisy_copies(x, seed=1), noisy_copies(x, seed=1))
    assert not np.array_equal(noisy_copies(x, seed=1), noisy_copies(x, seed=2))


# --- the similarity of maps


def slow_ssim(a, b, size):
    """Wang et al. (2004), equation 13, over all windows of 7 x 7 pixels that fit in; sample covariances."""
    values = []
    for i, j in np.ndindex(a.shape[0] - 6, a.shape[1] - 6):
        u, v = a[i : i + 7, j : j + 7].ravel(), b[i : i + 7, j : j + 7].ravel()
        (uu, uv), (_, vv) = np.cov(u, v)
        c, d = (0.01 * size) ** 2, (0.03 * size) ** 2
        over = (2 * u.mean() * v.mean() + c) * (2 * uv + d)
        values.append(over / ((u.mean() ** 2 + v.mean() ** 2 + c) * (uu + vv + d)))
    return np.mean(values)


@each_kind_of_map
@pytest.mark.parametrize("channels", [0, 3])
def test_similarity_is_scipys(channels, absolute):
    shape = (4, 9, 8, channels) if channels else (4, 9, 8)
    A, B = noise(*shape), noise(*shape, seed=2)
    A[2:], B[2:] = np.rint(A[2:]), np.rint(B[2:])  # ties
    flat = [maps.sum(-1) if channels else maps for maps in (A, B)]
    flat = [np.abs(maps) if absolute else maps for maps in flat]
    for name, measure in MEASURES.items():
        close(similarity(A, B, name, absolute), np.array([measure(a.ravel(), b.ravel())[0] for a, b in zip(*flat)]))
    a, b = (maps / np.abs(maps).max((1, 2), keepdims=True) for maps in flat)
    close(similarity(A, B, "ssim", absolute), np.array([slow_ssim(*one, 1 if absolute else 2) for one in zip(a, b)]))
    alone = similarity(A[1:2], B[1:2], absolute=absolute)
    assert np.array_equal(alone, similarity(A, B, absolute=absolute)[1:2])


@pytest.mark.parametrize("measure", ["pearson", "spearman", "ssim"])
def test_similarities_that_are_known(measure):
    A, B = noise(3, 9, 8), noise(3, 9, 8, seed=2)
    assert np.allclose(similarity(A, A, measure), 1) and np.allclose(similarity(A, 1e-30 * A, measure), 1)
    assert np.allclose(similarity(A, -A, measure, absolute=True), 1)
    assert np.allclose(similarity(A, B, measure), similarity(B, A, measure))
    if measure != "ssim":
        assert np.allclose(similarity(A, -A, measure), -1) and np.allclose(similarity(A, A + 7, measure), 1)
    same = similarity(A, A**3, measure)
    assert np.allclose(same, 1) if measure == "spearman" else (same < 0.95).all()


@pytest.mark.parametrize("measure", ["pearson", "spearman", "ssim"])
def test_constant_maps_are_like_nothing(measure):
    A, B = noise(3, 9, 8), noise(3, 9, 8, seed=2)
    A[0], B[1] = 0.3, 0
    found = similarity(A, B, measure)
    assert np.array_equal(np.isnan(found), [True, True, False])
    assert np.isnan(similarity(A, A, measure)[0])
    signs = np.sign(noise(3, 9, 8))
    assert np.isnan(similarity(signs, B, measure, absolute=True)).all()  # constant once it is absolute


def test_edges():
    x, kernel = pixels(2, 6, 5, 3), np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]])
    wide = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    slow = sum(kernel[a, b] * wide[:, a : a + 6, b : b + 5] for a in range(3) for b in range(3))
    close(laplacian_edges(x), np.abs(slow).sum(-1), 1e-6)
    step = np.zeros((1, 12, 12, 1))
    step[:, :, 6:] = 1
    edges = canny_edges(step)
    assert edges.shape == (1, 12, 12) and edges.dtype == "float32" and set(np.unique(edges)) == {0, 1}
    assert np.flatnonzero(edges[0].any(0)).tolist() == [5] or np.flatnonzero(edges[0].any(0)).tolist() == [6]
    assert not canny_edges(0 * step).any() and not laplacian_edges(0 * step).any()


# --- randomized networks


def same(model, copy):
    """Names of the layers with weights, and whether all of them, or none, are as before."""
    layers = [[one for one in m._flatten_layers() if one._trainable_variables] for m in (model, copy)]
    return {
        a.name: [np.array_equal(v.numpy(), w.numpy()) for v, w in zip(a.trainable_variables, b.trainable_variables)]
        for a, b in zip(*layers)
    }


@functools.cache
def branched():
    """A nested model, a layer that is used twice, a normalization and a softmax."""
    x = keras.Input((11, 9, 2), **F)
    y = L.Flatten(**F)(backbone(keras.Model)(x))
    shared = dense(36, "relu", name="shared")
    y = norm(name="norm")(shared(shared(y)))
    return randomize(keras.Model(x, dense(4, "softmax", name="head")(y)))


@pytest.mark.parametrize(
    "names", ["early", ["late", "head"], ["shared"], ["norm"], "backbone", ["head", "norm", "early"]]
)
def test_named_layers_are_drawn_anew_and_no_others(names):
    model = branched()
    before = model.get_weights()
    copy = randomized(model, names)
    assert all(map(np.array_equal, before, model.get_weights()))
    asked = ["early", "late"] if names == "backbone" else [names] if isinstance(names, str) else names
    for name, equal in same(model, copy).items():
        if name in ("early", "late", "shared", "norm", "head"):
            assert not any(equal) if name in asked else all(equal), name
    x = pixels(2, 11, 9, 2)
    assert np.abs(copy(x) - model(x)).max() > 1e-3
    assert type(copy) is type(model)


def test_the_statistics_of_a_norm_are_drawn_anew():
    copy = randomized(branched(), "norm")
    found = {weight.name: weight.numpy() for weight in copy.get_layer("norm").weights}
    for name, value in {"gamma": 1, "beta": 0, "moving_mean": 0, "moving_variance": 1}.items():
        assert (found[name] == value).all()


def test_the_seed_and_the_order_of_layers_decide():
    """One more layer at the end leaves those before as they are: cascading randomization adds layer by layer."""
    names = ["head", "shared", "norm"]
    one, two, again, other = (randomized(branched(), *how) for how in ((names[:1],), (names,), (names,), (names, 1)))
    assert np.array_equal(one.get_layer("head").kernel, two.get_layer("head").kernel)
    assert all(map(np.array_equal, two.get_weights(), again.get_weights()))
    assert not np.array_equal(two.get_layer("head").kernel, other.get_layer("head").kernel)
    assert not np.array_equal(two.get_layer("shared").kernel, other.get_layer("shared").kernel)


LAYERS = {
    "conv": lambda: conv(3, name="it"),
    "transposed": lambda: L.Conv2DTranspose(3, 2, name="it", **F),
    "depthwise": lambda: L.DepthwiseConv2D(2, name="it", **F),
    "separable": lambda: L.SeparableConv2D(3, 2, name="it", **F),
    "slopes": lambda: L.PReLU(name="it", alpha_initializer="uniform", **F),
}
WORDS = {
    "embedding": (L.Embedding(9, 6, name="it", **F), L.GlobalAveragePooling1D(**F)),
    "LSTM": (L.Embedding(9, 6, **F), L.LSTM(4, name="it", **F)),
    "two ways": (L.Embedding(9, 6, **F), L.Bidirectional(L.GRU(4, **F), name="it", **F)),
}


def all_changed(model, name="it"):
    copy = randomized(model, name)
    pairs = list(zip(model.get_layer(name).weights, copy.get_layer(name).weights))
    assert pairs and not any(np.array_equal(old.numpy(), new.numpy()) for old, new in pairs)
    others = [(a, b) for a, b in zip(model.layers, copy.layers) if a.name != name]
    assert all(np.array_equal(v, w) for a, b in others for v, w in zip(a.get_weights(), b.get_weights()))


@pytest.mark.parametrize("layer", LAYERS)
def test_all_weights_of_a_layer_are_drawn_anew(layer):
    all_changed(sequential((6, 6, 2), LAYERS[layer](), L.Flatten(**F), dense(3)))


@pytest.mark.parametrize("layer", WORDS)
def test_models_of_words(layer):
    x = keras.Input((5,), dtype="int32")
    embedding, y = WORDS[layer]
    all_changed(randomize(keras.Model(x, dense(3)(y(embedding(x))))))


@pytest.mark.parametrize("initializer", [HeNormal, keras.initializers.HeNormal], ids=["ours", "of Keras"])
def test_initializers_with_a_seed(initializer):
    conv = L.Conv2D(8, 3, kernel_initializer=initializer(seed=1), name="it")
    model = keras.Sequential([keras.Input((6, 6, 2)), conv, L.GlobalAveragePooling2D()])
    if initializer is not HeNormal:  # a clone of a network with ours has that of Keras in its place
        assert np.array_equal(keras.models.clone_model(model).get_weights()[0], model.get_weights()[0])  # the trap
    copies = [randomized(model, "it", seed) for seed in (0, 0, 1)]
    first, again, other = (copy.get_weights()[0] for copy in copies)
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert not np.array_equal(first, model.get_weights()[0])
    assert np.array_equal(copies[0].get_weights()[1], model.get_weights()[1])  # zeros, then as before
    assert abs(first.std() / np.sqrt(2 / 18) - 1) < 0.2  # from its own distribution


def test_a_clone_alone_is_random_everywhere():
    """The trap of clone_model: it draws all weights. What is compared is refused unless it computes the same."""
    model = small_cnn()
    assert not np.allclose(keras.models.clone_model(model)(X), model(X))
    copy = randomized(model, model.layers[-1].name)
    assert all(map(np.array_equal, copy.get_weights()[:-2], model.get_weights()[:-2]))
    assert not np.array_equal(copy.get_weights()[-2], model.get_weights()[-2])


def test_compiled_models_and_both_kinds():
    for build in (sequential, chain):
        model = build((6, 6, 2), conv(3, name="it"), L.Flatten(**F), dense(3, "softmax"))
        model.compile("adam", "categorical_crossentropy")
        optimizer = model.optimizer
        copy = randomized(model, "it")
        assert type(copy) is type(model) and model.optimizer is optimizer
        assert [np.array_equal(*one) for one in zip(model.get_weights(), copy.get_weights())] == [False] * 2 + [
            True
        ] * 2


@keras.saving.register_keras_serializable("tests")
class Scaled(L.Layer):
    """A layer whose config does not hold its factor."""

    factor = 1.0

    def call(self, x):
        return self.factor * x


@keras.saving.register_keras_serializable("tests")
class Shift(L.Layer):
    """A layer whose initializer is not known."""

    def build(self, shape):
        self.shift = self.add_weight(name="shift", shape=shape[-1:], initializer="normal")

    def call(self, x):
        return x + self.shift


def test_copies_that_compute_something_else_are_refused():
    layer = Scaled(**F)
    all_changed(chain((4,), dense(3, name="it"), layer))
    layer.factor = 3.0
    model = chain((4,), dense(3, name="it"), layer)
    with refused("A copy of", "does not compute what it computes", "get_config"):
        randomized(model, "it")


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (Shift(name="it", **F), ("no initializer that is known", "'shift'", "shift_initializer")),
        (L.Rescaling(0.5, name="it", **F), ("'it' has no weights", "Received: ['it']")),
    ],
    ids=["unknown initializer", "no weights"],
)
def test_layers_that_cannot_be_drawn_anew(layer, said):
    with refused(*said):
        randomized(chain((4,), dense(4), layer, dense(2)), "it")


@pytest.mark.parametrize("kind", ["zeros", "ones", "a norm as it is at first", "a bias alone"])
def test_initializers_that_give_the_same_numbers_each_time(kind):
    layer = {
        "zeros": dense(4, name="it", kernel_initializer="zeros"),
        "ones": dense(4, name="it", kernel_initializer="ones", bias_initializer="ones"),
        "a norm as it is at first": norm(name="it"),
        "a bias alone": L.GroupNormalization(1, scale=False, name="it", **F),
    }[kind]
    x = keras.Input((4,), **F)
    model = keras.Model(x, dense(2)(layer(x)))
    with refused("'it' has the same weights as before"):
        randomized(model, "it")
    assert randomized(randomize(model), "it")  # once it has been trained


# --- what a map costs, and whether it adds up


def test_completeness_error():
    model, x = function_model(lambda x: keras.ops.sum(x**2, 1, keepdims=True), 3, "float64"), noise(4, 3)
    gain = (x**2).sum(1)
    assert np.allclose(completeness_error(x**2, model, x, 0), 0, atol=1e-14)
    assert np.allclose(completeness_error(1.5 * x**2, model, x, 0), 0.5)
    assert np.allclose(completeness_error(gradient_x_input(model, x, 0), model, x, 0), 1)
    assert np.allclose(completeness_error(x**2, model, x, 0, np.ones(3)), 3 / np.abs(gain - 3))
    assert np.isnan(completeness_error(x**2, model, x, 0, x)).all()  # nothing to explain


def test_the_price_is_a_ratio_of_medians(monkeypatch):
    clock = [0.0]

    def takes(seconds):
        def call(*how):
            clock[0] += seconds.pop(0)

        return call

    monkeypatch.setattr(price, "time", types.SimpleNamespace(perf_counter=lambda: clock[0]))
    monkeypatch.setattr(scores.Scores, "gradient", takes([70.0, 2, 2, 50]))  # the first call is not measured
    assert time_over_gradient(takes([90.0, 3, 60, 3]), MODEL, X, TARGET, repeats=3) == 1.5


def test_the_price_of_the_gradient_is_about_one():
    assert 0.3 < time_over_gradient(gradient, MODEL, X, TARGET, repeats=15) < 3
