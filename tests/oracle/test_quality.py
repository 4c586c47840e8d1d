"""Measures of localisation, on maps whose score is known exactly, and beside plain loops."""

import numpy as np
import pytest

from utils.quality import (
    MEASURES,
    intersection_over_union,
    mean_and_interval,
    pointing_game,
    relevance_mass,
    relevance_rank,
)

RNG = np.random.default_rng(0)
MASKS = np.zeros((4, 10, 12), bool)
for k, mask in enumerate(MASKS):
    mask[k : k + 4, 2 : 5 + k] = True
AREA = MASKS.mean((1, 2))


@pytest.mark.parametrize("measure", MEASURES.values(), ids=list(MEASURES))
def test_maps_whose_score_is_known(measure):
    n = len(MASKS)
    assert np.array_equal(measure(MASKS.astype("float32"), MASKS), np.ones(n))  # the mask itself
    assert np.array_equal(measure(1.0 - MASKS, MASKS), np.zeros(n))  # its complement
    assert np.allclose(measure(np.full(MASKS.shape, 0.3), MASKS), AREA, atol=1e-12)  # uniform: the area
    assert np.array_equal(measure(np.zeros(MASKS.shape), MASKS), np.zeros(n))
    assert np.array_equal(measure(-1.0 * MASKS, MASKS), np.zeros(n))  # what speaks against the class does not count
    maps = RNG.random(MASKS.shape)
    assert np.allclose(measure(1e-6 * maps, MASKS), measure(maps, MASKS))  # the unit does not matter
    half = MASKS * RNG.standard_normal((4, 10, 12))
    channels = np.stack([half, 2 * MASKS - half], -1)
    assert np.allclose(measure(channels, MASKS), 1)  # channels are summed


def test_random_maps_score_the_area_on_average():
    maps, masks = RNG.random((4000, 10, 12)), np.repeat(MASKS[1:2], 4000, 0)
    for measure in (pointing_game, relevance_mass, relevance_rank):
        scores = measure(maps, masks)
        assert abs(scores.mean() - AREA[1]) < 4 * scores.std() / np.sqrt(4000)


def test_the_measures_are_plain_loops():
    maps, masks = RNG.standard_normal((6, 5, 7)), RNG.random((6, 5, 7)) < 0.3
    for i, (values, mask) in enumerate(zip(maps, masks)):
        pixels = [(values[p], mask[p]) for p in np.ndindex(5, 7)]
        ranked = sorted(pixels, reverse=True, key=lambda pixel: pixel[0])
        positive = [(v, m) for v, m in pixels if v > 0]
        mass = sum(v for v, m in positive if m) / sum(v for v, _ in positive)
        region = [(v >= 0.5 * ranked[0][0], m) for v, m in pixels]
        iou = sum(r and m for r, m in region) / sum(r or m for r, m in region)
        rank = sum(m and v > 0 for v, m in ranked[: mask.sum()]) / mask.sum()
        ours = [measure(maps, masks)[i] for measure in MEASURES.values()]
        assert np.allclose(ours, [ranked[0][1], mass, rank, iou])


def test_ties_count_for_what_a_random_order_gives():
    mask = np.zeros((1, 1, 6), bool)
    mask[0, 0, :3] = True
    values = np.array([[[3.0, 1, 1, 1, 1, 0]]])
    assert np.allclose(relevance_rank(values, mask), (1 + 2 * 2 / 4) / 3)  # 2 places left for 4, of which 2 on the mask
    assert np.allclose(pointing_game(np.array([[[2.0, 0, 0, 2, 2, 1]]]), mask), 1 / 3)
    assert np.allclose(relevance_rank(np.array([[[5.0, 0, 0, 0, 0, 0]]]), mask), 1 / 3)  # zeros are no answer


def test_iou_follows_its_threshold():
    mask = np.array([[[True, True, False, False]]])
    values = np.array([[[1.0, 0.4, 0.6, 0.1]]])
    found = [intersection_over_union(values, mask, threshold)[0] for threshold in (0.05, 0.3, 0.5, 1)]
    assert np.allclose(found, [2 / 4, 2 / 3, 1 / 3, 1 / 2])


def test_the_interval_covers_the_mean_as_often_as_it_says():
    hits = 0
    for seed in range(200):
        scores = np.random.default_rng(seed).random(60) < 0.3
        mean, low, high = mean_and_interval(scores, resamples=300, seed=seed)
        assert low <= mean <= high and mean == scores.mean()
        hits += low <= 0.3 <= high
    assert 175 <= hits <= 200  # 95 % of 200, give or take three standard deviations and the bootstrap's own bias
    assert mean_and_interval(np.arange(9)) == mean_and_interval(np.arange(9))
    wide, narrow = (np.ptp(mean_and_interval(np.arange(50), confidence=c)[1:]) for c in (0.99, 0.5))
    assert wide > 2 * narrow


@pytest.mark.parametrize("measure", MEASURES.values(), ids=list(MEASURES))
@pytest.mark.parametrize(
    ("maps", "masks", "said"),
    [
        (np.ones((4, 5, 6)), MASKS, "maps (4, 5, 6), masks (4, 10, 12)"),
        (np.ones((10, 12)), MASKS[0], "Expected: both"),
        (np.full(MASKS.shape, np.nan), MASKS, "not finite"),
        (np.ones(MASKS.shape), MASKS * 2, "True on the object"),
        (np.ones(MASKS.shape), MASKS & False, "Mask 0 is empty"),
    ],
    ids=["shape", "one image", "NaN", "mask values", "empty mask"],
)
def test_bad_input_is_refused(measure, maps, masks, said):
    with pytest.raises(ValueError) as error:
        measure(maps, masks)
    assert said in str(error.value)


def test_bad_thresholds_and_scores_are_refused():
    for threshold in (0, -1, 1.5):
        with pytest.raises(ValueError, match="threshold"):
            intersection_over_union(1.0 * MASKS, MASKS, threshold)
    for scores in ([0.5], [[0.1, 0.2]], [0.1, np.nan]):
        with pytest.raises(ValueError, match="scores"):
            mean_and_interval(scores)
    with pytest.raises(ValueError, match="confidence"):
        mean_and_interval([0.1, 0.2], confidence=95)
