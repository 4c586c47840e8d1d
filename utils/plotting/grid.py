"""Frames in rows and columns, and what is drawn into one: an image, a map, a map over its image, its numbers."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from .style import IMAGE, POSITIVE, SIGNED

ROUND_OFF = 1e-5  # a sum of at most this part of the absolute values is that of a map of mean 0, in float32


def grid(rows, columns, image_shape, bars, width=1.35, notes=0, titles=0):
    """A figure of `rows` x `columns` frames of the images' proportions, with room for bars, for lines of notes, and for
    lines of titles between the rows.
    """
    width = min(max(width, image_shape[1] / 100), 9.5 / columns)  # a pixel for a pixel, where there is room
    height = width * image_shape[0] / image_shape[1]
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(columns * width + 0.9 + 0.5 * bars, rows * height + 0.5 + 0.14 * notes + 0.3 * titles),
        squeeze=False,
        layout="compressed" if titles else "constrained",  # which lets titles run into the numbers above them
    )
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set(visible=True, color="#bbbbbb", linewidth=0.6)
    return figure, axes


def even(n, most):
    """How many of `n` to put in a line, at most `most`, so that the lines are about equally long."""
    return -(-n // -(-n // most))


def draw_image(axis, image):
    if image.shape[-1] == 1:
        axis.imshow(image[..., 0], cmap=IMAGE, vmin=0, vmax=1, interpolation=interpolation(image))
    else:
        axis.imshow(image, interpolation=interpolation(image))


def draw_map(axis, values, limit, signed, image=None):
    """Draw a map; over `image` `[height, width, channels]`, in light greys, if one is given."""
    low, colours = (-limit, SIGNED) if signed else (0, POSITIVE)
    axis.imshow(
        laid_over(image, values, limit, signed), cmap=colours, vmin=low, vmax=limit, interpolation=interpolation(values)
    )


def laid_over(image, values, limit, signed):
    """A map over an image in light greys, `[height, width, 3]` in [0, 1]; the map itself if there is no image."""
    if image is None:
        return values
    low, colours = (-limit, SIGNED) if signed else (0, POSITIVE)
    grey = 1 - image[..., 0] if image.shape[-1] == 1 else image @ [0.299, 0.587, 0.114]
    return 0.55 * colours(Normalize(low, limit)(values))[..., :3] + 0.45 * grey[..., None]


def interpolation(image):
    """Squares for the pixels of a small image; a large one is smoothed when it is drawn smaller, and loses nothing."""
    return "nearest" if max(image.shape[:2]) <= 100 else "auto"


def outline(axis, mask):
    """A thin line around `mask` `[height, width]`, to be seen on light and on dark."""
    if mask.any() and not mask.all():
        for width, colour in ((1.8, "white"), (0.6, "black")):
            axis.contour(mask, levels=[0.5], colors=colour, linewidths=width)


def write_numbers(axis, values):
    """The sum and the largest absolute value of a map in small print under it."""
    total, size = values.sum(dtype="float64"), np.abs(values)
    if abs(total) < ROUND_OFF * size.sum(dtype="float64"):
        total = 0.0
    words = f"sum {short(total)}\nmax {short(size.max())}"
    axis.set_xlabel(words, fontsize=9, color="#444444", labelpad=2, linespacing=1.0)


def short(number):
    """Two significant digits, with a typographic minus; powers of ten where there would be many zeros."""
    rounded = f"{float(f'{number:.2g}'):g}"
    return rounded.replace("e-0", "e-").replace("e+0", "e").replace("-", "\N{MINUS SIGN}")


def colour_bars(figure, axes, kinds):
    """One slim colour bar for signed maps and one for positive ones, as they occur."""
    height = figure.get_figheight()
    shrink = min(0.9, 3 / height)  # beside the first rows of a high figure, which are seen together with it
    for signed in sorted(kinds):
        mappable = ScalarMappable(Normalize(-1 if signed else 0, 1), SIGNED if signed else POSITIVE)
        bar = figure.colorbar(mappable, ax=axes, aspect=shrink * height / 0.09, shrink=shrink, pad=0.01, anchor=(0, 1))
        ticks = [-1, 0, 1] if signed else [0, 1]
        bar.set_ticks(ticks, labels=[{-1: "\N{MINUS SIGN}max", 0: "0", 1: "max"}[tick] for tick in ticks])
        bar.outline.set_visible(False)
