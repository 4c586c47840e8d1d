"""Figures of single units: the channels of layers beside a photograph, windows over it, and what channels prefer."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

from .grid import colour_bars, draw_image, draw_map
from .inputs import checked_images
from .style import COLOURS, LINES, drawing, listed, show

HUES = "red yellow green cyan blue magenta".split()


def sheet(pictures, across, paper=1.0):
    """Small pictures `[k, height, width, ...]` in rows of `across`, as one; `paper` is the value between them.

    What stands between two is a hundredth of their height and width, at least a pixel.
    """
    pictures = np.asarray(pictures, float)
    if pictures.ndim < 3 or not pictures.size:
        raise ValueError(f"Expected pictures [k, height, width, ...]. Received: shape {pictures.shape}.")
    if isinstance(across, bool) or not isinstance(across, int) or across < 1:
        raise ValueError(f"across must be an integer, 1 or more. Received: {across!r}.")
    k, height, width, *rest = pictures.shape
    gap = 1 + max(height, width) // 100
    rows = -(-k // across)
    whole = np.full((rows * (height + gap) - gap, across * (width + gap) - gap, *rest), float(paper))
    for index, picture in enumerate(pictures):
        top, left = index // across * (height + gap), index % across * (width + gap)
        whole[top : top + height, left : left + width] = picture
    return whole


def show_channels(photograph, layers, count=27, across=9, *, alt=None):
    """Draw a photograph beside the first channels of layers, each channel scaled by its own largest absolute value.

    Args:
        photograph: `[height, width, channels]`, from 0 to 1.
        layers: a dictionary, name -> outputs of a layer for this photograph, `[h, w, channels]`.
        count: how many channels; a layer may have fewer.
        across: how many stand in a row.
        alt: the alternative text of the figure; None for one that names the layers.
    """
    with drawing():
        figure = _channels(photograph, layers, count, across)
        show(figure, alt or f"A photograph beside the first channels of {listed(layers)}.")


def channel_frames(photograph, layers, count=27, across=9):
    """The same, a figure for each layer, all of one size: the frames of `show_slider`."""
    with drawing():
        return [_channels(photograph, {name: maps}, count, across) for name, maps in layers.items()]


def _channels(photograph, layers, count, across):
    (photograph,) = checked_images(np.asarray(photograph)[None])
    for name, maps in layers.items():
        if np.ndim(maps) != 3:
            raise ValueError(f"Expected {name!r} as [h, w, channels]. Received: shape {np.shape(maps)}.")
    rows = -(-count // across)
    figure, axes = plt.subplots(
        len(layers),
        2,
        figsize=(6.6, 0.1 + len(layers) * (0.24 + 0.52 * rows)),
        width_ratios=(2.2, across * 0.76),
        squeeze=False,
        layout="constrained",
    )
    for (left, right), (name, maps) in zip(axes, layers.items()):
        maps = np.moveaxis(np.asarray(maps, float), -1, 0)[:count]
        maps = maps / np.maximum(np.abs(maps).max((1, 2), keepdims=True), 1e-12)
        missing = np.zeros((rows * across - len(maps), *maps.shape[1:]))
        drawn = sheet(np.concatenate([maps, missing]), across, np.nan)
        draw_map(right, drawn, 1, signed=True)
        right.images[0].set_interpolation("nearest")  # a sheet is larger than its pictures, whose pixels are squares
        right.set_facecolor("#bbbbbb")
        right.set_title(name)
        draw_image(left, photograph)
        left.set_visible(left is axes[0, 0])
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    colour_bars(figure, axes, {True})
    return figure


def show_windows(photograph, windows, *, alt):
    """Draw windows over a photograph, which may be larger than it.

    Args:
        photograph: `[height, width, channels]`, from 0 to 1.
        windows: a dictionary, name -> (top, left, height, width), in pixels.
        alt: the alternative text.
    """
    (photograph,) = checked_images(np.asarray(photograph)[None])
    height, width = photograph.shape[:2]
    with drawing():
        figure, axis = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
        axis.imshow(photograph, interpolation="nearest", extent=(0, width, height, 0))
        ends = np.array([[0, 0, height, width]])
        for k, (name, (top, left, down, across)) in enumerate(windows.items()):
            box = Rectangle((left, top), across, down, fill=False, linewidth=2.6, label=name)
            axis.add_patch(box)
            box.set(edgecolor=COLOURS[k % len(COLOURS)], linestyle=LINES[k % len(LINES)])
            ends = np.concatenate([ends, [[top, left, top + down, left + across]]])
        axis.set(xlim=(ends[:, 1].min() - 1, ends[:, 3].max() + 1), ylim=(ends[:, 2].max() + 1, ends[:, 0].min() - 1))
        axis.set(xlabel="column of pixels", ylabel="row of pixels", aspect="equal")
        figure.legend(loc="outside right center")
        show(figure, alt)


def plot_preferences(tunings, period=360, *, alt):
    """Draw what channels prefer: a point for each, at its preferred angle, as far out as it is selective (0 to 1).

    Args:
        tunings: a dictionary, title of the panel -> (preferred angles `[channels]` in degrees, NaN where there is
            none, selectivities `[channels]`).
        period: 360 for hues, whose points have their colour; 180 for orientations, drawn as strokes on half a circle.
        alt: the alternative text.
    """
    if period not in (360, 180):
        raise ValueError(f"period must be 360, of hues, or 180, of orientations. Received: {period!r}.")
    with drawing():
        height = 3.3 if period == 360 else 2.4
        shape = {"subplot_kw": {"projection": "polar"}, "layout": "constrained", "squeeze": False}
        figure, axes = plt.subplots(1, len(tunings), figsize=(3.1 * len(tunings), height), **shape)
        for axis, (title, (preferred, selectivity)) in zip(axes[0], tunings.items()):
            known = np.isfinite(preferred)
            angles, lengths = np.asarray(preferred)[known], np.asarray(selectivity)[known]
            if period == 360:
                colours = plt.get_cmap("hsv")(angles / 360)
                axis.scatter(np.radians(angles), lengths, 26, colours, edgecolor="#333333", linewidth=0.5)
                axis.set_xticks(np.radians(range(0, 360, 60)), HUES)
            else:
                for angle, length in zip(angles, lengths):
                    mark = {"marker": (2, 2, angle - 90), "markersize": 11, "color": COLOURS[0]}
                    axis.plot(np.radians(angle), length, **mark, markeredgewidth=1.3)
                axis.set(thetamin=0, thetamax=180)
                axis.set_xticks(np.radians(range(0, 181, 45)))
            axis.set(rlim=(0, 1), title=title)
            axis.set_rgrids([0.5, 1], ["0.5", "1"], angle=30 if period == 360 else 67)
            axis.grid(color="#dddddd")
            axis.set_axisbelow(True)
        show(figure, alt)
