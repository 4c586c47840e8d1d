"""Charts: curves with their spread, matrices, where relevance goes, and intervals of many methods."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from .intervals import draw_interval, draw_rows, legend_of
from .style import COLOURS, LINES, SIGNED, drawing, listed, show, wrapped


def plot_curves(x, curves, xlabel, ylabel, title="", log="", bands=None, size=(6.4, 3.6), ylim=None, *, alt=None):
    """Draw curves over `x`, each in its own colour and line style, with a legend.

    Args:
        x: `[k]`.
        curves: a dictionary, name -> values `[k]`.
        log: "", "x", "y" or "xy": the axes that are logarithmic.
        bands: a dictionary, name -> (lower `[k]`, upper `[k]`), the spread around a curve.
        ylim: the ends of the vertical axis; None for what the curves need.
        alt: the alternative text of the figure in a notebook; None for one that names axes and curves.
    """
    with drawing():
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
        show(figure, alt or f"{_heading(title)}{ylabel} against {xlabel}, curves of {listed(curves)}.")


def plot_matrix(values, labels, title="", decimals=2, *, alt=None):
    """Draw a square matrix `[k, k]` of numbers from -1 to 1 (correlations), each number in its cell."""
    with drawing():
        figure, axis = plt.subplots(figsize=(1.6 + 0.75 * len(labels), 1.2 + 0.62 * len(labels)), layout="constrained")
        drawn = axis.imshow(values, cmap=SIGNED, vmin=-1, vmax=1)
        axis.set_xticks(range(len(labels)), [wrapped(label) for label in labels])
        axis.set_yticks(range(len(labels)), labels)
        for (i, j), value in np.ndenumerate(values):
            colour = "white" if abs(value) > 0.65 else "black"
            axis.text(j, i, f"{value:.{decimals}f}", ha="center", va="center", color=colour)
        axis.set_title(title)
        axis.spines[:].set_visible(False)
        axis.tick_params(length=0)
        figure.colorbar(drawn, ax=axis, shrink=0.8)
        show(figure, alt or f"{_heading(title)}a matrix of {listed(labels)}, each number in its cell.")


def plot_ledger(rows, title="", *, alt=None):
    """Draw a `relevance_ledger`: for each part, the shares of the score that go on, to biases and to stabilisers.

    The shares are medians over the images. Parts that lose less than a thousandth are left out.
    """
    lost = [max(np.abs(np.median(part / rows[0].incoming)) for part in (row.bias, row.stabiliser)) for row in rows]
    rows = [row for row, share in zip(rows, lost) if share > 1e-3] or rows
    score = rows[0].incoming
    with drawing():
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
        show(figure, alt or f"{_heading(title)}bars of shares of the score for {listed(row.layer for row in rows)}.")


def plot_localisation(table, highlight=(), by="relevance mass", *, alt=None):
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
    with drawing():
        size = (2.2 + 2.0 * len(measures), 1.3 + 0.24 * len(rows))
        figure, axes = plt.subplots(1, len(measures), figsize=size, sharey=True, layout="constrained", squeeze=False)
        for axis, measure in zip(axes[0], measures):
            for k, (name, row) in enumerate(controls.items()):
                axis.axvline(row[measure][0], color="#666666", linewidth=0.9, linestyle=LINES[k + 1], label=name)
            for place, name in enumerate(rows):
                draw_interval(axis, place, table[name][measure], families.index(table[name]["family"]))
            axis.set(xlim=(0, 1.02), xlabel=measure, xticks=[0, 0.25, 0.5, 0.75, 1])
            axis.set_xticklabels(["0", "", "0.5", "", "1"])
            draw_rows(axis)
        axes[0, 0].set_yticks(range(len(rows)), rows)
        for label in axes[0, 0].get_yticklabels():
            label.set_fontweight("bold" if label.get_text() in highlight else "normal")
        figure.legend(
            handles=legend_of(families) + axes[0, 0].get_legend_handles_labels()[0], loc="outside lower center", ncols=3
        )
        show(figure, alt or f"Points with intervals of {listed(measures)} for {listed(rows)}.")


def plot_intervals(panels, xlabel, line=None, xlim=None, *, alt=None):
    """Draw values with their intervals, a row for each, in panels below one another.

    Args:
        panels: a dictionary, title of the panel -> (name of the series -> (row -> (value, lower end, upper end))). The
            first series of the first panel names the rows, from the top; another series or panel may lack some.
        line: a value to be marked in every panel: chance, or none.
        xlim: the ends of the horizontal axis, which all panels share; None for what the values need.
        alt: the alternative text of the figure in a notebook; None for one that names panels, series and rows.

    Raises:
        ValueError: a row that the first series of the first panel does not have.
    """
    series = list(next(iter(panels.values())))
    rows = list(next(iter(panels.values()))[series[0]])
    found = [(name, row) for parts in panels.values() for name, values in parts.items() for row in values]
    unknown = [pair for pair in found if pair[0] not in series or pair[1] not in rows]
    if unknown:
        raise ValueError(f"Unknown series or rows. Received: {unknown}. Expected: series of {series}, rows of {rows}.")
    with drawing():
        size = (6.4, 0.9 + len(panels) * (0.45 + max(0.3, 0.13 * len(series)) * len(rows)))
        figure, axes = plt.subplots(len(panels), 1, figsize=size, sharex=True, squeeze=False, layout="constrained")
        for axis, (title, parts) in zip(axes[:, 0], panels.items()):
            for k, name in enumerate(series):
                shift = min(0.26, 0.66 / len(series)) * (k - (len(series) - 1) / 2)  # a gap between rows
                for row, values in parts.get(name, {}).items():
                    draw_interval(axis, rows.index(row) + shift, values, k)
            if line is not None:
                axis.axvline(line, color="#666666", linewidth=0.9, linestyle="--", zorder=0)
            axis.set(ylim=(len(rows) - 0.5, -0.5), title=title, xlim=xlim)
            axis.set_yticks(range(len(rows)), rows)
            draw_rows(axis)
        axes[-1, 0].set_xlabel(xlabel)
        if len(series) > 1:
            figure.legend(handles=legend_of(series), loc="outside lower center", ncols=2)
        words = f"{_heading(listed(panels))}{xlabel} of {listed(rows)}, points with intervals"
        show(figure, alt or f"{words}{f' for {listed(series)}' if len(series) > 1 else ''}.")


def _heading(title):
    return f"{title}: " if title else ""
