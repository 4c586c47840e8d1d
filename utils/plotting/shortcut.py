"""A shortcut in figures: what a network reads with and without it, and which methods find it in which network."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.lines import Line2D

from .grid import colour_bars, draw_image, draw_map, outline
from .inputs import checked_images, checked_maps, flat
from .intervals import draw_interval, draw_rows, legend_of
from .style import LINES, drawing, listed, show, wrapped

CAPITALS = 11.5  # points: a line of five photographs is drawn at half its size on a phone


def show_readings(pairs, maps, masks, *, alt):
    """Draw photographs in two versions, with what is read in each under it, and maps of the first version beside them.

    Args:
        pairs: a dictionary of two, title -> (photographs `[n, height, width, 3]`, `n` texts to stand under them).
        maps: a dictionary, title -> maps of the first version, as of `show_attributions`; each is laid over its
            photograph and scaled by its own largest absolute value.
        masks: `[n, height, width]`, bool: a thin line is drawn around each, over the maps.
        alt: the alternative text.

    Raises:
        ValueError: not two versions, or texts, maps or masks that do not fit them.
    """
    if len(pairs) != 2 or len({len(photographs) for photographs, _ in pairs.values()}) != 1:
        lengths = {title: len(photographs) for title, (photographs, _) in pairs.items()}
        raise ValueError(f"Expected two versions of the same photographs. Received: {lengths}.")
    versions = [checked_images(photographs) for photographs, _ in pairs.values()]
    images, n = versions[0], len(versions[0])
    for title, (_, texts) in pairs.items():
        if len(texts) != n:
            raise ValueError(f"Expected a text for each of the {n} photographs {title!r}. Received: {len(texts)}.")
    maps = checked_maps(maps, images)
    masks = flat("masks", masks, images) > 0.5
    columns = 2 + len(maps)
    signed = {name: bool((values < 0).any()) for name, values in maps.items()}
    with drawing():
        shape = {"figsize": (1.55 * columns + 0.5, 1.75 * n + 0.55), "squeeze": False, "layout": "constrained"}
        figure, axes = plt.subplots(n, columns, **shape)
        for axis, title in zip(axes[0], [*pairs, *maps]):
            axis.set_title(wrapped(title), fontsize=CAPITALS)
        for row, i in zip(axes, range(n)):
            for axis, version, (_, texts) in zip(row, versions, pairs.values()):
                draw_image(axis, version[i])
                axis.set_xlabel(texts[i], fontsize=CAPITALS, labelpad=3)
            for axis, (name, values) in zip(row[2:], maps.items()):
                draw_map(axis, values[i], np.abs(values[i]).max() or 1, signed[name], images[i])
                outline(axis, masks[i])
        for axis in axes.flat:
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set(visible=True, color="#bbbbbb", linewidth=0.6)
        colour_bars(figure, axes, set(signed.values()))
        show(figure, alt)


def plot_finders(tables, measures, chance, by, *, alt=None):
    """Draw what `tools/clever_hans.py` measures: for each method a point with its interval, one a table.

    Args:
        tables: a dictionary, title -> {name of the method: {measure: (mean, low, high), ...}}, all of the same methods.
        measures: the measures, a panel each.
        chance: the value of a map that is the same everywhere, drawn as a line.
        by: the measure by which the methods are ordered, from the first table; the best stands at the top.
        alt: the alternative text; None for one that names tables, measures and methods.

    Raises:
        ValueError: tables of different methods, or a measure that a table lacks.
    """
    titles, first = list(tables), next(iter(tables.values()))
    for title, table in tables.items():
        lacking = [name for name in first if name not in table or {*measures, by} - set(table[name])]
        if lacking or len(table) != len(first):
            raise ValueError(
                f"All tables must have the same methods and the measures {listed([*measures, by])}. Received: "
                f"{len(table)} methods in {title!r}, {len(first)} in {titles[0]!r}; lacking: {lacking}."
            )
    rows = sorted(first, key=lambda name: first[name][by][0])
    with drawing():
        size = (2.0 + 2.3 * len(measures), 1.0 + 0.25 * len(rows))
        figure, axes = plt.subplots(1, len(measures), figsize=size, sharey=True, squeeze=False, layout="constrained")
        for axis, measure in zip(axes[0], measures):
            axis.axvline(chance, color="#666666", linewidth=0.9, linestyle=LINES[1])
            for k, table in enumerate(tables.values()):
                for place, name in enumerate(rows):
                    draw_interval(axis, place, table[name][measure], k, size=5.5)
            axis.set(xlim=(-0.02, 1.02), xlabel=measure, xticks=[0, 0.25, 0.5, 0.75, 1])
            axis.set_xticklabels(["0", "", "0.5", "", "1"])
            draw_rows(axis)
        axes[0, 0].set_yticks(range(len(rows)), rows)
        marks = legend_of(titles)
        marks.append(Line2D([], [], color="#666666", linewidth=0.9, linestyle=LINES[1], label="the same everywhere"))
        figure.legend(handles=marks, loc="outside lower center", ncols=2)
        names = listed(measures)
        show(figure, alt or f"Points with intervals of {names} for {listed(titles)}, by {listed(rows[::-1])}.")
