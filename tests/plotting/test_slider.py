"""The output of a slider holds all its frames in order, shows one, and refuses what does not fit.

What it does in a browser is seen by tools/check_browser.py.
"""

import base64
import html
import io
import json
import re
from html.parser import HTMLParser

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from utils import plotting
from utils.plotting import slider

RAMP = np.linspace(0, 1, 5)[:, None, None, None] * np.ones((5, 8, 10, 1))
ALT = "A square that darkens"


class Elements(HTMLParser):
    """All elements of a page with their attributes, and its text."""

    def __init__(self, page):
        super().__init__()
        self.found, self.text = {}, ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.found.setdefault(tag, []).append(dict(attributes))

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def shown(monkeypatch):
    """What is displayed, as a reader's browser reads it: the elements by their names."""
    outputs = []
    monkeypatch.setattr(slider, "display", lambda data, raw: outputs.append(data))

    def show(*arguments, **named):
        plotting.show_slider(*arguments, **named)
        return outputs[-1], Elements(outputs[-1]["text/html"])

    return show


def picture(source):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))).convert("RGB"))


def test_all_frames_are_stored_in_order_and_one_is_seen(shown):
    labels = [f"<k> = {k}, \"quoted\" & 'so'" for k in range(5)]
    data, page = shown(RAMP, ALT + ".", labels, start=3, title="<Ink>")
    (image,), (handle,) = page.found["img"], page.found["input"]
    frames = json.loads(handle["data-frames"])
    assert [label for label, _ in frames] == labels
    shades = [picture(source)[50, 50] for _, source in frames]
    assert np.allclose(shades, 255 - 255 * np.linspace(0, 1, 5)[:, None], atol=5)  # of one channel: ink on paper
    assert image["src"] == frames[3][1] and image["alt"] == f"{ALT}: {labels[3]}" and handle["data-alt"] == ALT
    assert (handle["min"], handle["max"], handle["value"]) == ("0", "4", "3") and handle["type"] == "range"
    assert handle["aria-label"] == "<Ink>" and handle["aria-valuetext"] == labels[3]
    assert labels[3] in page.text and "<Ink>" in page.text and not any(label in page.text for label in labels[:3])
    assert data["text/plain"] == f"a slider over 5 frames, from {labels[0]} to {labels[4]}, at {labels[3]}"
    assert set(data) == {"text/html", "text/plain"}


def test_nothing_is_asked_of_a_network_a_script_or_a_name(shown):
    data, page = shown(RAMP, ALT)
    assert set(page.found) == {"div", "p", "input", "span", "img"}  # no script
    assert not any("id" in element for elements in page.found.values() for element in elements)  # two do not meet
    assert not re.search(r"https?:|//", re.sub('base64,[^&"]*', "", data["text/html"]))
    assert "display:none" in page.found["input"][0]["style"]  # until a handler has run


def test_frames_share_their_palette_and_small_images_are_enlarged(shown):
    frames = np.random.default_rng(0).random((3, 20, 30, 3))
    _, page = shown(frames, ALT)
    stored = [source for _, source in json.loads(page.found["input"][0]["data-frames"])]
    palettes = [Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))).getpalette() for source in stored]
    used = [{tuple(colour) for colour in np.reshape(palette, (-1, 3))} for palette in palettes]
    assert len(set.union(*used)) <= 256
    pixels = picture(stored[1]).astype(float)
    assert pixels.shape == (20 * 6 + 2, 30 * 6 + 2, 3)
    assert np.abs(pixels[4:-1:6, 4:-1:6] / 255 - frames[1]).mean() < 0.05


def test_figures_are_frames_and_are_closed(shown):
    figures = []
    for k in range(3):
        figure, axis = plt.subplots(figsize=(3, 2))
        axis.plot([0, k])
        figures.append(figure)
    _, page = shown(figures, ALT, start=0)
    assert picture(page.found["img"][0]["src"]).shape == (200, 300, 3) and not plt.get_fignums()
    assert "1 of 3" in page.text


def test_the_frames_of_a_film(shown):
    images = RAMP.repeat(3, -1)
    frames = plotting.film_frames(images, {"a": RAMP - 0.5}, [f"step {k}" for k in range(5)])
    assert frames.dtype == np.uint8 and frames.ndim == 4 and not plt.get_fignums()
    assert len({frame.tobytes() for frame in frames}) == 5
    _, page = shown(frames, ALT)
    assert picture(page.found["img"][0]["src"]).shape == frames[0].shape  # neither enlarged nor framed
    assert np.abs(picture(page.found["img"][0]["src"]).astype(int) - frames[-1]).mean() < 2


def test_the_same_frames_give_the_same_text(shown):
    assert shown(RAMP, ALT)[0] == shown(RAMP, ALT)[0]
    assert shown(RAMP, ALT)[0] != shown(RAMP[::-1], ALT)[0]


def test_an_output_that_is_too_large_is_refused(shown):
    noise = np.random.default_rng(0).random((12, 200, 200, 3))
    words = r"at most 300 kB. Received: 12 frames of 200 x 200 pixels, \d{3} kB. Pass fewer frames \(frames\[::2\]"
    with pytest.raises(ValueError, match=words):
        shown(noise, ALT)
    data, _ = shown(noise[:4], ALT)
    assert len(data["text/html"].encode()) <= slider.LARGEST


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((RAMP[:1], ALT), "leads from one frame to others. Received: 1. Expected: 2 or more"),
        ((RAMP, " "), "alt says what is seen, .* Received: ' '. Expected: a text"),
        ((RAMP, ALT, ["a"]), "Received: 1 titles. Expected: a list of 5"),
        ((RAMP, ALT, None, 5), "start is the index of a frame. Received: 5. Expected: an integer from 0 to 4"),
        ((RAMP, ALT, None, -1), "Received: -1. Expected: an integer from 0 to 4"),
        ((RAMP, ALT, None, True), "Received: True. Expected: an integer"),
        ((RAMP * 7, ALT), r"Expected images in \[0, 1\]. Received: from 0 to 7"),
        ((RAMP[..., 0], ALT), "Received: shape \\(5, 8, 10\\)"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        plotting.show_slider(*arguments)


def test_figures_of_two_sizes_are_refused_and_closed():
    figures = [plt.figure(figsize=(2, 2)), plt.figure(figsize=(3, 2))]
    with pytest.raises(ValueError, match="Received: 200 x 200, 300 x 200 pixels. Expected: one figsize"):
        plotting.show_slider(figures, ALT)
    assert not plt.get_fignums()
    with pytest.raises(ValueError, match="mixes figures and others"):
        plotting.show_slider([figures[0], RAMP[0]], ALT)


def test_what_stands_in_an_attribute_is_escaped(shown):
    data, _ = shown(RAMP, 'a "b" <c>', start=0)
    assert html.escape('a "b" <c>: 1 of 5') in data["text/html"] and 'a "b"' not in data["text/html"]
