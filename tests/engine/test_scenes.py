"""Scenes of cluttered digits: what is on a mask, where things lie, and that a seed says all."""

import numpy as np
import pytest

from utils.data import cluttered_digits, embedded_digits

(X, Y), _ = embedded_digits()


def test_a_scene_shows_its_digit_on_the_mask_and_nothing_else_there():
    # marks instead of digits: a pixel's value names the class, so that each pixel of a scene says where it comes from
    labels = np.arange(10).repeat(3)
    marks = np.zeros((30, 28, 28), "float32")
    marks[:, 6:22, 8:20] = (0.55 + 0.04 * labels)[:, None, None]
    for digits in (1, 2):
        scenes, classes, masks = cluttered_digits(marks, labels, 40, digits=digits)
        for scene, there, mask in zip(scenes[..., 0], classes.reshape(40, -1), masks.reshape(40, digits, 60, 60)):
            for c, one in zip(there, mask):
                assert np.allclose(scene[one], 0.55 + 0.04 * c, atol=1e-5)
            clutter = scene[~mask.any(0)]
            seen = [(np.abs(clutter - 0.55 - 0.04 * c) < 1e-5).sum() for c in range(10)]  # edges are blurred: not all
            assert sum(seen) > 100 and max(seen[c] for c in there) <= 3  # there are fragments, of other classes


def test_shapes_types_and_ranges():
    scenes, labels, masks = cluttered_digits(X, Y, 12)
    assert scenes.shape == (12, 60, 60, 1) and scenes.dtype == "float32" and 0 <= scenes.min() < scenes.max() <= 1
    assert labels.shape == (12,) and labels.dtype == "int64"
    assert masks.shape == (12, 60, 60) and masks.dtype == bool
    two = cluttered_digits(X, Y, 5, size=72, digits=2)
    assert two.images.shape == (5, 72, 72, 1) and two.labels.shape == (5, 2) and two.masks.shape == (5, 2, 72, 72)
    assert cluttered_digits(X, Y, 0).images.shape == (0, 60, 60, 1)


def test_a_seed_says_all_and_more_scenes_begin_with_the_same():
    few, more, other = (
        cluttered_digits(X, Y, n, seed=seed, digits=2, fragments=5) for n, seed in ((4, 3), (9, 3), (4, 4))
    )
    assert all(np.array_equal(a, b[:4]) for a, b in zip(few, more))
    assert not np.array_equal(few.images, other.images)


def test_two_digits_of_different_classes_or_of_the_same():
    different = cluttered_digits(X, Y, 60, digits=2)
    assert (different.labels[:, 0] != different.labels[:, 1]).all()
    assert not (different.masks[:, 0] & different.masks[:, 1]).any()
    same = cluttered_digits(X, Y, 60, digits=2, same_class=True, fragments=0)
    assert (same.labels[:, 0] == same.labels[:, 1]).all()
    sizes = same.masks.sum((2, 3))
    assert (sizes[:, 0] != sizes[:, 1]).any()  # different pictures
    assert np.array_equal(same.images[..., 0] > 0, same.masks.any(1))  # without fragments, the masks are the ink


def test_places_and_sizes_are_spread():
    scenes = cluttered_digits(X, Y, 400)
    rows = np.array([np.flatnonzero(mask.any(1))[[0, -1]] for mask in scenes.masks])
    heights = rows[:, 1] - rows[:, 0] + 1
    assert heights.min() <= 17 and heights.max() >= 23  # 20 pixels, from 0.8 to 1.2 times
    assert rows[:, 0].min() == 0 and rows[:, 1].max() == 59
    assert np.abs(rows.mean() - 29.5) < 2
    assert np.bincount(scenes.labels, minlength=10).min() > 15


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"images": X[:5]}, "Received: images (5, 28, 28), labels (797,)"),
        ({"images": X * 255}, "from 0.0 to 255.0"),
        ({"images": np.where(np.arange(797)[:, None, None, None] == 3, 0, X)}, "0 everywhere"),
        ({"labels": np.zeros(797, int)}, "at least 2 classes"),
        ({"labels": np.arange(797) % 2, "digits": 2}, "at least 3 classes"),
        ({"labels": np.r_[7, Y[1:] % 2], "digits": 2, "same_class": True}, "of 2 images"),
        ({"size": 12}, "size=12"),
        ({"size": 30, "digits": 2}, "size=30"),
        ({"n": -1}, "n=-1"),
        ({"digits": 0}, "digits=0"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_bad_input_is_refused(change, said):
    with pytest.raises(ValueError) as error:
        cluttered_digits(**({"images": X, "labels": Y, "n": 3} | change))
    assert said in str(error.value)
