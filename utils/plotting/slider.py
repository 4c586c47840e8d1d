"""A slider over stored frames: the reader moves it, and the picture follows, without a kernel and without a network."""

import base64
import html
import io
import json

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from matplotlib.figure import Figure

from .film import pixels_of, with_one_palette
from .inputs import checked_images, checked_titles

LARGEST = 300_000  # bytes of one output: a notebook holds a few
SMALL = 200  # pixels: images that are smaller are enlarged, each pixel to a square

# Handlers in the attributes, no script: a viewer that allows none drops these and leaves a picture with its label. The
# other frames are data, not pictures that are hidden, for some viewers drop what hides them. The slider is seen where
# its handlers run, and comes before the picture that uncovers it: a picture may be loaded while the page is still read.
PAGE = """<div class="series-slider">{title}<p style="margin:0.3em 0">\
<input type="range" min="0" max="{last}" step="1" value="{start}" autocomplete="off" \
aria-label="{name}" aria-valuetext="{label}" style="display:none;width:16em;max-width:60%;vertical-align:middle" \
data-alt="{alt}" data-frames="{frames}" oninput="{move}" onkeydown="event.stopPropagation()"> <span>{label}</span></p>
<img src="{picture}" alt="{alt}: {label}" style="max-width:100%;height:auto" onload="{uncover}"></div>"""
MOVE = """const [label, picture] = JSON.parse(this.dataset.frames)[this.value], box = this.closest('div'); \
Object.assign(box.querySelector('img'), {src: picture, alt: this.dataset.alt + ': ' + label}); \
box.querySelector('span').textContent = label; this.setAttribute('aria-valuetext', label)"""
UNCOVER = "this.closest('div').querySelector('input').style.display = 'inline-block'"


def show_slider(frames, alt, labels=None, start=None, title=None):
    """Show a slider that leads through frames; where nothing can move, the frame `start` with its label.

    Args:
        frames: `[n, height, width, channels]`, 1 or 3 channels, in [0, 1] or bytes, as `film_frames` draws them; or a
            list of matplotlib's figures of one size, which are closed.
        alt: the alternative text: what is seen, and what the slider changes. The label of the frame is added.
        labels: a text for each frame, "alpha = 0.5", say; None for "1 of n" to "n of n".
        start: the index of the frame that is seen first; None for the last, as in a film.
        title: a line above the slider, and its name for readers who do not see it; None for none.

    Raises:
        ValueError: frames, labels or a start that do not fit, or an output of more than `LARGEST` bytes.
    """
    if not isinstance(alt, str) or not alt.strip():
        raise ValueError(f"alt says what is seen, for readers who cannot see it. Received: {alt!r}. Expected: a text.")
    pictures = _pictures(frames)
    n, (height, width) = len(pictures), pictures[0].shape[:2]
    labels = [f"{k + 1} of {n}" for k in range(n)] if labels is None else checked_titles(labels, n)
    start = n - 1 if start is None else start
    if isinstance(start, bool) or start not in range(n):
        raise ValueError(f"start is the index of a frame. Received: {start!r}. Expected: an integer from 0 to {n - 1}.")
    stored = [_stored(picture) for picture in with_one_palette(pictures)]
    words = {
        "title": f"<p style='margin:0.3em 0'><b>{html.escape(title)}</b></p>" if title else "",
        "name": html.escape(title or "frame"),
        "alt": html.escape(alt.strip().rstrip(".:")),
        "label": html.escape(labels[start]),
        "frames": html.escape(json.dumps(list(zip(labels, stored)), ensure_ascii=False)),
        "move": html.escape(MOVE),
        "uncover": html.escape(UNCOVER),
    }
    page = PAGE.format(**words, picture=stored[start], last=n - 1, start=int(start))
    size = len(page.encode())
    if size > LARGEST:
        raise ValueError(
            f"One output holds at most {LARGEST // 1000} kB. Received: {n} frames of {width} x {height} pixels, "
            f"{size // 1000} kB. Pass fewer frames (frames[::2] and labels[::2]), smaller ones (a smaller figsize, "
            "or fewer maps), or frames of fewer colours, which are stored in less: no photographs, no noise."
        )
    text = f"a slider over {n} frames, from {labels[0]} to {labels[-1]}, at {labels[start]}"
    display({"text/html": page, "text/plain": text}, raw=True)


def _pictures(frames):
    """Frames as `[n, height, width, 3]`, bytes."""
    is_figures = isinstance(frames, (list, tuple)) and any(isinstance(frame, Figure) for frame in frames)
    if is_figures and all(isinstance(frame, Figure) for frame in frames):
        pictures = [pixels_of(figure) for figure in frames]
        for figure in frames:
            plt.close(figure)
        if len({picture.shape for picture in pictures}) > 1:
            sizes = sorted({f"{picture.shape[1]} x {picture.shape[0]}" for picture in pictures})
            raise ValueError(f"The frames differ in size. Received: {', '.join(sizes)} pixels. Expected: one figsize.")
        pictures = np.stack(pictures)
    elif is_figures:
        raise ValueError("frames mixes figures and others. Expected: an array of images, or a list of figures.")
    else:
        images = np.rint(255 * checked_images(frames)).astype("uint8")
        images = (255 - images).repeat(3, -1) if images.shape[-1] == 1 else images  # of one channel: ink on paper
        times = max(1, SMALL // max(images.shape[1:3]))
        pictures = images.repeat(times, 1).repeat(times, 2)
        if times > 1:  # their paper ends somewhere
            pictures = np.pad(pictures, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=187)
    if len(pictures) < 2:
        raise ValueError(f"A slider leads from one frame to others. Received: {len(pictures)}. Expected: 2 or more.")
    return pictures


def _stored(picture):
    png = io.BytesIO()
    picture.save(png, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(png.getvalue()).decode()
