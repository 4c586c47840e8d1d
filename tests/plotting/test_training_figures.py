"""Curves of a training, histograms of weights and kernels as colours show what they are given, or refuse it."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from utils import plotting
from utils.plotting.training import kernel_tiles

LOG = [
    {"epoch": k + 1, "accuracy": 0.3 + 0.1 * k, "loss": 2 - 0.3 * k, "test_accuracy": 0.4 + 0.1 * k, "test_loss": 1.5}
    for k in range(4)
]
rng = np.random.default_rng(0)
WEIGHTS = {f"conv{k}": rng.normal(0.5, 2, (3, 3, 4, 50)) for k in range(1, 6)}


def test_a_training_has_both_curves_of_both_measures():
    bands = {"of 50": (np.full(4, 0.2), np.full(4, 0.9))}
    plotting.plot_training(LOG, {"small": 3, "large": 1}, bands)
    accuracy, loss = plt.gcf().axes
    for axis, name in ((accuracy, "accuracy"), (loss, "loss")):
        for line, key in zip(axis.lines, (f"test_{name}", name)):
            assert np.array_equal(line.get_xydata(), [(row["epoch"], row[key]) for row in LOG])
        assert axis.lines[0].get_linestyle() != axis.lines[1].get_linestyle()
        assert [(text.get_position()[0], text.get_text()) for text in axis.texts] == [(2, "small"), (4, "large")]
    assert [band.get_label() for band in accuracy.collections] == ["of 50"] and not loss.collections
    assert np.array_equal(np.unique(accuracy.collections[0].get_paths()[0].vertices[:, 1]), [0.2, 0.9])


def test_histograms_show_densities_and_name_mean_and_deviation():
    after = {name: values - 1.5 for name, values in WEIGHTS.items()}
    plotting.plot_histograms({"before": WEIGHTS, "after": after})
    axes = np.reshape(plt.gcf().axes, (2, 2))
    for row, weights in zip(axes, (WEIGHTS, after)):
        assert [len(axis.patches) for axis in row] == [3, 2]
        drawn = [patch for axis in row for patch in axis.patches]
        for (name, values), patch in zip(weights.items(), drawn):
            density, edges, _ = patch.get_data()
            middle = (edges[1:] + edges[:-1]) / 2
            assert (density * np.diff(edges)).sum() == pytest.approx(1)
            assert (density * np.diff(edges) * middle).sum() == pytest.approx(values.mean(), abs=0.05)
            sign = "+" if values.mean() > 0 else "\N{MINUS SIGN}"
            assert patch.get_label() == f"{name}  {sign}{abs(values.mean()):.3f} $\\pm$ {values.std():.3f}"
    for above, below in axes.T:
        assert above.get_xlim() == below.get_xlim() and above.get_ylim() == below.get_ylim()


def test_kernels_are_colours_around_grey_each_in_its_own_scale():
    kernels = rng.normal(size=(3, 3, 3, 5)) * [1, 10, 100, 1, 0]
    tiles = kernel_tiles(kernels, columns=2)
    assert tiles.shape == (11, 7, 3) and tiles.min() >= 0 and tiles.max() <= 1
    assert (tiles[3] == 1).all() and (tiles[:, 3] == 1).all()  # the gaps, and the place that is empty
    assert (tiles[8:, 4:] == 1).all() and (tiles[8:, :3] == 0.5).all()
    for k, (top, left) in enumerate([(0, 0), (0, 4), (4, 0), (4, 4)]):
        one = tiles[top : top + 3, left : left + 3]
        assert np.allclose((one - 0.5) * 2 * np.abs(kernels[..., k]).max(), kernels[..., k])
    plotting.show_kernels({"before": kernels, "after": kernels[..., :3]}, columns=2)
    assert [axis.get_title() for axis in plt.gcf().axes] == ["before", "after"]
    assert np.array_equal(plt.gcf().axes[0].images[0].get_array(), tiles)


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (lambda: plotting.plot_training([]), "empty log"),
        (lambda: plotting.plot_training(LOG, {"small": 3}), "3 epochs in stages. Expected: 4"),
        (lambda: plotting.plot_histograms({"before": WEIGHTS, "after": {"conv1": rng.random(3)}}), "the same layers"),
        (lambda: plotting.show_kernels({"conv2": rng.random((3, 3, 32, 4))}), r"shape \(3, 3, 32, 4\)"),
    ],
)
def test_what_does_not_fit_is_refused(draw, words):
    with pytest.raises(ValueError, match=words):
        draw()
    assert not plt.get_fignums()
