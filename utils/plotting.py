"""Every figure of the series: images beside their maps, curves with their spread, functions of two inputs.

All figures share `STYLE`. Images of one channel are drawn as ink (1) on paper (0). A signed map is drawn
in `SIGNED`, with symmetric limits; a map without negative values in `POSITIVE`; both are white at zero.
"""

import base64
import io

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from PIL import Image

IMAGE = "gray_r"
_BLUE_TO_RED = plt.get_cmap("RdBu_r")(np.linspace(0, 1, 13))
_BLUE_TO_RED[6] = 1, 1, 1, 1  # white, where ColorBrewer's has a light grey
SIGNED = LinearSegmentedColormap.from_list("signed", _BLUE_TO_RED)
# matplotlib's magma from its dark end, made to begin at white: evenly darker, in colour and in grey
POSITIVE = LinearSegmentedColormap.from_list(
    "positive", ["white", *plt.get_cmap("magma_r")(np.linspace(0.12, 0.95, 12))]
)
# Okabe and Ito's colours, told apart by colour-blind readers, and line styles for those who read in grey
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 3)))
COLUMNS = 5  # images in a line, so that they and their titles can be seen on a phone too
STYLE = {
    "figure.dpi": 100,
    "figure.facecolor": "white",
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "lines.linewidth": 1.8,
    "axes.grid": False,
}


def show_attributions(images, maps, titles=None, scale="map", across=None, signed=None, outlines=None, save=None):
    """Draw images beside what the methods say of them.

    Args:
        images: `[n, height, width, channels]` in [0, 1].
        maps: a dictionary, name of the method -> maps `[n, height, width, channels]` (or without
            channels). The channels of a map are summed.
        titles: a word for each image (the class it is explained for, say), or None.
        scale: "map": each map is scaled by its own largest absolute value; "method": all maps of a
            method by the largest among them. Say in the caption which.
        signed: True draws all maps in the signed colours; None only those with negative values.
        across: what runs from left to right, "images" (in lines of up to five) or "methods"; None: whichever is more.
        outlines: masks `[n, height, width]`; a thin line is drawn around each, over the maps.
        save: the name of a file that the figure is to be written to as well.
    """
    images = _checked_images(images)
    if not isinstance(maps, dict):
        raise ValueError(f"maps must be a dictionary, name -> maps. Received: {type(maps).__name__}.")
    maps = {name: _flat(name, values, images) for name, values in maps.items()}
    if scale not in ("map", "method"):
        raise ValueError(f"scale must be 'map' or 'method'. Received: {scale!r}.")
    across = across or ("images" if len(images) > len(maps) + 1 else "methods")
    titles = [""] * len(images) if titles is None else [str(title) for title in titles]
    cells = [("input", images)] + list(maps.items())
    columns = _even(len(images), COLUMNS) if across == "images" else len(cells)
    lines = -(-len(images) // columns) * len(cells) if across == "images" else len(images)
    is_signed = {name: bool(signed or (values < 0).any()) for name, values in maps.items()}

    with plt.rc_context(STYLE):
        figure, axes = _grid(lines, columns, images.shape[1:3], len(set(is_signed.values())))
        for j, (name, values) in enumerate(cells):
            for i, value in enumerate(values):
                if across == "images":  # in blocks, one below the other, of the image and its maps
                    axis, head, side = axes[i // columns * len(cells) + j, i % columns], titles[i], name
                    is_top, is_left = j == 0, i % columns == 0
                else:
                    axis, head, side = axes[i, j], name, titles[i]
                    is_top, is_left = i == 0, j == 0
                if is_top:
                    axis.set_title(_wrapped(head))
                if is_left:
                    axis.set_ylabel(_wrapped(side), rotation=0, ha="right", va="center")
                if j == 0:
                    _draw_image(axis, value)
                else:
                    _draw_map(axis, value, np.abs(value if scale == "map" else values).max() or 1, is_signed[name])
                    if outlines is not None:
                        for width, colour in ((1.8, "white"), (0.6, "black")):  # to be seen on light and on dark
                            axis.contour(outlines[i], levels=[0.5], colors=colour, linewidths=width)
        for axis in axes.flat:
            axis.set_visible(bool(axis.images))
        _colour_bars(figure, axes, set(is_signed.values()))
        if save is not None:
            figure.savefig(save)
        plt.show()


def show_images(images, titles=None, columns=COLUMNS):
    """Draw images `[n, height, width, channels]` in [0, 1] in a grid, a title over each."""
    images = _checked_images(images)
    columns = _even(len(images), columns)
    with plt.rc_context(STYLE):
        figure, axes = _grid(-(-len(images) // columns), columns, images.shape[1:3], 0)
        for k, axis in enumerate(axes.flat):
            axis.axis("off" if k >= len(images) else "on")
            if k < len(images):
                _draw_image(axis, images[k])
                axis.set_title("" if titles is None else _wrapped(titles[k]))
        plt.show()


def show_maps(maps, titles=None, columns=COLUMNS, scale="map"):
    """Draw signed or positive maps `[n, height, width, (channels)]` in a grid, a title over each.

    `scale` is "map" (each by its own largest absolute value) or "all" (one scale).
    """
    maps = np.asarray(maps)
    maps = maps.sum(-1) if maps.ndim == 4 else maps
    if maps.ndim != 3 or scale not in ("map", "all"):
        raise ValueError(
            f"Expected maps [n, height, width, (channels)] and scale 'map' or 'all'. Received: shape {maps.shape} "
            f"and {scale!r}."
        )
    columns, signed = _even(len(maps), columns), bool((maps < 0).any())
    with plt.rc_context(STYLE):
        figure, axes = _grid(-(-len(maps) // columns), columns, maps.shape[1:], 1)
        for k, axis in enumerate(axes.flat):
            axis.axis("off" if k >= len(maps) else "on")
            if k < len(maps):
                _draw_map(axis, maps[k], np.abs(maps[k] if scale == "map" else maps).max() or 1, signed)
                axis.set_title("" if titles is None else _wrapped(titles[k]))
        _colour_bars(figure, axes, {signed})
        plt.show()


def show_film(images, maps, titles, seconds=0.2, scale="method"):
    """Show an animation, one animated PNG: an image beside its maps, step by step; the last step stands for longer.

    Where nothing moves (on paper, in some viewers) the last step is seen.

    Args:
        images: `[steps, height, width, channels]`; what is below 0 or above 1 is drawn as 0 or 1.
        maps: a dictionary, name -> maps `[steps, height, width, channels]` (or without channels).
        titles: a line of text for each step.
        seconds: how long a step stands.
        scale: "method": all steps of a map share their scale; "all": so do all maps.
    """
    images = _checked_images(images, within=False)  # noisy copies, say
    maps = {name: _flat(name, values, images) for name, values in maps.items()}
    if len(titles) != len(images):
        raise ValueError(f"titles does not fit images. Received: {len(titles)} titles for {len(images)} steps.")
    if scale not in ("method", "all"):
        raise ValueError(f"scale must be 'method' or 'all'. Received: {scale!r}.")
    is_signed = {name: bool((values < 0).any()) for name, values in maps.items()}
    limits = {name: np.abs(values).max() or 1 for name, values in maps.items()}
    if scale == "all":
        limits = dict.fromkeys(limits, max(limits.values(), default=1))
    with plt.rc_context(STYLE):
        figure, axes = _grid(1, 1 + len(maps), images.shape[1:3], len(set(is_signed.values())), width=2.0)
        for axis, (name, values) in zip(axes[0, 1:], maps.items()):
            _draw_map(axis, values[-1], limits[name], is_signed[name])
            axis.set_title(name)
        _draw_image(axes[0, 0], images[-1])
        axes[0, 0].set_title("input")
        _colour_bars(figure, axes, set(is_signed.values()))
        frames = []
        for k, title in enumerate(titles):
            for axis, values in zip(axes[0], (images[..., 0] if images.shape[-1] == 1 else images, *maps.values())):
                axis.images[0].set_data(values[k])
            figure.supxlabel(title, fontsize=STYLE["font.size"])
            png = io.BytesIO()
            figure.savefig(png, dpi=STYLE["figure.dpi"])
            frames.append(Image.open(png).convert("RGB"))
        plt.close(figure)
    # one palette for all steps, or else the colours would flicker; with greys, so that grey stays grey and white white
    sheet = Image.fromarray(np.concatenate([np.asarray(frame) for frame in frames]))
    colours = np.reshape(sheet.quantize(224).getpalette(), (-1, 3))
    greys = np.linspace(0, 255, 32).astype(int)[:, None].repeat(3, 1)
    colours[colours.min(1) > 244] = 255
    palette = Image.new("P", (1, 1))
    palette.putpalette(np.concatenate([greys, colours]).ravel().tolist())
    last, *others = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in (frames[-1], *frames)]
    milliseconds = [int(1000 * seconds)] * (len(others) - 1) + [2000]
    png = io.BytesIO()
    last.save(png, "PNG", save_all=True, default_image=True, append_images=others, duration=milliseconds, loop=0)
    data = {"image/png": base64.b64encode(png.getvalue()).decode(), "text/plain": f"an animation, {len(frames)} steps"}
    display(data, raw=True)


def plot_curves(x, curves, xlabel, ylabel, title="", log="", bands=None, size=(6.4, 3.6), ylim=None):
    """Draw curves over `x`, each in its own colour and line style, with a legend.

    Args:
        x: `[k]`.
        curves: a dictionary, name -> values `[k]`.
        log: "", "x", "y" or "xy": the axes that are logarithmic.
        bands: a dictionary, name -> (lower `[k]`, upper `[k]`), the spread around a curve.
        ylim: the ends of the vertical axis; None for what the curves need.
    """
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=size, layout="constrained")
        for k, (name, values) in enumerate(curves.items()):
            colour, line = COLOURS[k % len(COLOURS)], LINES[k % len(LINES)]
            axis.plot(x, values, color=colour, linestyle=line, label=name, marker="o", markersize=3.5)
            if bands and name in bands:
                axis.fill_between(x, *bands[name], color=colour, alpha=0.15, linewidth=0)
        axis.set(xlabel=xlabel, ylabel=ylabel, title=title)
        if np.asarray(x).dtype.kind in "iu":
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        for letter, scale in (("x", axis.xaxis), ("y", axis.yaxis)):
            if letter in log:
                getattr(axis, f"set_{letter}scale")("log")
                scale.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=20))
                scale.set_major_formatter(lambda value, _: f"{value:,g}")
                scale.set_minor_formatter(NullFormatter())
        if ylim is not None:  # None would fix the limits as they are
            axis.set_ylim(ylim)
        if len(curves) > 1:
            axis.legend()
        plt.show()


def plot_plane(panels, span=2.0, centre=(0.0, 0.0), points=None):
    """Draw functions of two inputs as filled contours, with arrows over them.

    Args:
        panels: a dictionary, title -> (function, field). `function` takes `[k, 2]` and returns `[k]`;
            `field` takes `[k, 2]` and returns the arrows `[k, 2]`, or is None.
        span, centre: both inputs run from centre - span to centre + span.
        points: `[p, 2]`, marked in every panel and numbered from 1, or None.
    """
    middle = np.asarray(centre, float)
    fine, coarse = (middle + np.stack(np.meshgrid(*[np.linspace(-span, span, k)] * 2), -1) for k in (121, 9))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1, len(panels), figsize=(3.9 * len(panels), 3.5), layout="constrained", squeeze=False
        )
        for axis, (title, (function, field)) in zip(axes[0], panels.items()):
            values = np.asarray(function(fine.reshape(-1, 2))).reshape(121, 121)
            limit, signed = np.abs(values).max(), values.min() < -1e-9
            # half of the colours are enough, and leave the arrows to be seen
            colours = plt.get_cmap(SIGNED)(np.linspace(0.2, 0.8, 256)) if signed else POSITIVE(np.linspace(0, 0.5, 256))
            levels = np.linspace(-limit if signed else 0, limit, 21 if signed else 11)
            colours = LinearSegmentedColormap.from_list("pale", colours)
            drawn = axis.contourf(*np.moveaxis(fine, -1, 0), values, levels=levels, cmap=colours)
            axis.contour(*np.moveaxis(fine, -1, 0), values, levels=levels, colors="white", linewidths=0.6)
            bar = figure.colorbar(drawn, ax=axis, shrink=0.8, ticks=MaxNLocator(5))
            bar.outline.set_visible(False)
            if field is not None:
                arrows = np.asarray(field(coarse.reshape(-1, 2)))
                longest = np.sqrt(np.square(arrows).sum(-1)).max() or 1
                axis.quiver(
                    *coarse.reshape(-1, 2).T,
                    *arrows.T,
                    color="black",
                    width=0.007,
                    angles="xy",
                    scale_units="xy",
                    scale=longest / (0.42 * span),
                )
            for k, point in enumerate([] if points is None else points):
                axis.plot(*point, "o", color=COLOURS[0], markersize=8, markeredgecolor="white")
                axis.annotate(
                    str(k + 1),
                    point,
                    textcoords="offset points",
                    xytext=(7, 7),
                    weight="bold",
                    color=COLOURS[0],
                    bbox={"boxstyle": "circle,pad=0.15", "color": "white", "alpha": 0.85},
                )
            axis.set(title=title, xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
            axis.set(xlim=middle[0] + np.array([-span, span]), ylim=middle[1] + np.array([-span, span]))
        plt.show()


def plot_matrix(values, labels, title="", decimals=2):
    """Draw a square matrix `[k, k]` of numbers from -1 to 1 (correlations), each number in its cell."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(1.6 + 0.75 * len(labels), 1.2 + 0.62 * len(labels)), layout="constrained")
        drawn = axis.imshow(values, cmap=SIGNED, vmin=-1, vmax=1)
        axis.set_xticks(range(len(labels)), [_wrapped(label) for label in labels])
        axis.set_yticks(range(len(labels)), labels)
        for (i, j), value in np.ndenumerate(values):
            colour = "white" if abs(value) > 0.65 else "black"
            axis.text(j, i, f"{value:.{decimals}f}", ha="center", va="center", color=colour)
        axis.set_title(title)
        axis.spines[:].set_visible(False)
        axis.tick_params(length=0)
        figure.colorbar(drawn, ax=axis, shrink=0.8)
        plt.show()


def plot_ledger(rows, title=""):
    """Draw a `relevance_ledger`: for each part, the shares of the score that go on, to biases and to stabilisers.

    The shares are medians over the images. Parts that lose less than a thousandth are left out.
    """
    lost = [max(np.abs(np.median(part / rows[0].incoming)) for part in (row.bias, row.stabiliser)) for row in rows]
    rows = [row for row, share in zip(rows, lost) if share > 1e-3] or rows
    score = rows[0].incoming
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(6.4, 0.9 + 0.3 * len(rows)), layout="constrained")
        for place, row in enumerate(rows):
            shares = [np.median(values / score) for values in (row.inputs, row.bias, row.stabiliser)]
            positive, negative = 0, 0
            for share, colour, hatch in zip(shares, COLOURS, ("", "//", "..")):
                start = positive if share >= 0 else negative
                axis.barh(place, share, left=start, color=colour, hatch=hatch, edgecolor="white", height=0.7)
                positive, negative = positive + max(share, 0), negative + min(share, 0)
        axis.set_yticks(range(len(rows)), [row.layer for row in rows])
        axis.axvline(1, color="black", linewidth=0.8)
        axis.set_xlim(right=max(axis.get_xlim()[1], 1.05))
        axis.set(xlabel="share of the score (median)", title=title)
        patches = [
            Patch(facecolor=colour, hatch=hatch, edgecolor="white", label=label)
            for colour, hatch, label in zip(COLOURS, ("", "//", ".."), ("goes on", "to biases", "to the stabiliser"))
        ]
        figure.legend(handles=patches, loc="outside lower center", ncols=3)
        plt.show()


def plot_localisation(table, highlight=(), by="relevance mass"):
    """Draw what `tools/localisation.py` measures: a point for each method, with its interval, in a panel per measure.

    Args:
        table: a dictionary, name of the method -> {"family": ..., measure: (mean, low, high), ...}; the first are
            controls, drawn as lines that go through all others.
        highlight: names of methods to be set in bold.
        by: the measure by which the methods are ordered.
    """
    measures = [key for key in next(iter(table.values())) if key != "family"]
    controls = {name: row for name, row in table.items() if row["family"] == "controls"}
    rows = sorted((name for name in table if name not in controls), key=lambda name: table[name][by][0])
    families = list(dict.fromkeys(table[name]["family"] for name in table if name not in controls))
    with plt.rc_context(STYLE):
        size = (2.2 + 2.0 * len(measures), 1.3 + 0.24 * len(rows))
        figure, axes = plt.subplots(1, len(measures), figsize=size, sharey=True, layout="constrained", squeeze=False)
        for axis, measure in zip(axes[0], measures):
            for k, (name, row) in enumerate(controls.items()):
                axis.axvline(row[measure][0], color="#666666", linewidth=0.9, linestyle=LINES[k + 1], label=name)
            for place, name in enumerate(rows):
                mean, low, high = table[name][measure]
                k = families.index(table[name]["family"])
                axis.plot([low, high], [place, place], color=COLOURS[k], linewidth=2.2, solid_capstyle="butt")
                axis.plot(mean, place, "osD^v"[k], color=COLOURS[k], markersize=5, markeredgecolor="white")
            axis.set(xlim=(0, 1.02), xlabel=measure, xticks=[0, 0.25, 0.5, 0.75, 1])
            axis.set_xticklabels(["0", "", "0.5", "", "1"])
            axis.grid(axis="y", color="#eeeeee", linewidth=0.8)
            axis.set_axisbelow(True)
        axes[0, 0].set_yticks(range(len(rows)), rows)
        for label in axes[0, 0].get_yticklabels():
            label.set_fontweight("bold" if label.get_text() in highlight else "normal")
        marks = [
            Line2D([], [], color=COLOURS[k], marker="osD^v"[k], markeredgecolor="white", linewidth=2.2, label=family)
            for k, family in enumerate(families)
        ]
        figure.legend(handles=marks + axes[0, 0].get_legend_handles_labels()[0], loc="outside lower center", ncols=3)
        plt.show()


def _grid(rows, columns, image_shape, bars, width=1.35):
    """A figure of `rows` x `columns` frames of the images' proportions, with room for colour bars."""
    width = min(max(width, image_shape[1] / 100), 9.5 / columns)  # a pixel for a pixel, where there is room
    height = width * image_shape[0] / image_shape[1]
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(columns * width + 0.9 + 0.5 * bars, rows * height + 0.5),
        squeeze=False,
        layout="constrained",
    )
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set(visible=True, color="#bbbbbb", linewidth=0.6)
    return figure, axes


def _even(n, most):
    """How many of `n` to put in a line, at most `most`, so that the lines are about equally long."""
    return -(-n // -(-n // most))


def _draw_image(axis, image):
    if image.shape[-1] == 1:
        axis.imshow(image[..., 0], cmap=IMAGE, vmin=0, vmax=1, interpolation=_interpolation(image))
    else:
        axis.imshow(np.clip(image, 0, 1), interpolation=_interpolation(image))


def _draw_map(axis, values, limit, signed):
    low, colours = (-limit, SIGNED) if signed else (0, POSITIVE)
    axis.imshow(values, cmap=colours, vmin=low, vmax=limit, interpolation=_interpolation(values))


def _interpolation(image):
    """Squares for the pixels of a small image; a large one is smoothed when it is drawn smaller, and loses nothing."""
    return "nearest" if max(image.shape[:2]) <= 100 else "auto"


def _colour_bars(figure, axes, kinds):
    """One colour bar for signed maps and one for positive ones, as they occur."""
    for signed in sorted(kinds):
        norm = Normalize(-1 if signed else 0, 1)
        bar = figure.colorbar(
            ScalarMappable(norm, SIGNED if signed else POSITIVE), ax=axes, aspect=25, shrink=0.9, pad=0.01
        )
        ticks = [-1, 0, 1] if signed else [0, 1]
        bar.set_ticks(ticks, labels=[{-1: "\N{MINUS SIGN}max", 0: "0", 1: "max"}[tick] for tick in ticks])
        bar.outline.set_visible(False)


def _checked_images(images, within=True):
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or not len(images):
        raise ValueError(
            f"Expected images [n, height, width, channels] with 1 or 3 channels. Received: shape {images.shape}. "
            "Of one image x, pass x[None]."
        )
    if within and not (images.min() >= -0.01 and images.max() <= 1.01):
        raise ValueError(
            f"Expected images in [0, 1]. Received: from {images.min():.3g} to {images.max():.3g}. To draw them, pass "
            "(x - x.min()) / (x.max() - x.min()), say."
        )
    return images


def _flat(name, values, images):
    values = np.asarray(values)
    values = values.astype("float32") if values.dtype == bool else values  # a mask
    values = values.sum(-1) if values.ndim == 4 else values
    if values.shape != images.shape[:3]:
        raise ValueError(
            f"The maps of {name!r} do not fit the images. Received: shape {values.shape}. "
            f"Expected: {images.shape[:3]}, with or without channels (of a class activation map, upsample=True)."
        )
    if not np.isfinite(values).all():
        raise ValueError(f"The maps of {name!r} hold numbers that are not finite.")
    return values


def _wrapped(text):
    """Two lines for a title of two or more words that would run into its neighbour's."""
    text = str(text).replace("_", " ")
    if len(text) <= 11 or " " not in text:
        return text
    words = text.split(" ")
    best = min(range(1, len(words)), key=lambda k: max(len(" ".join(words[:k])), len(" ".join(words[k:]))))
    return " ".join(words[:best]) + "\n" + " ".join(words[best:])
