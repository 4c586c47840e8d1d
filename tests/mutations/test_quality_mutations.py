"""Typical defects of measures of quality, put in on purpose: each must make a check fail.

A check is a function that raises an AssertionError. It runs as things are, and then with the defect.
"""

import functools
import importlib

import keras
import numpy as np
import pytest
from keras import layers as L

from tests.helpers import F, chain, close, dense, noise, pixels, randomize, refused
from utils import quality
from utils.attributions import gradient
from utils.quality import fills, sanity, selectivity

neighbours = importlib.import_module("utils.quality.continuity")  # the module; its function has the same name

X = pixels(2, 4, 6, 2)


@functools.cache
def linear():
    return chain((4, 6, 2), L.Flatten(**F), dense(3))


def parts():
    """What each patch of 2 x 2 pixels adds to the score for class 1, and that score."""
    W, b = linear().get_weights()
    added = X * W[:, 1].reshape(4, 6, 2)
    return added, added.reshape(2, 2, 2, 3, 2, 2).sum((2, 4, 5)).reshape(2, 6), added.sum((1, 2, 3)) + b[1]


# --- the checks


def check_the_score_falls_by_the_largest_part_first():
    maps, each, score = parts()
    ordered = -np.sort(-each, 1)
    close(quality.pixel_flipping(linear(), X, maps, 1, 2)[1:].T, score[:, None] - np.cumsum(ordered, 1))


def check_ties_are_drawn():
    maps, each, score = parts()
    drawn = np.random.default_rng(0).random((2, 6)).argsort(1)
    expected = score[:, None] - np.cumsum(np.take_along_axis(each, drawn, 1), 1)
    close(quality.pixel_flipping(linear(), X, 0 * maps, 1, 2)[1:].T, expected)


def check_images_have_orders_of_their_own():
    scores = quality.pixel_flipping(linear(), np.repeat(X[:1], 2, 0), None, 1, 2, order="random")
    assert not np.allclose(scores[:, 0], scores[:, 1])


def check_the_blur_is_that_of_the_whole_image():
    maps, _, _ = parts()
    whole = fills.blurred(X)
    ours = quality.pixel_flipping(linear(), X, maps, 1, 2, fill="blur")
    close(ours[-1], linear()(whole).numpy()[:, 1])
    close(ours, quality.pixel_flipping(linear(), X, maps, 1, 2, fill=whole))


def check_holes_are_filled_and_the_rest_is_kept():
    hole = np.zeros((2, 4, 6), bool)
    hole[:, 1:3, 1:4] = True
    filled = selectivity.fill_of(0.5, X, lambda x, name: np.asarray(x, X.dtype))(X, hole)
    assert (filled[hole] == 0.5).all() and np.array_equal(filled[~hole], X[~hole])


def check_a_pixel_is_the_mean_of_its_neighbours():
    hole = np.zeros((2, 4, 6), bool)
    hole[:, 2, 2] = hole[:, 0, 0] = True
    filled = quality.linear_imputation(noise=0)(X, hole)
    sides, corners = X[:, [1, 3, 2, 2], [2, 2, 1, 3]].sum(1), X[:, [1, 1, 3, 3], [1, 3, 1, 3]].sum(1)
    close(filled[:, 2, 2], sides / 6 + corners / 12)
    close(filled[:, 0, 0], (2 * (X[:, 0, 1] + X[:, 1, 0]) + X[:, 1, 1]) / 5)


def check_inpainting_stays_within_what_is_left():
    hole = np.zeros((2, 4, 6), bool)
    hole[:, 1:3, 1:4] = True
    assert np.abs(fills.inpainted(0.2 * hole[..., None] + 0.5, hole) - 0.5).max() < 1e-5


def check_an_area_is_a_mean_height():
    assert np.allclose(quality.area_under_curve([[4.0, 4], [4, 2], [4, 0]]), [4, 2])


def moved(by):
    """Two neighbours, so far from the image in one value."""
    moves = np.repeat(X[None], 2, 0)
    moves[0, :, 0, 0, 0] += by
    moves[1, :, 0, 0] += 4 * by  # two values: sqrt(2) times as far as each, not twice
    return moves


def check_continuity_is_the_largest_ratio():
    def of_one_value(model, x, target):
        return x[:, 0, 0, :1]

    close(quality.continuity(of_one_value, linear(), X, 1, moved(0.25)), np.ones(2))

    def of_two_values(model, x, target):
        return x[:, 0, 0]

    close(quality.continuity(of_two_values, linear(), X, 1, moved(0.25)), np.full(2, np.sqrt(2)))


def check_the_class_is_kept():
    predicted = linear()(X).numpy().argmax(-1)
    assert (linear()(-X).numpy().argmax(-1) != predicted).all()
    assert np.array_equal(quality.continuity(gradient, linear(), X, None, -X[None]), np.zeros(2))


def check_channels_are_summed_before_signs_are_lost():
    A, B = noise(3, 8, 9, 2), noise(3, 8, 9, 2, seed=2)
    close(quality.similarity(A, B, "pearson", True), quality.similarity(A.sum(-1), B.sum(-1), "pearson", True))


def check_constant_maps_are_counted_apart():
    A = noise(3, 8, 9)
    A[0] = 0.5
    for measure in sanity.MEASURES:
        assert np.array_equal(np.isnan(quality.similarity(A, A, measure)), [True, False, False])


def check_ties_share_their_rank():
    a, b = np.array([[[1.0, 1, 2, 3]]]), np.array([[[4.0, 1, 2, 3]]])
    ranks = [[1.5, 1.5, 3, 4], [4, 1, 2, 3]]
    close(quality.similarity(a, b, "spearman"), np.corrcoef(ranks)[:1, 1])


def check_only_the_named_layer_is_random():
    model = chain((4,), dense(3, "relu"), dense(3, name="it"))
    copy = quality.randomized(model, "it")
    assert [np.array_equal(*one) for one in zip(model.get_weights(), copy.get_weights())] == [True, True, False, False]


def check_all_of_a_layer_is_random():
    x = keras.Input((5, 2), **F)
    model = randomize(keras.Model(x, dense(2)(L.GRU(3, name="it", **F)(x))))
    copy = quality.randomized(model, "it")
    same = [np.array_equal(*one) for one in zip(model.get_weights(), copy.get_weights())]
    assert same == [False, False, False, True, True]


# --- the defects: each replaces something in `utils`


def flip_the_least_relevant_first(patch):
    ranks = selectivity._ranks
    patch.setattr(selectivity, "_ranks", lambda relevance, order, seed: ranks(-relevance, order, seed))


def flip_by_absolute_values(patch):
    ranks = selectivity._ranks
    patch.setattr(selectivity, "_ranks", lambda relevance, order, seed: ranks(np.abs(relevance), order, seed))


def break_ties_by_place(patch):
    patch.setattr(selectivity, "_ranks", lambda relevance, *how: np.argsort(-relevance, 1, "stable").argsort(1))


def draw_one_order_for_all(patch):
    ranks = selectivity._ranks
    patch.setattr(selectivity, "_ranks", lambda relevance, *how: ranks(relevance[:1], *how).repeat(len(relevance), 0))


def blur_what_is_left(patch):
    def again(fill, x, check):
        return lambda x, removed: fills.keep_the_rest(
            fills.blurred(x * ~removed[..., None]) if isinstance(fill, str) else fill, x, removed
        )

    patch.setattr(selectivity, "fill_of", again)


def fill_the_rest(patch):
    patch.setattr(fills, "keep_the_rest", lambda filled, x, removed: np.where(removed[..., None], x, filled))


def weigh_corners_as_sides(patch):
    patch.setattr(fills, "NEIGHBOURS", dict.fromkeys(fills.NEIGHBOURS, 1 / 8))


def leave_the_edge_dark(patch):
    """Weights that are not scaled to 1 at the edge of the image."""
    means = fills._means_of_neighbours
    patch.setattr(
        fills, "_means_of_neighbours", lambda height, width: means(height + 2, width + 2)[_inside(height, width)]
    )


def _inside(height, width):
    index = np.arange((height + 2) * (width + 2)).reshape(height + 2, width + 2)[1:-1, 1:-1].ravel()
    return np.ix_(index, index)


def inpaint_as_if_white_were_255(patch):
    patch.setattr(fills, "LEVELS", np.float32(1))


def sum_the_curve(patch):
    area = quality.area_under_curve
    patch.setattr(quality, "area_under_curve", lambda scores: (len(scores) - 1) * area(scores))


def take_the_mean_of_the_ratios(patch):
    largest = quality.continuity

    def mean(method, model, x, target, moves):
        return np.mean([largest(method, model, x, target, one[None]) for one in moves], 0)

    patch.setattr(quality, "continuity", mean)


def divide_by_the_sum_of_absolute_changes(patch):
    largest = quality.continuity

    def by_the_sum(method, model, x, target, moves):
        change = (moves - x).reshape(*moves.shape[:2], -1)
        ways = np.linalg.norm(change, axis=-1) / np.abs(change).sum(-1)
        return np.max([way * largest(method, model, x, target, one[None]) for way, one in zip(ways, moves)], 0)

    patch.setattr(quality, "continuity", by_the_sum)


def predict_again_after_each_move(patch):
    usual = neighbours.checked

    def forget(*how):
        f, x, _ = usual(*how)
        return f, x, None

    patch.setattr(neighbours, "checked", forget)


def lose_signs_before_the_sum(patch):
    usual = quality.similarity

    def absolute(A, B, measure, absolute=False):
        return usual(*(np.abs(maps) if absolute else maps for maps in (A, B)), measure, absolute)

    patch.setattr(quality, "similarity", absolute)


def count_constant_maps_as_different(patch, value=0):
    alike = sanity._alike
    patch.setattr(sanity, "_alike", lambda *how: np.nan_to_num(alike(*how), nan=value))


def count_constant_maps_as_alike(patch):
    count_constant_maps_as_different(patch, 1)


def rank_ties_by_place(patch):
    patch.setattr(sanity.stats, "rankdata", lambda a: a.ravel().argsort(kind="stable").argsort().reshape(a.shape) + 1.0)


def forget_the_weights(patch):
    patch.setattr(keras.Model, "set_weights", lambda self, weights: None)


def forget_the_weights_unnoticed(patch):
    forget_the_weights(patch)
    patch.setattr(sanity, "_check_copy", lambda model, copy: None)


def keep_recurrent_kernels(patch):
    drawn = sanity._drawn

    def partly(layer, weight, seed):
        return weight if weight.name == "recurrent_kernel" else drawn(layer, weight, seed)

    patch.setattr(sanity, "_drawn", partly)


def keep_all_weights(patch):
    patch.setattr(sanity, "_drawn", lambda layer, weight, seed: weight)


DEFECTS = [
    (flip_the_least_relevant_first, check_the_score_falls_by_the_largest_part_first),
    (flip_by_absolute_values, check_the_score_falls_by_the_largest_part_first),
    (break_ties_by_place, check_ties_are_drawn),
    (draw_one_order_for_all, check_images_have_orders_of_their_own),
    (blur_what_is_left, check_the_blur_is_that_of_the_whole_image),
    (fill_the_rest, check_holes_are_filled_and_the_rest_is_kept),
    (weigh_corners_as_sides, check_a_pixel_is_the_mean_of_its_neighbours),
    (leave_the_edge_dark, check_a_pixel_is_the_mean_of_its_neighbours),
    (inpaint_as_if_white_were_255, check_inpainting_stays_within_what_is_left),
    (sum_the_curve, check_an_area_is_a_mean_height),
    (take_the_mean_of_the_ratios, check_continuity_is_the_largest_ratio),
    (divide_by_the_sum_of_absolute_changes, check_continuity_is_the_largest_ratio),
    (predict_again_after_each_move, check_the_class_is_kept),
    (lose_signs_before_the_sum, check_channels_are_summed_before_signs_are_lost),
    (count_constant_maps_as_different, check_constant_maps_are_counted_apart),
    (count_constant_maps_as_alike, check_constant_maps_are_counted_apart),
    (rank_ties_by_place, check_ties_share_their_rank),
    (forget_the_weights_unnoticed, check_only_the_named_layer_is_random),
    (keep_recurrent_kernels, check_all_of_a_layer_is_random),
]


@pytest.mark.parametrize(("defect", "check"), DEFECTS, ids=[defect.__name__ for defect, _ in DEFECTS])
def test_a_defect_is_noticed(defect, check, monkeypatch):
    check()
    defect(monkeypatch)
    with pytest.raises(AssertionError):
        check()


@pytest.mark.parametrize(
    ("defect", "said"),
    [(forget_the_weights, "does not compute what it computes"), (keep_all_weights, "the same weights as before")],
)
def test_copies_that_are_random_everywhere_or_not_at_all_are_refused(defect, said, monkeypatch):
    defect(monkeypatch)
    with refused(said):
        check_only_the_named_layer_is_random()
