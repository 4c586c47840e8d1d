"""Scores along a path, bars of shares, and maps laid over other images than those beside them."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from utils import plotting

IMAGES = np.random.default_rng(0).random((3, 9, 8, 3))
MAPS = IMAGES[..., 0] - 0.5


def path(**changes):
    arguments = {"alphas": [0, 0.5, 1], "score": [0, 1, 4], "images": IMAGES, "places": [0, 0.5, 1], "ylabel": "score"}
    plotting.plot_path(**arguments | changes, alt="a score along a path")


def test_a_tangent_goes_through_the_score_with_its_slope():
    path(tangents={0.75: 6.0})
    curve, tangent = plt.gcf().axes[0].lines[:2]
    assert np.allclose(curve.get_xydata(), [[0, 0], [0.5, 1], [1, 4]])
    (x1, y1), (x2, y2) = tangent.get_xydata()
    assert np.isclose((x1 + x2) / 2, 0.75) and np.isclose((y1 + y2) / 2, 2.5)  # halfway from 1 to 4
    assert np.isclose((y2 - y1) / (x2 - x1), 6.0)


def test_images_lie_where_their_points_are():
    path()
    axis, below = plt.gcf().axes[:2]
    plt.gcf().canvas.draw()
    for place, frame, image in zip((0, 0.5, 1), below.child_axes, IMAGES):
        box = frame.get_window_extent()
        assert abs((box.x0 + box.x1) / 2 - axis.transData.transform((place, 0))[0]) < 1
        assert np.allclose(frame.images[0].get_array(), image)


@pytest.mark.parametrize("changes", [{"score": [0, 1]}, {"places": [0, 1]}, {"alphas": [0], "score": [0]}])
def test_a_path_that_lacks_something_is_refused(changes):
    with pytest.raises(ValueError, match="a score for each"):
        path(**changes)


def test_bars_are_as_long_as_their_values_and_in_order():
    plotting.plot_bars({"one": [0.2, 0.8], "two": [0.5, 0.5]}, ["a", "b"], "share", {"one": ([0.1, 0.7], [0.3, 0.9])})
    first, second = plt.gcf().axes
    assert [bar.get_width() for bar in first.patches] == [0.2, 0.8]
    assert [bar.get_width() for bar in second.patches] == [0.5, 0.5]
    assert first.yaxis_inverted() and [label.get_text() for label in first.get_yticklabels()] == ["a", "b"]
    assert [segment[:, 0].tolist() for segment in first.collections[0].get_segments()] == [[0.1, 0.3], [0.7, 0.9]]
    assert not second.collections


@pytest.mark.parametrize("values", [[0.2], [0.2, -0.1], [0.2, np.nan]])
def test_bars_that_are_none_are_refused(values):
    with pytest.raises(ValueError, match="a finite value of 0 or more for each of 2 names"):
        plotting.plot_bars({"one": values}, ["a", "b"], "share")


def seen_through(figure):
    """The pictures in the lower row of a figure of `show_attributions`."""
    return [axis.images[0].get_array() for axis in figure.axes[3:6]]


def test_maps_may_lie_over_other_images():
    plotting.show_attributions(IMAGES / 10, {"map": MAPS}, across="images", overlay=IMAGES)
    over_others = seen_through(plt.gcf())
    plotting.show_attributions(IMAGES, {"map": MAPS}, across="images", overlay=True)
    over_these = seen_through(plt.gcf())
    plotting.show_attributions(IMAGES / 10, {"map": MAPS}, across="images", overlay=True)
    over_faint = seen_through(plt.gcf())
    assert np.allclose(over_others, over_these) and not np.allclose(over_others, over_faint)


def test_a_film_may_lie_over_other_images():
    still = np.repeat(IMAGES[:1], 3, 0)
    laid = plotting.film_frames(IMAGES, {"map": 0 * MAPS}, overlay=still)
    moving = plotting.film_frames(IMAGES, {"map": 0 * MAPS}, overlay=True)
    middle = laid.shape[2] // 2  # the image moves on the left, the map and what is below it on the right
    assert (laid[1, :, :middle] != laid[2, :, :middle]).any()
    assert (laid[1, :, middle:] == laid[2, :, middle:]).all() and (moving[1, :, middle:] != moving[2, :, middle:]).any()


def test_an_overlay_of_another_size_is_refused():
    with pytest.raises(ValueError, match="overlay does not fit"):
        plotting.show_attributions(IMAGES, {"map": MAPS}, overlay=IMAGES[:2])
    with pytest.raises(ValueError, match="overlay does not fit"):
        plotting.film_frames(IMAGES, {"map": MAPS}, overlay=IMAGES[:, :4])
