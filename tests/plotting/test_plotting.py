"""Figures are drawn, with the right colours and limits, and refuse what does not fit."""

import base64
import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from utils import plotting
from utils.plotting import film, grid

IMAGES = np.random.default_rng(0).random((3, 9, 8, 1))


def drawn():
    """All pictures of the last figure, from left to right and from top to bottom."""
    return [axis.images[0] for axis in plt.gcf().axes if axis.images]


def test_signed_maps_have_symmetric_limits_and_positive_ones_begin_at_zero():
    signed, positive = IMAGES - 0.7, IMAGES + 1
    plotting.show_attributions(IMAGES, {"signed": signed, "positive": positive})
    pictures = drawn()[:9]
    for row in range(3):
        image, a, b = pictures[3 * row : 3 * row + 3]
        assert image.get_clim() == (0, 1)
        limit = np.abs(signed[row]).max()
        assert np.allclose(a.get_clim(), (-limit, limit)) and a.cmap.name == "signed"
        assert np.allclose(b.get_clim(), (0, positive[row].max())) and b.cmap.name == "positive"
        assert np.array_equal(a.get_array(), signed[row, ..., 0])


def test_one_scale_for_a_method():
    maps = IMAGES * np.array([1, 2, 3]).reshape(3, 1, 1, 1)
    plotting.show_attributions(IMAGES, {"a": maps}, scale="method")
    assert {picture.get_clim() for picture in drawn()[:6]} == {(0, 1), (0, maps.max())}


def test_zero_is_white_in_both_colour_maps():
    assert np.allclose(plotting.POSITIVE(0.0), 1) and np.allclose(plotting.SIGNED(0.5), 1, atol=0.02)


def test_colours_are_evenly_darker_in_grey():
    grey = [plotting.POSITIVE(v)[:3] @ np.array([0.299, 0.587, 0.114]) for v in np.linspace(0, 1, 33)]
    assert (np.diff(grey) < 0).all()


def test_channels_are_summed_and_colour_images_drawn():
    colour = np.random.default_rng(1).random((2, 5, 5, 3))
    plotting.show_attributions(colour, {"a": colour})
    assert np.allclose(drawn()[1].get_array(), colour[0].sum(-1))
    plotting.show_images(colour, ["one", "two"])


def test_titles_stand_clear_of_the_numbers_above_them():
    plotting.show_maps(np.concatenate([IMAGES] * 2) - 0.5, ["two words in a title"] * 6, columns=3)
    plt.gcf().canvas.draw()
    for above, below in zip(*np.reshape(plt.gcf().axes[:6], (2, 3))):
        assert "\n" in below.get_title()
        assert above.xaxis.label.get_window_extent().y0 >= below.title.get_window_extent().y1


def test_the_other_figures():
    plotting.show_maps(IMAGES - 0.5, range(3), columns=2, scale="all")
    plotting.show_images(IMAGES)
    plotting.plot_curves(
        [1, 10, 100], {"a": [1, 2, 3], "b": [3, 2, 1]}, "x", "y", log="xy", bands={"a": ([0.5, 1, 2], [2, 3, 4])}
    )
    plotting.plot_plane({"f": (lambda x: x.sum(-1), lambda x: np.ones_like(x))}, points=[[0, 1]])
    plotting.plot_matrix(np.eye(3), list("abc"))
    for number in plt.get_fignums():
        plt.figure(number).canvas.draw()


@pytest.mark.parametrize("log", ["", "x", "y", "xy"])
def test_curves_fill_their_axes_whatever_the_scale(log):
    x, y = np.array([1, 10, 1000]), np.array([0.001, 0.1, 9.0])
    plotting.plot_curves(x, {"a": y}, "x", "y", log=log)
    axis = plt.gca()
    for limits, transform, values in ((axis.get_xlim(), axis.xaxis, x), (axis.get_ylim(), axis.yaxis, y)):
        ends = transform.get_transform().transform(np.array([*limits, values.min(), values.max()]))
        assert np.isfinite(ends).all() and (ends[3] - ends[2]) > 0.8 * (ends[1] - ends[0])
    plotting.plot_curves(x, {"a": y}, "x", "y", log=log, ylim=(0.01, 1))
    assert np.allclose(plt.gca().get_ylim(), (0.01, 1))


def test_images_stand_in_even_lines_of_up_to_five():
    assert [grid.even(n, 5) for n in (1, 4, 5, 6, 7, 8, 10, 11)] == [1, 4, 5, 3, 4, 4, 5, 4]
    images = np.random.default_rng(2).random((7, 6, 6, 1))
    plotting.show_attributions(images, {"a": images}, titles=list("abcdefg"))
    axes = np.array(plt.gcf().axes[:16]).reshape(4, 4)
    assert [axis.get_title() for axis in axes[0]] == list("abcd") and axes[2, 2].get_title() == "g"
    assert [axis.get_ylabel() for axis in axes[:, 0]] == ["input", "a", "input", "a"]
    assert np.array_equal(axes[3, 2].images[0].get_array(), images[6, ..., 0])
    assert [axis.get_visible() for axis in axes[3]] == [True, True, True, False]


@pytest.mark.parametrize(("low", "high"), [(-1, 1), (0, 255)])
def test_images_beyond_their_range_are_refused(low, high):
    images = low + (high - low) * IMAGES
    with pytest.raises(ValueError, match=r"Expected images in \[0, 1\]. Received: from"):
        plotting.show_attributions(images, {"a": IMAGES})


def test_no_pixel_of_a_large_map_is_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(plt, "close", lambda *figures: None)
    hot = np.zeros((1, 224, 224, 1))
    hot[0, 10::67, 10::67] = 1
    plotting.show_attributions(hot, {str(k): hot for k in range(11)}, save=tmp_path / "map.png")
    inside = np.asarray(Image.open(tmp_path / "map.png").convert("L"), float)
    axis = plt.gcf().axes[3]
    box = axis.get_window_extent()
    height = inside.shape[0]
    cell = inside[int(height - box.y1) + 3 : int(height - box.y0) - 3, int(box.x0) + 3 : int(box.x1) - 3]
    dark = cell < 235
    spots = sum(dark[i : i + 2].any() and not dark[i - 1].any() for i in range(1, len(dark)))
    assert spots >= 4  # four lines of hot pixels


def test_a_film_has_a_frame_for_each_step_and_begins_with_the_last(monkeypatch):
    shown = []
    monkeypatch.setattr(film, "display", lambda data, raw, metadata: shown.append(data))
    rising = np.linspace(0, 1, 4)[:, None, None, None] * np.ones((4, 8, 8, 1))
    plotting.show_film(rising, {"signed": rising - 0.5, "positive": rising}, [f"step {k}" for k in range(4)], 0.1)
    movie = Image.open(io.BytesIO(base64.b64decode(shown[0]["image/png"])))
    frames, times = [], []
    for k in range(movie.n_frames):
        movie.seek(k)
        frames.append(np.asarray(movie.convert("L"), float))
        times.append(movie.info.get("duration"))
    assert len(frames) == 5 and times[1:] == [100, 100, 100, 2000]  # the first is for viewers without movement
    assert np.array_equal(frames[0], frames[4]) and frames[0].max() == 255
    darkness = [frame[100:150, 50:150].mean() for frame in frames[1:]]  # of the input
    assert (np.diff(darkness) < -20).all()
    with pytest.raises(ValueError, match="3 titles. Expected: a list of 4"):
        plotting.show_film(rising, {"a": rising}, ["a", "b", "c"])


@pytest.mark.parametrize(
    ("images", "maps", "words"),
    [
        (IMAGES[..., 0], {}, "Received: shape \\(3, 9, 8\\)"),
        (
            IMAGES,
            {"a": IMAGES[:2]},
            "'a' do not fit the images. Received: shape \\(2, 9, 8\\). Expected: \\(3, 9, 8\\)",
        ),
        (IMAGES, {"a": IMAGES * np.nan}, "'a' hold numbers that are not finite"),
    ],
)
def test_what_does_not_fit_is_refused(images, maps, words):
    with pytest.raises(ValueError, match=words):
        plotting.show_attributions(images, maps)


def test_a_scale_that_does_not_exist():
    with pytest.raises(ValueError, match="Received: 'log'"):
        plotting.show_attributions(IMAGES, {"a": IMAGES}, scale="log")


def test_points_with_intervals_stand_in_their_rows_and_panels():
    panels = {
        "horse": {"all": {"whole": (0.5, 0.4, 0.7), "part": (0.2, 0.1, 0.3)}, "few": {"part": (0.3, 0.0, 0.6)}},
        "deer": {"all": {"part": (0.9, 0.8, 1.0)}},
    }
    plotting.plot_intervals(panels, "share", line=0.25)
    horse, deer = plt.gcf().axes
    assert [label.get_text() for label in horse.get_yticklabels()] == ["whole", "part"]
    assert horse.get_ylim()[0] > horse.get_ylim()[1]  # the first row on top
    lines = [(*map(list, line.get_data()),) for line in horse.lines]
    assert lines[0][0] == [0.4, 0.7] and lines[1][0] == [0.5] and lines[2][0] == [0.1, 0.3]
    places = [line[1][0] for line in lines[:6]]
    assert [round(place) for place in places] == [0, 0, 1, 1, 1, 1] and places[2] < places[4]
    assert [list(line.get_xdata()) for line in deer.lines] == [[0.8, 1.0], [0.9], [0.25, 0.25]]
    assert horse.get_xlim() == deer.get_xlim()


@pytest.mark.parametrize("parts", [{"some": {"whole": (1, 0, 2)}}, {"all": {"other": (1, 0, 2)}}])
def test_rows_that_no_first_series_names_are_refused(parts):
    with pytest.raises(ValueError, match="Unknown series or rows"):
        plotting.plot_intervals({"horse": {"all": {"whole": (1, 0, 2)}}, "deer": parts}, "share")
    assert not plt.get_fignums()
