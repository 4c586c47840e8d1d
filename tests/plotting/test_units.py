"""Figures of single units: what lies where, which colours, and what is refused."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from utils import plotting

RNG = np.random.default_rng(0)
PHOTOGRAPH = RNG.random((8, 8, 3))


def test_a_sheet_has_each_picture_in_its_place():
    pictures = RNG.random((5, 3, 4, 3))
    whole = plotting.sheet(pictures, 2, paper=0.25)
    assert whole.shape == (3 * 3 + 2, 2 * 4 + 1, 3)
    for k, (top, left) in enumerate([(0, 0), (0, 5), (4, 0), (4, 5), (8, 0)]):
        assert np.array_equal(whole[top : top + 3, left : left + 4], pictures[k])
    assert (whole[3] == 0.25).all() and (whole[:, 4] == 0.25).all() and (whole[8:, 5:] == 0.25).all()


@pytest.mark.parametrize(
    ("pictures", "across", "words"), [(np.ones((3, 3)), 2, "shape"), (np.ones((1, 3, 3)), 0, "across")]
)
def test_a_sheet_refuses(pictures, across, words):
    with pytest.raises(ValueError, match=words):
        plotting.sheet(pictures, across)


def test_each_channel_is_scaled_by_its_own_largest_value():
    maps = RNG.standard_normal((4, 4, 5)) * [1, 10, 100, 1e-3, 0]
    plotting.show_channels(PHOTOGRAPH, {"one": maps, "two": maps[..., :2]}, count=4, across=2)
    photograph, first, _, second = (axis.images[0] for axis in plt.gcf().axes[:4])
    assert np.allclose(photograph.get_array(), PHOTOGRAPH)
    assert first.get_clim() == (-1, 1) and first.cmap.name == "signed"
    values = np.ma.filled(first.get_array(), np.nan)
    for k, (top, left) in enumerate([(0, 0), (0, 5), (5, 0), (5, 5)]):
        expected = maps[..., k] / np.abs(maps[..., k]).max()
        assert np.allclose(values[top : top + 4, left : left + 4], expected)
    assert not np.nan_to_num(np.ma.filled(second.get_array(), np.nan))[5:].any()  # there is no third channel


def test_a_channel_without_a_value_is_white():
    plotting.show_channels(PHOTOGRAPH, {"off": np.zeros((4, 4, 1))}, count=1, across=1)
    assert (plt.gcf().axes[1].images[0].get_array() == 0).all()


def test_frames_of_channels_are_of_one_size_whatever_the_layer_has():
    layers = {"input": PHOTOGRAPH, "deep": RNG.random((2, 2, 40))}
    frames = plotting.channel_frames(PHOTOGRAPH, layers)
    assert len(frames) == 2 and len({tuple(frame.get_size_inches()) for frame in frames}) == 1
    assert [frame.axes[1].get_title() for frame in frames] == ["input", "deep"]


def test_windows_may_stick_out_of_the_photograph():
    plotting.show_windows(PHOTOGRAPH, {"small": (1, 2, 3, 4), "large": (-5, -6, 20, 22)}, alt="two windows")
    (axis,) = plt.gcf().axes
    small, large = axis.patches
    assert (*small.get_xy(), small.get_width(), small.get_height()) == (2, 1, 4, 3)
    assert (*large.get_xy(), large.get_width(), large.get_height()) == (-6, -5, 22, 20)
    assert axis.get_xlim()[0] < -6 and axis.get_xlim()[1] > 16 and axis.get_ylim()[0] > 15 > -5 > axis.get_ylim()[1]


def test_channels_without_a_preference_have_no_point():
    preferred, selectivity = np.array([0, 120, np.nan]), np.array([0.5, 1, 0])
    plotting.plot_preferences({"a": (preferred, selectivity)}, alt="hues")
    (points,) = plt.gcf().axes[0].collections
    assert np.allclose(points.get_offsets(), [[0, 0.5], [np.radians(120), 1]])
    red, green = points.get_facecolors()[:, :3]
    assert red.argmax() == 0 and green.argmax() == 1
    plotting.plot_preferences({"a": (preferred, selectivity)}, 180, alt="orientations")
    strokes = [line for line in plt.gcf().axes[0].lines if line.get_marker() != "None"]
    assert np.allclose([np.degrees(line.get_xdata()[0]) for line in strokes], [0, 120])


@pytest.mark.parametrize(
    "call",
    [
        lambda: plotting.show_channels(PHOTOGRAPH, {"flat": np.ones((4, 4))}),
        lambda: plotting.show_channels(255 * PHOTOGRAPH, {"a": np.ones((4, 4, 2))}),
        lambda: plotting.show_windows(PHOTOGRAPH[..., 0], {}, alt="none"),
        lambda: plotting.plot_preferences({"a": ([0], [1])}, 90, alt="quarters"),
    ],
)
def test_what_does_not_fit_is_refused_and_no_figure_stays_open(call):
    with pytest.raises(ValueError, match="Received"):
        call()
    assert not plt.get_fignums()
