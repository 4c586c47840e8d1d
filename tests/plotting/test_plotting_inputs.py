"""What figures accept, what they refuse and how, and the words that a figure carries for those who cannot see it."""

import base64
import io
import re
import subprocess
import sys

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from tests.helpers import ROOT
from utils import plotting
from utils.plotting import grid, inputs, style

RNG = np.random.default_rng(0)
X = RNG.random((3, 16, 12, 3))
R = RNG.normal(size=(3, 16, 12, 3))


def pictures():
    return [axis.images[0] for axis in plt.gcf().axes if axis.images]


def first_image(*args, **options):
    plotting.show_attributions(*args, **options)
    return np.asarray(pictures()[0].get_array())


@pytest.mark.parametrize(
    ("images", "options"),
    [
        (X, {}),
        (X.astype("float32"), {}),
        (255 * X, {"high": 255}),
        (2 * X - 1, {"low": -1}),
        (300 * X - 120, {"low": -120, "high": 180}),
    ],
    ids=["0..1", "float32", "0..255", "-1..1", "any"],
)
def test_images_of_any_range_are_drawn_alike_once_it_is_named(images, options):
    assert np.allclose(first_image(images, {"a": R}, **options), X[0], atol=1e-6)
    plotting.show_images(images, **options)
    assert np.allclose(pictures()[1].get_array(), X[1], atol=1e-6)


def test_bytes_are_known_by_their_type():
    whole = np.rint(255 * X).astype("uint8")
    assert np.allclose(first_image(whole, {"a": R}), whole[0] / 255)
    assert np.allclose(first_image(np.minimum(whole, 1), {"a": R}), np.minimum(whole, 1)[0] / 255)  # dark, not white
    masks = X[..., :1] > 0.5
    assert np.array_equal(first_image(masks, {"a": R}), masks[0, ..., 0])


def test_tensors_are_drawn():
    import tensorflow as tf

    for dtype in ("float32", "float16", "bfloat16"):
        assert np.allclose(first_image(tf.cast(X, dtype), {"a": tf.cast(R, dtype)}), X[0], atol=0.005)


def test_one_array_of_maps_needs_no_name():
    plotting.show_attributions(X, R, across="methods")
    assert np.allclose(pictures()[1].get_array(), R[0].sum(-1))


@pytest.mark.parametrize("shape", [(3, 4, 3), (3, 4, 3, 1), (3, 8, 6), (3, 5, 4), (3, 16, 7)], ids=str)
def test_small_class_activation_maps_are_upsampled(shape):
    import cv2

    cam = RNG.random(shape)
    plotting.show_attributions(X, {"cam": cam}, across="methods")
    for i in range(3):
        drawn = np.asarray(pictures()[2 * i + 1].get_array())
        # OpenCV's coefficients are of float32
        assert (
            np.abs(drawn - cv2.resize(cam.reshape(shape[:3])[i], (12, 16), interpolation=cv2.INTER_LINEAR)).max() < 1e-5
        )


def test_a_saved_figure_makes_its_folder_and_is_closed(tmp_path):
    for name in ("p.png", "p.pdf", "p.svg"):
        plotting.show_attributions(X, {"a": R}, save=tmp_path / "new" / "folder" / name)
        assert (tmp_path / "new" / "folder" / name).stat().st_size > 1000
    assert not plt.get_fignums()


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (
            255 * X,
            "Expected images in [0, 1]. Received: from 0.0485 to 255. Of pixels from 0 to 255, pass x / 255 or high",
        ),
        (np.rint(255 * X).astype(int), "pass x / 255 or high=255"),
        (2 * X - 1, "Of pixels from -1 to 1, pass (x + 1) / 2 or low=-1, high=1."),
        (255 * X - 120, "Undo the preprocessing"),
        (X * 1.5, "Undo the preprocessing"),
        (np.where(X > 0.99, np.nan, X), "not finite"),
        (np.where(X > 0.99, np.inf, X), "not finite"),
        (X[0], "Received: shape (16, 12, 3). Of one image x, pass x[None], and its map R as R[None]"),
        (X[..., 0], "Received: shape (3, 16, 12). Of grey images without channels, pass x[..., None]"),
        (X[0, ..., 0], "Received: shape (16, 12). Of one grey image"),
        (X[..., :2], "Received: shape (3, 16, 12, 2). Of 2 channels, pass those to be seen: x[..., :1]"),
        (np.concatenate([X, X], -1), "Of 6 channels, pass those to be seen: x[..., :3] in colours"),
        (np.moveaxis(X, -1, 1), "pass np.moveaxis(x, 1, -1)"),
        (X[:, None], "Of volumes or films, pass a slice"),
        (X[0, 0, :, 0], "Series and tables are drawn by plot_curves"),
        (X[:, 0, :, :1], "A series is drawn by plot_curves"),
        (X[:0], "were all images filtered out?"),
        (X * 1j, "Received: ndarray (complex128 is no real number)"),
        ([X[0], X[0, :5]], "must be an array of real numbers. Received: list"),
        ("digits.png", "must be an array of real numbers. Received: str"),
        (None, "must be an array of real numbers. Received: NoneType"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_other_images_are_refused(images, said):
    for draw in (lambda: plotting.show_attributions(images, {"a": R}), lambda: plotting.show_images(images)):
        with pytest.raises(ValueError, match=re.escape(said)):
            draw()
        assert not plt.get_fignums()


@pytest.mark.parametrize(
    ("maps", "said"),
    [
        ((R, np.zeros(3)), "Received: a tuple of 2. A method returned the map and something else"),
        ([R, R], "Received: a list of 2. Give each a name: dict(zip(names, maps))"),
        ({}, "Received: none. show_images draws images alone"),
        ({"IG": (R, np.zeros(3))}, "The maps of 'IG' must be one array. Received: a tuple of 2, (3, 16, 12, 3), (3,)"),
        ({"S": (R, R)}, "Received: a tuple of 2, (3, 16, 12, 3), (3, 16, 12, 3). Of what a method returned with its"),
        ({"a": R[:2]}, "Received: shape (2, 16, 12, 3). Expected: (3, 16, 12)"),
        ({"a": R[0]}, "Received: shape (16, 12, 3). Expected: (3, 16, 12), with or without channels, or a smaller"),
        ({"a": R[0]}, "Of one map R, pass R[None]"),
        ({"a": np.moveaxis(R, -1, 1)}, "Received: shape (3, 3, 16, 12)"),
        ({"a": np.swapaxes(R, 1, 2)}, "Received: shape (3, 12, 16, 3)"),
        ({"a": R[:, :4, :4]}, "Received: shape (3, 4, 4, 3)"),  # channels of an inner layer are no map
        ({"a": R[:, :2, :12, 0]}, "Received: shape (3, 2, 12)"),  # of other proportions
        ({"a": np.zeros((3, 32, 24))}, "Received: shape (3, 32, 24)"),
        ({"a": np.zeros((3, 0, 0))}, "Received: shape (3, 0, 0)"),
        ({"a": np.where(R > 2, np.nan, R)}, "'a' hold numbers that are not finite"),
        ({"a": R * 1j}, "complex128 is no real number"),
        ({"a": None}, "The maps of 'a' must be an array of real numbers. Received: NoneType"),
    ],
    ids=lambda value: value[:50] if isinstance(value, str) else "",
)
def test_other_maps_are_refused(maps, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        plotting.show_attributions(X, maps)
    assert not plt.get_fignums()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"titles": ["a", "b"]}, "Received: 2 titles. Expected: a list of 3"),
        ({"titles": ["a", "b", "c", "d"]}, "Received: 4 titles"),
        ({"titles": "cat"}, "Received: 'cat'. Expected: a list of 3"),
        ({"titles": 5}, "Received: 5."),
        ({"scale": "all"}, "scale must be 'map' or 'method'. Received: 'all'"),
        ({"across": "rows"}, "across must be None or 'images' or 'methods'. Received: 'rows'"),
        ({"outlines": X[0, ..., 0] > 0.5}, "The maps of 'outlines' do not fit"),
        ({"low": 1, "high": 0}, "Received: low=1, high=0"),
        ({"low": None}, "Received: low=None"),
        ({"save": "p.xyz"}, "xyz"),
    ],
    ids=lambda value: "-".join(map(str, value.items())) if isinstance(value, dict) else "",
)
def test_other_options_are_refused_and_nothing_is_left_open(options, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        plotting.show_attributions(X, {"a": R}, **options)
    assert not plt.get_fignums()


def test_what_is_refused_elsewhere():
    for draw, said in (
        (
            lambda: plotting.show_attributions(np.tile(X, (101, 1, 1, 1)), {"a": np.tile(R, (101, 1, 1, 1))}),
            "606 frames",
        ),
        (lambda: plotting.show_images(X, columns=0), "columns must be an integer, 1 or more. Received: 0"),
        (lambda: plotting.show_images(X, ["a"]), "Received: 1 titles"),
        (lambda: plotting.show_maps(R[0, ..., 0]), "Received: shape (16, 12). Of one map R, pass R[None]"),
        (lambda: plotting.show_maps(np.where(R > 2, np.nan, R)), "not finite"),
        (lambda: plotting.show_maps(R, scale="method"), "scale must be 'map' or 'all'"),
        (lambda: plotting.show_maps(R, ["a", "b"]), "Received: 2 titles"),
        (lambda: plotting.show_film(X, {"a": R}, list("abc"), seconds=0), "seconds says how long"),
        (lambda: plotting.show_film(X, {"a": R}, list("abc"), scale="map"), "scale must be 'method' or 'all'"),
        (lambda: plotting.show_film(X, {"a": R[:2]}, list("abc")), "do not fit the images"),
        (lambda: plotting.plot_curves([1, 2], {"a": [1, 2, 3]}, "x", "y"), "same first dimension"),
    ):
        with pytest.raises(ValueError, match=re.escape(said)):
            draw()
        assert not plt.get_fignums()


def test_a_figure_that_was_open_before_a_refusal_stays_open():
    mine = plt.figure()
    with pytest.raises(ValueError):
        plotting.plot_curves([1, 2], {"a": [1, 2, 3]}, "x", "y")
    assert plt.get_fignums() == [mine.number]


def notes():
    return [axis.get_xlabel() for axis in plt.gcf().axes if axis.images]


@pytest.mark.parametrize("across", ["images", "methods"])
def test_a_map_of_its_own_scale_says_its_sum_and_its_largest_value(across):
    maps = {"a": np.full((3, 4, 4), 0.5), "b": np.full((3, 4, 4), -2e-5)}
    maps["a"][:, 0, 0] = -60  # the largest in absolute value
    plotting.show_attributions(np.zeros((3, 4, 4, 1)), maps, across=across)
    said = sorted(note for note in notes() if note)
    assert said == ["sum \N{MINUS SIGN}0.00032\nmax 2e\N{MINUS SIGN}5"] * 3 + ["sum \N{MINUS SIGN}52\nmax 60"] * 3
    plotting.show_attributions(np.zeros((3, 4, 4, 1)), maps, across=across, scale="method")
    assert not any(notes())
    plotting.show_maps(maps["b"])
    assert notes()[0] == "sum \N{MINUS SIGN}0.00032\nmax 2e\N{MINUS SIGN}5"
    plotting.show_maps(maps["b"], scale="all")
    assert not any(notes())


def test_a_sum_that_is_round_off_is_written_as_zero():
    maps = np.random.default_rng(0).normal(size=(2, 28, 28)).astype("float32")
    plotting.show_maps(maps - maps.mean((1, 2), keepdims=True))
    assert all(note.startswith("sum 0\n") for note in notes()[:2]), notes()
    plotting.show_maps(maps - maps.mean((1, 2), keepdims=True) + np.float32(1e-3))
    assert all(note.startswith("sum 0.78\n") for note in notes()[:2]), notes()


def test_short_numbers():
    numbers = {
        0: "0",
        1: "1",
        0.834: "0.83",
        123: "120",
        45678: "46000",
        1.26e-7: "1.3e-7",
        -3.2e9: "-3.2e9",
        2e-11: "2e-11",
    }
    for number, written in numbers.items():
        assert grid.short(number) == written.replace("-", "\N{MINUS SIGN}")


def test_an_overlay_shows_the_image_in_grey_where_the_map_is_zero_and_the_map_where_it_is_not():
    digit = np.zeros((1, 4, 4, 1))
    digit[0, 1] = 1
    cam = np.zeros((1, 4, 4))
    cam[0, :, 2] = 1
    plotting.show_attributions(digit, {"cam": cam}, overlay=True)
    drawn = np.asarray(pictures()[1].get_array())
    assert np.allclose(drawn[0, 0], 1) and np.allclose(drawn[1, 0], 0.55)  # paper, ink
    assert np.ptp(drawn[1, 0]) < 1e-9
    dark = np.array(plotting.POSITIVE(1.0)[:3])
    assert np.allclose(drawn[0, 2], 0.55 * dark + 0.45) and np.allclose(drawn[1, 2], 0.55 * dark)
    photograph = np.zeros((1, 4, 4, 3)) + [0.2, 0.6, 0.4]
    plotting.show_attributions(photograph, {"none": cam * 0}, overlay=True)
    grey = 0.299 * 0.2 + 0.587 * 0.6 + 0.114 * 0.4
    assert np.allclose(pictures()[1].get_array(), 0.55 + 0.45 * grey)


def test_colour_bars_are_slim():
    for n in (1, 12):
        plotting.show_attributions(np.zeros((n, 8, 8, 1)), {"a": np.ones((n, 8, 8))})
        plt.gcf().canvas.draw()
        box = plt.gcf().axes[-1].get_window_extent()
        assert 7 < box.width < 11 and box.height <= 301


def test_outlines_are_drawn_and_empty_ones_left_out():
    masks = np.zeros((3, 16, 12), bool)
    masks[1, 4:8, 4:8] = True
    masks[2] = True
    plotting.show_attributions(X, {"a": R}, outlines=masks, across="methods")
    assert [len(axis.collections) for axis in plt.gcf().axes[1:6:2]] == [
        0,
        2,
        0,
    ]  # Matplotlib 3.10 warns of a contour without lines


def figures():
    rows = [("a", np.ones(3)), ("b", np.ones(3))]
    row = type("Row", (), {})
    ledger = []
    for name, ones in rows:
        ledger.append(row())
        ledger[-1].layer, ledger[-1].incoming, ledger[-1].inputs = name, ones, 0.9 * ones
        ledger[-1].bias = ledger[-1].stabiliser = 0.05 * ones
    table = {
        "LRP": {"family": "rules", "mass": (0.5, 0.4, 0.6)},
        "chance": {"family": "controls", "mass": (0.1, 0, 0.2)},
    }
    return {
        "show_attributions": (lambda **a: plotting.show_attributions(X, {"LRP": R, "x_y": R}, **a), "by LRP and x y"),
        "show_images": (lambda **a: plotting.show_images(X, ["cat", "dog", "ship"], **a), "3 images: cat, dog and"),
        "show_maps": (lambda **a: plotting.show_maps(R[:1], **a), "1 map."),
        "plot_curves": (lambda **a: plotting.plot_curves([1, 2], {"f": [1, 2]}, "t", "loss", **a), "loss against t"),
        "plot_matrix": (lambda **a: plotting.plot_matrix(np.eye(2), ["a", "b"], **a), "a matrix of a and b"),
        "plot_plane": (lambda **a: plotting.plot_plane({"f": (lambda x: x.sum(-1), None)}, **a), "two inputs: f"),
        "plot_ledger": (lambda **a: plotting.plot_ledger(ledger, **a), "shares of the score for a and b"),
        "plot_intervals": (
            lambda **a: plotting.plot_intervals({"horse": {"all": {"whole": (1, 0, 2)}}}, "share", **a),
            "horse: share of whole, points with intervals.",
        ),
        "plot_localisation": (lambda **a: plotting.plot_localisation(table, by="mass", **a), "of mass for LRP"),
    }


@pytest.mark.parametrize("name", figures())
def test_each_figure_carries_an_alternative_text(name, monkeypatch):
    shown = []
    monkeypatch.setattr(matplotlib, "get_backend", lambda: "inline")
    monkeypatch.setattr(style, "display", lambda data, raw, metadata: shown.append((data, metadata)))
    draw, words = figures()[name]
    draw(alt="what I say")
    draw()
    (_, mine), (data, default) = shown
    assert mine == {"image/png": {"alt": "what I say"}}
    assert words in default["image/png"]["alt"]
    assert data["text/plain"].startswith("<Figure size") and not plt.get_fignums()  # shown once, and closed
    assert Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).mode == "RGB"


IN_A_NOTEBOOK = """
import sys
import types
sys.modules["utils"] = types.ModuleType("utils")  # its own __init__ starts TensorFlow, and figures need none
sys.modules["utils"].__path__ = ["utils"]
import IPython
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
shell = InteractiveShell.instance()
import matplotlib
matplotlib.use("module://matplotlib_inline.backend_inline")
from matplotlib_inline.backend_inline import configure_inline_support
configure_inline_support(shell, "module://matplotlib_inline.backend_inline")
import numpy as np
from utils import plotting
x = np.random.default_rng(0).random((3, 8, 8, 1))
for draw in (lambda **a: plotting.show_attributions(x, {"a": x}, **a),
             lambda **a: plotting.show_film(x, {"a": x}, list("abc"), **a)):
    with capture_output() as captured:
        draw(alt="three squares")
    (output,) = captured.outputs
    assert output.metadata["image/png"]["alt"] == "three squares", output.metadata
    assert len(output.data["image/png"]) > 1000
import matplotlib.pyplot as plt
assert not plt.get_fignums()
print("IPython", IPython.__version__)
"""


def test_the_alternative_text_is_in_the_metadata_of_the_output():
    done = subprocess.run([sys.executable, "-c", IN_A_NOTEBOOK], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "IPython" in done.stdout, done.stderr[-2000:]


def test_small_maps_are_told_from_others_by_their_proportions():
    assert inputs._is_small((3, 7, 7), (3, 224, 224)) and inputs._is_small((3, 7, 10), (3, 224, 320))
    for shape in [(2, 7, 7), (3, 7, 32), (3, 7), (3, 300, 300), (3, 7, 7, 1)]:
        assert not inputs._is_small(shape, (3, 224, 224))
