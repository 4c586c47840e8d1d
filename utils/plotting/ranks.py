"""Ranks of many rows by many measures, in one table to be printed."""

import matplotlib.pyplot as plt
import numpy as np

from .style import POSITIVE, drawing, listed, show


def plot_ranks(ranks, rows, columns, groups=None, *, alt=None):
    """Draw a table of ranks with their intervals: in each cell "from-to", the darker the better, bold for the first.

    Args:
        ranks: `[rows, columns, 3]`: rank, lower and upper end of its interval; NaN for none, drawn as a dash.
        rows, columns: their names; a line break in the name of a column is kept.
        groups: a dictionary, name -> how many of the rows belong to it, in their order; a line is drawn between.
        alt: the alternative text of the figure in a notebook; None for one that names rows and columns.

    Bold is what the interval does not tell from the first place.
    """
    ranks = np.asarray(ranks, float)
    if ranks.shape != (len(rows), len(columns), 3):
        raise ValueError(
            f"ranks must be [{len(rows)}, {len(columns)}, 3], for each row and column a rank with its interval. "
            f"Received: {ranks.shape}."
        )
    with drawing():
        size = (1.9 + 0.52 * len(columns), 1.5 + 0.25 * len(rows))
        figure, axis = plt.subplots(figsize=size, layout="constrained")
        place = (ranks[..., 0] - 1) / max(1, np.nanmax(ranks) - 1)
        axis.imshow(0.75 * (1 - place), cmap=POSITIVE, vmin=0, vmax=1, aspect="auto")
        for (i, j), rank in np.ndenumerate(ranks[..., 0]):
            if np.isnan(rank):
                axis.text(j, i, "–", ha="center", va="center", color="#666666")
                continue
            low, high = (f"{end:.0f}" for end in ranks[i, j, 1:])
            axis.text(
                j,
                i,
                low if low == high else f"{low}–{high}",
                ha="center",
                va="center",
                fontsize=9,
                color="white" if place[i, j] < 0.35 else "black",
                fontweight="bold" if ranks[i, j, 1] == 1 else "normal",
            )
        axis.set_xticks(range(len(columns)), columns, rotation=90, linespacing=0.95)
        axis.xaxis.tick_top()
        axis.set_yticks(range(len(rows)), rows)
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
        for end in np.cumsum(list((groups or {}).values()))[:-1]:
            axis.axhline(end - 0.5, color="black", linewidth=0.8)
        show(figure, alt or f"A table of ranks with their intervals: {listed(rows)} by {listed(columns)}.")
