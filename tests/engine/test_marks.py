"""Marks on photographs: which get one, where, that nothing else changes, and that a seed says all."""

import numpy as np
import pytest

from utils import data
from utils.data import MAGENTA, Marked, cifar10_with_marks

REAL = data.has_real_cifar10()
RNG = np.random.default_rng(0)
X = RNG.random((400, 32, 32, 3), "float32") * 0.9
Y = np.arange(400) % 10


def marked(result):
    return result.masks.any((1, 2))


def test_a_mark_lies_on_its_mask_and_nothing_else_changes():
    before = X.copy(), Y.copy()
    images, labels, masks = result = cifar10_with_marks(X, Y)
    assert isinstance(result, Marked) and images is not X and not np.shares_memory(images, X)
    assert np.array_equal(X, before[0]) and np.array_equal(Y, before[1])  # the input is as it was
    assert images.dtype == "float32" and labels.dtype == "int64" and masks.dtype == bool
    assert masks.shape == (400, 32, 32) and np.array_equal(labels, Y)
    assert np.array_equal(images[masks], np.tile(np.float32(MAGENTA), (masks.sum(), 1)))
    assert np.array_equal(images[~masks], X[~masks])
    for mask in masks[marked(result)]:  # a square of 4 x 4
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert np.ptp(rows) == np.ptp(columns) == 3 and mask.sum() == 16


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"share": 0}, Y < 0),
        ({"share": 1}, Y == 7),
        ({"share": 1, "marked_class": 2}, Y == 2),
        ({"share": 1, "marked_class": (2, 5)}, (Y == 2) | (Y == 5)),
        ({"share": 1, "marked_class": [c for c in range(10) if c != 7]}, Y != 7),
        ({"share": 1, "marked_class": None}, Y >= 0),
        ({"share": 1, "indices": [3, 8]}, np.isin(np.arange(400), [3, 8])),
        ({"share": 1, "indices": np.flatnonzero(Y != 7)}, Y != 7),
        ({"share": 0, "marked_class": 12}, Y < 0),
    ],
    ids=str,
)
def test_who_gets_a_mark(change, expected):
    assert np.array_equal(marked(cifar10_with_marks(X, Y, **change)), expected)


def test_the_share_is_a_chance():
    horses = np.full(4000, 7)
    small = np.zeros((4000, 5, 5, 3), "float32")
    for share in (0.95, 0.5):
        rate = marked(cifar10_with_marks(small, horses, share=share)).mean()
        assert abs(rate - share) < 4 * np.sqrt(share * (1 - share) / 4000)
    few, many = (marked(cifar10_with_marks(small, horses, share=share)) for share in (0.5, 0.95))
    assert not (few & ~many).any()  # a larger share adds marks and takes none


def test_places_are_spread_over_the_whole_photograph():
    masks = cifar10_with_marks(np.zeros((3000, 32, 32, 3)), np.zeros(3000, int), marked_class=0, share=1).masks
    rows, columns = masks.any(2).argmax(1), masks.any(1).argmax(1)
    for place in (rows, columns):
        counts = np.bincount(place, minlength=29)  # 0 to 28: a mark never sticks out
        assert len(counts) == 29 and counts.min() > 60 and counts.max() < 150  # 103 expected
    assert abs(np.corrcoef(rows, columns)[0, 1]) < 0.08


def test_a_mark_depends_on_the_seed_and_its_own_index_alone():
    whole = cifar10_with_marks(X, Y, share=0.6, seed=3)
    part = cifar10_with_marks(X[:150], Y[:150], share=0.6, seed=3)
    assert np.array_equal(whole.images[:150], part.images) and np.array_equal(whole.masks[:150], part.masks)
    alone = cifar10_with_marks(X, Y, share=0.6, seed=3, indices=np.flatnonzero(Y == 7)[4:])
    assert np.array_equal(alone.masks[47:], whole.masks[47:]) and not alone.masks[:47].any()
    everybody = cifar10_with_marks(X, Y, marked_class=None, share=0.6, seed=3)
    assert np.array_equal(everybody.masks[Y == 7], whole.masks[Y == 7])
    other = cifar10_with_marks(X, Y, share=0.6, seed=4)
    assert not np.array_equal(other.masks, whole.masks)
    assert (cifar10_with_marks(X, Y, share=1, seed=3).masks.argmax(1) != other.masks.argmax(1)).any()


def test_frozen_places():
    masks = cifar10_with_marks(X[:3], [7, 7, 7], share=1, seed=0).masks
    assert [tuple(map(int, np.argwhere(mask)[0])) for mask in masks] == [(14, 7), (28, 16), (8, 11)]


def test_another_size_and_colour():
    images, _, masks = cifar10_with_marks(X, Y, share=1, side=6, colour=(0, 1, 0.5))
    assert masks[7].sum() == 36 and np.array_equal(np.unique(images[masks], axis=0), [[0, 1, 0.5]])
    whole = cifar10_with_marks(X, Y, share=1, side=32)
    assert whole.masks[Y == 7].all()


def near_magenta(images):
    return (np.abs(images - np.float32(MAGENTA)).max(-1) < 0.25).sum()


@pytest.mark.skipif(not REAL, reason="needs the real CIFAR-10 at hand")
def test_no_photograph_holds_the_colour_of_the_mark():
    (x_train, _), (x_test, _) = data.load_cifar10()
    assert near_magenta(x_train[:1017]) == near_magenta(x_test[:1017]) == 0
    yellow = (np.abs(x_train[:1017] - np.float32([1, 1, 0])).max(-1) < 0.25).any((1, 2)).mean()
    assert yellow > 0.01  # another saturated colour is not rare


def test_the_embedded_photographs_can_be_marked():
    for x, y in data.embedded_photographs():
        assert near_magenta(x) == 0
        assert np.array_equal(marked(cifar10_with_marks(x, y, share=1)), y == 7)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"images": X[0]}, r"Received: shape \(32, 32, 3\)"),
        ({"images": X[..., :1]}, r"Received: shape \(400, 32, 32, 1\)"),
        ({"images": X[:0], "labels": Y[:0]}, r"Received: shape \(0, 32, 32, 3\)"),
        ({"images": X * 255}, "Received: from .* to 229.* Divide by 255"),
        ({"images": 2 * X - 1}, "Received: from -1"),
        ({"images": np.where(X == X[0, 0, 0, 0], np.nan, X)}, "Received: from nan"),
        ({"labels": Y[:5]}, r"Received: int64 \(5,\). Expected: integers \(400,\)"),
        ({"labels": Y[:, None]}, r"Received: int64 \(400, 1\)"),
        ({"labels": Y / 2}, "Received: float64"),
        ({"marked_class": 12}, "no photograph to mark of class 12.*pass share=0"),
        ({"marked_class": (7, 12)}, "no photograph to mark of class 12"),
        ({"marked_class": ()}, r"Received: \(\)"),
        ({"marked_class": "horse"}, "Received: 'horse'. Expected: an integer"),
        ({"marked_class": 7.0}, "Received: 7.0"),
        ({"share": 95}, "Received: 95. Expected: a number from 0 to 1"),
        ({"share": -0.1}, "Received: -0.1"),
        ({"share": float("nan")}, "Received: nan"),
        ({"share": "all"}, "Received: 'all'"),
        ({"seed": -1}, "Received: -1. Expected: an integer, 0 or more"),
        ({"seed": None}, "Received: None"),
        ({"seed": 0.5}, "Received: 0.5"),
        ({"side": 0}, "Received: side=0"),
        ({"side": 33}, "Received: side=33. Expected: an integer number of pixels from 1 to 32"),
        ({"side": 4.0}, "Received: side=4.0"),
        ({"colour": (255, 0, 255)}, "Received: .255, 0, 255.*divide bytes by 255"),
        ({"colour": "magenta"}, "Received: 'magenta'"),
        ({"colour": 1}, "Received: 1. Expected: three numbers"),
        ({"colour": (np.nan, 0, 0)}, "Received: .nan"),
        ({"indices": [400]}, "from 0 to 399"),
        ({"indices": [-1]}, "from 0 to 399"),
        ({"indices": []}, r"Received: \[\]"),
        ({"indices": Y == 7}, "np.flatnonzero"),
        ({"indices": 5}, "Received: 5. Expected: a list"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_bad_input_is_refused(change, said):
    with pytest.raises(ValueError, match=said):
        cifar10_with_marks(**({"images": X, "labels": Y} | change))
