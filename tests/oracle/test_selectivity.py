"""Pixel flipping and insertion beside slow loops and where their curves are known, and what stands in the holes."""

import itertools

import numpy as np
import pytest
from keras import layers as L
from scipy import ndimage

from tests.helpers import F, chain, close, dense, images, noise, pixels, shared_cnn
from utils.attributions import gradient_x_input
from utils.quality import area_under_curve, insertion, linear_imputation, pixel_flipping
from utils.quality.fills import inpainted

MODEL, X, TARGET = shared_cnn(), images(3), np.array([3, 0, 2])
MAPS = noise(3, 8, 7, 2)
PATCHES = [  # of 3 pixels, smaller below and at the right; 3 x 3 of them
    [(i, j) for i in range(top, min(top + 3, 8)) for j in range(left, min(left + 3, 7))]
    for top in range(0, 8, 3)
    for left in range(0, 7, 3)
]
CHANNELS, OTHER, OTHERS = np.array([0.25, 0.75]), pixels(8, 7, 2, seed=2), pixels(3, 8, 7, 2, seed=3)
HOLES = {
    "inside": np.s_[3:6, 2:5],
    "corner": np.s_[:3, :3],
    "other corner": np.s_[5:, 4:],
    "edge": np.s_[2:5, :2],
    "first row": np.s_[0],
    "last column": np.s_[:, 6],
    "one pixel": np.s_[4, 4],
    "one in the corner": np.s_[0, 0],
    "all but one": np.s_[1:],
    "a half": pixels(8, 7, seed=4) < 0.5,
    "most": pixels(8, 7, seed=5) < 0.9,
}


# --- slow computations of one image


def slow_order(M, order, left=range(9)):
    sign = -1 if order == "most" else 1
    return sorted(left, key=lambda k: sign * sum(M[place].sum() for place in PATCHES[k]))


def slow_scores(x, c, orders, filled):
    """The scores of one image of which more and more patches are removed, in a given order."""
    left = []
    for k in range(len(orders) + 1):
        hole = np.zeros((8, 7), bool)
        for place in [place for patch in orders[:k] for place in PATCHES[patch]]:
            hole[place] = True
        left.append(np.where(hole[..., None], filled(hole), x))
    return MODEL(np.stack(left)).numpy()[:, c]


def slow_imputation(x, hole):
    """One equation for each pixel, all of them in a dense matrix."""
    places = list(np.ndindex(hole.shape))
    matrix, right = np.eye(len(places)), x.reshape(len(places), -1).copy()
    for row, (i, j) in enumerate(places):
        if hole[i, j]:
            near = [(i + a, j + b) for a in (-1, 0, 1) for b in (-1, 0, 1) if (a, b) != (0, 0)]
            weights = {place: 1 / 6 if i == place[0] or j == place[1] else 1 / 12 for place in near if place in places}
            for place, weight in weights.items():
                matrix[row, places.index(place)] = -weight / sum(weights.values())
            right[row] = 0
    return np.linalg.solve(matrix, right).reshape(x.shape)


FILLS = {  # the argument, and the same for image k and its hole
    "number": (0.5, lambda k, hole: 0.5),
    "number for each channel": (CHANNELS, lambda k, hole: CHANNELS),
    "list": ([0.25, 0.75], lambda k, hole: CHANNELS),
    "image": (OTHER, lambda k, hole: OTHER),
    "one each": (OTHERS, lambda k, hole: OTHERS[k]),
    "blur": ("blur", lambda k, hole: ndimage.gaussian_filter(X[k], (7 / 8, 7 / 8, 0), mode="mirror")),
    "inpaint": ("inpaint", lambda k, hole: inpainted(X[k : k + 1], hole[None])[0]),
    "function": (lambda x, removed: 1 - x * removed[..., None], lambda k, hole: 1 - X[k] * hole[..., None]),
    "imputation": (
        linear_imputation(noise=0),
        lambda k, hole: 0 * X[k] if hole.all() else slow_imputation(X[k], hole),
    ),
}


@pytest.mark.parametrize("fill", FILLS)
def test_pixel_flipping_is_a_loop(fill):
    fill, filled = FILLS[fill]
    orders = [slow_order(M, "most") for M in MAPS]
    slow = [slow_scores(*one, lambda hole, k=k: filled(k, hole)) for k, one in enumerate(zip(X, TARGET, orders))]
    before = X.copy()
    close(pixel_flipping(MODEL, X, MAPS, TARGET, 3, fill=fill), np.stack(slow, 1))
    assert np.array_equal(X, before)


@pytest.mark.parametrize("order", ["least", "random"])
def test_other_orders(order):
    draws = np.random.default_rng(7).random((3, 9))
    orders = draws.argsort(1) if order == "random" else [slow_order(M, order) for M in MAPS]
    slow = np.stack([slow_scores(*one, lambda hole: 0) for one in zip(X, TARGET, map(list, orders))], 1)
    close(pixel_flipping(MODEL, X, MAPS, TARGET, 3, order=order, seed=7), slow)
    close(pixel_flipping(MODEL, X, MAPS.sum(-1), TARGET, 3, 4, order, seed=7), slow[:5])  # the first four steps


@pytest.mark.parametrize("order", ["most", "least"])
def test_maps_that_are_made_anew_after_each_step(order):
    for k, (x, c) in enumerate(zip(X, TARGET)):
        left, removed = x, []
        for _ in range(9):
            R = gradient_x_input(MODEL, left[None], c)[0] + MAPS[k]  # no patch is at 0, not even one removed
            removed.append(slow_order(R, order, set(range(9)) - set(removed))[0])
            hole = np.zeros((8, 7, 1), bool)
            hole[tuple(zip(*[place for patch in removed for place in PATCHES[patch]]))] = True
            left = np.where(hole, OTHER, x)
        slow = slow_scores(x, c, removed, lambda hole: OTHER)
        ours = pixel_flipping(
            MODEL,
            x[None],
            None,
            c,
            3,
            order=order,
            fill=OTHER,
            method=lambda *how, k=k: gradient_x_input(*how) + MAPS[k],
        )
        close(ours[:, 0], slow)


def test_a_map_that_is_always_the_same_needs_not_be_made_anew():
    for order in ("most", "least"):
        for maps in (MAPS, np.zeros_like(MAPS), np.rint(MAPS)):
            again = pixel_flipping(MODEL, X, None, TARGET, 3, order=order, method=lambda *how, maps=maps: maps)
            assert np.array_equal(again, pixel_flipping(MODEL, X, maps, TARGET, 3, order=order))


@pytest.mark.parametrize("fill", ["number", "one each", "blur", "imputation"])
def test_insertion_mirrors_pixel_flipping(fill):
    how = {"target": TARGET, "patch": 3, "fill": FILLS[fill][0]}
    for one, other in itertools.permutations(("most", "least")):
        inserted = insertion(MODEL, X, MAPS, order=one, **how)
        assert np.array_equal(inserted, pixel_flipping(MODEL, X, MAPS, order=other, **how)[::-1])
        assert np.array_equal(insertion(MODEL, X, MAPS, steps=4, order=one, **how), inserted[:5])


# --- curves that are known


@pytest.mark.parametrize("start", [0.0, 0.25])
def test_no_order_beats_gradient_x_input_on_a_linear_model(start):
    model, x = chain((4, 6, 1), L.Flatten(**F), dense(3)), images(2).reshape(-1)[:48].reshape(2, 4, 6, 1)
    W, b = model.get_weights()
    parts = (x - start) * W[:, 1].reshape(4, 6, 1)  # gradient x (input - fill): what each pixel adds to the score
    parts = parts.reshape(2, 2, 2, 3, 2).sum((2, 4)).reshape(2, 6)
    maps = gradient_x_input(model, x, 1) * (x - start) / x
    found = {order: pixel_flipping(model, x, maps, 1, 2, order=order, fill=start) for order in ("most", "least")}
    first = x.reshape(2, -1) @ W[:, 1] + b[1]
    for i in range(2):
        curves = first[i] - np.cumsum([[0, *order] for order in itertools.permutations(parts[i])], 1)
        areas = area_under_curve(curves.T)
        close(found["most"][:, i], curves[areas.argmin()])
        close(found["least"][:, i], curves[areas.argmax()])
        assert areas.argmin() != areas.argmax()
    anew = pixel_flipping(model, x, None, 1, 2, fill=0.0, method=gradient_x_input)
    close(anew, pixel_flipping(model, x, gradient_x_input(model, x, 1), 1, 2))


def test_ties_are_broken_at_random():
    random = pixel_flipping(MODEL, X, None, TARGET, 3, order="random", seed=5)
    for order in ("most", "least"):
        assert np.array_equal(pixel_flipping(MODEL, X, np.ones((3, 8, 7)) * 0, TARGET, 3, order=order, seed=5), random)
    assert not np.array_equal(pixel_flipping(MODEL, X, None, TARGET, 3, order="random", seed=6), random)
    same = pixel_flipping(MODEL, np.repeat(X[:1], 3, 0), None, 1, 3, order="random")
    assert not np.array_equal(same[:, 0], same[:, 1])  # each image has an order of its own
    one = (MAPS > 0.5) * 1.0  # sums of few values: only patches of the same sum are drawn
    sums = np.array([[sum(M[place].sum() for place in patch) for patch in PATCHES] for M in one])
    draws = np.random.default_rng(5).random((3, 9))
    orders = [sorted(range(9), key=lambda k, i=i: (-sums[i, k], draws[i, k])) for i in range(3)]
    slow = np.stack([slow_scores(*how, lambda hole: 0) for how in zip(X, TARGET, orders)], 1)
    assert any(len(set(row)) < 9 for row in sums.tolist())
    close(pixel_flipping(MODEL, X, one, TARGET, 3, seed=5), slow)


@pytest.mark.parametrize("measure", [pixel_flipping, insertion])
def test_images_do_not_influence_each_other(measure):
    how = {"patch": 3, "fill": "blur"}
    all_at_once = measure(MODEL, X, MAPS, TARGET, **how)
    close(measure(MODEL, X, MAPS, TARGET, batch_size=2, **how), all_at_once, 1e-12)
    close(measure(MODEL, X[1:2], MAPS[1:2], TARGET[1:2], **how), all_at_once[:, 1:2], 1e-12)
    # but for a random order, which depends on the place of an image among the others
    random = measure(MODEL, X, None, TARGET, order="random", **how)
    close(measure(MODEL, X[:2], None, TARGET[:2], order="random", **how), random[:, :2], 1e-12)
    alone = measure(MODEL, X[1:2], None, TARGET[1:2], order="random", **how)
    assert np.abs(alone - random[:, 1:2]).max() > 1e-3


def test_the_predicted_class_is_that_of_the_whole_image():
    model = chain((8, 7, 2), L.Flatten(**F), dense(4))
    predicted, there = (model(x).numpy().argmax(-1) for x in (X, -OTHERS))
    assert (predicted != there).any()
    for how in ({"maps": MAPS}, {"maps": None, "method": gradient_x_input}):
        ours = pixel_flipping(model, X, fill=-OTHERS, **how)
        assert np.array_equal(ours, pixel_flipping(model, X, target=predicted, fill=-OTHERS, **how))
    ours = insertion(model, X, MAPS, fill=-OTHERS)
    assert np.array_equal(ours, insertion(model, X, MAPS, predicted, fill=-OTHERS))


def test_scores_and_probabilities():
    model = chain((4, 4, 1), L.Flatten(**F), dense(3, "softmax"))
    x, maps = pixels(2, 4, 4, 1), noise(2, 4, 4)
    W, b = model.get_weights()
    assert np.allclose(pixel_flipping(model, x, maps, 1)[0], x.reshape(2, -1) @ W[:, 1] + b[1])
    assert np.allclose(pixel_flipping(model, x, maps, 1, explain="output")[0], model(x).numpy()[:, 1])
    assert np.allclose(pixel_flipping(model, x, maps, 1, 9)[-1], b[1])  # a patch may be larger than the image


def test_the_area_is_a_mean_height():
    scores = noise(6, 3)
    assert np.allclose(area_under_curve(scores), np.trapezoid(scores, axis=0) / 5)
    assert np.allclose(area_under_curve([[1, 0], [0, 0]]), [0.5, 0])
    assert np.allclose(area_under_curve(np.full((9, 2), 0.7)), 0.7)  # a curve that does not fall


# --- what stands in the holes


@pytest.mark.parametrize("hole", HOLES)
def test_imputation_solves_its_equations(hole):
    removed = np.zeros((3, 8, 7), bool)
    for mask in removed[1:]:
        mask[HOLES[hole]] = True
    ours = linear_imputation(noise=0)(X, removed)
    close(ours, np.stack([X[0], *(slow_imputation(*one) for one in zip(X[1:], removed[1:]))]), 1e-12)
    noisy = linear_imputation(noise=0.125, seed=3)
    drawn = 0.125 * np.random.default_rng(3).standard_normal((8, 7, 2))  # the same for each image and at each call
    for _ in range(2):
        close(noisy(X, removed), np.where(removed[..., None], ours + drawn, X), 1e-12)


def test_imputation_keeps_planes_and_halves():
    plane = (np.arange(8.0)[:, None, None] + 2 * np.arange(7.0)[:, None]) * np.ones(2)
    removed = np.zeros((1, 8, 7), bool)
    removed[:, 2:6, 1:5] = True
    close(linear_imputation(noise=0)(plane[None], removed), plane[None], 1e-12)  # harmonic
    half = linear_imputation()(X.astype("float16"), removed.repeat(3, 0))
    assert half.dtype == "float16" and np.abs(half - linear_imputation()(X, removed.repeat(3, 0))).max() < 1e-3


@pytest.mark.parametrize("hole", HOLES)
@pytest.mark.parametrize("fill", [inpainted, linear_imputation()], ids=["inpaint", "imputation"])
def test_nothing_is_left_of_what_has_been_removed(fill, hole):
    removed = np.zeros((3, 8, 7), bool)
    for mask in removed:
        mask[HOLES[hole]] = True
    filled = fill(X, removed)
    other = fill(np.where(removed[..., None], 9 + OTHERS, X), removed)
    assert np.abs(filled - other).max() < 1e-5  # what OpenCV adds depends on it, see LEVELS
    assert np.array_equal(filled[~removed], X[~removed])
    assert -0.05 < filled.min() and filled.max() < 1.05  # no brighter than what is left, but for noise of 0.01


@pytest.mark.parametrize("fill", [inpainted, linear_imputation(noise=0)], ids=["inpaint", "imputation"])
@pytest.mark.parametrize("hole", HOLES)
def test_a_hole_in_a_uniform_picture_is_filled_with_its_value(fill, hole):
    removed = np.zeros((1, 8, 7), bool)
    for mask in removed:
        mask[HOLES[hole]] = True
    grey = np.full((1, 8, 7, 2), 0.7)
    assert np.abs(fill(np.where(removed[..., None], 0, grey), removed) - grey).max() < 1e-5


@pytest.mark.parametrize("fill", [inpainted, linear_imputation(noise=0)], ids=["inpaint", "imputation"])
def test_all_or_nothing_is_removed(fill):
    assert np.array_equal(fill(X, np.zeros((3, 8, 7), bool)), X)
    assert not fill(X, np.ones((3, 8, 7), bool)).any()
    one = np.zeros((3, 8, 7), bool)
    one[1] = True
    filled = fill(X, one)
    assert np.array_equal(filled[::2], X[::2]) and not filled[1].any()


def test_a_function_as_fill_gets_copies():
    def fill(x, removed):
        x[:], removed[:] = 9, True
        return x

    before = X.copy()
    assert np.array_equal(pixel_flipping(MODEL, X, MAPS, 1, fill=fill), pixel_flipping(MODEL, X, MAPS, 1, fill=9.0))
    assert np.array_equal(X, before)
