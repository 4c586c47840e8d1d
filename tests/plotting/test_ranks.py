"""The table of ranks: what its cells say."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from utils.plotting import plot_ranks
from utils.quality import rank_intervals

NAN = [np.nan] * 3


@pytest.fixture
def figure(monkeypatch):
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(plt.gcf()))
    ranks = [[[1, 1, 1], NAN], [[2, 1, 3], [1, 1, 1]], [[3, 2, 3], [2, 2, 2]]]
    plot_ranks(ranks, ["a", "b", "c"], ["one", "other"], {"first": 1, "second": 2})
    yield shown[0]
    plt.close("all")


def test_cells_say_the_interval(figure):
    texts = figure.axes[0].texts
    assert [text.get_text() for text in texts] == ["1", "–", "1–3", "1", "2–3", "2"]
    assert [text.get_fontweight() for text in texts] == ["bold", "normal", "bold", "bold", "normal", "normal"]
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["a", "b", "c"]
    assert len(figure.axes[0].lines) == 1  # between the groups


def test_ranks_that_do_not_fit():
    with pytest.raises(ValueError, match=r"\[1, 2, 3\].*Received: \(2, 2, 3\)"):
        plot_ranks(np.ones((2, 2, 3)), ["a"], ["one", "other"])


def test_rank_intervals():
    draw = np.random.default_rng(0)
    hard = 5 * draw.random(200)  # of the image, for all methods
    values = np.stack([hard, hard + 1, hard + 1, np.full(200, np.nan), hard + 0.01 * draw.standard_normal(200)])
    less, more = rank_intervals(values, "less", resamples=300), rank_intervals(values, "more", resamples=300)
    assert np.isnan(less[3]).all() and np.array_equal(np.sort(less[[0, 4], 0]), [1, 2])
    assert np.array_equal(less[1], [3, 3, 3]) and np.array_equal(more[2], [1, 1, 1])
    assert np.array_equal(less[0, 1:], [1, 2])  # a tie with the last
    apart = rank_intervals(np.stack([hard, hard + 0.5]), "less", resamples=300)
    assert np.array_equal(apart, [[1, 1, 1], [2, 2, 2]])  # though their means vary by more than they differ
    with pytest.raises(ValueError, match="Received: 'most'"):
        rank_intervals(values, "most")
    with pytest.raises(ValueError, match=r"Received: \(5,\)"):
        rank_intervals(values[:, 0], "less")
