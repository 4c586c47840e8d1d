"""Bars of shares, with their intervals, one panel for each question."""

import matplotlib.pyplot as plt
import numpy as np

from .style import COLOURS, drawing, listed, show


def plot_bars(panels, names, xlabel, intervals=None, mark=None, *, alt=None):
    """Draw horizontal bars, a panel for each of several sets of values, all over one axis of names.

    Args:
        panels: a dictionary, title -> values `[k]`, of 0 or more.
        names: `k` words.
        intervals: a dictionary, title -> (lower `[k]`, upper `[k]`), drawn as thin lines.
        mark: a value at which a dashed line is drawn (what chance would give), or None.
        alt: the alternative text of the figure in a notebook; None for one that names panels and bars.

    Raises:
        ValueError: values that are not as many as the names, not finite, or negative.
    """
    names, panels = list(names), {title: np.asarray(values, float) for title, values in panels.items()}
    for title, values in panels.items():
        if values.shape != (len(names),) or not (np.isfinite(values) & (values >= 0)).all():
            raise ValueError(
                f"Expected a finite value of 0 or more for each of {len(names)} names. Received for {title!r}: shape "
                f"{values.shape}, {values.ravel()[:12]}."
            )
    with drawing():
        size = 1.4 + 1.9 * len(panels), 0.9 + 0.24 * len(names)
        figure, axes = plt.subplots(1, len(panels), figsize=size, sharex=True, sharey=True, layout="constrained")
        for axis, (title, values) in zip(np.atleast_1d(axes), panels.items()):
            axis.barh(range(len(names)), values, color=COLOURS[0], height=0.7)
            if intervals and title in intervals:
                axis.hlines(range(len(names)), *intervals[title], color="black", linewidth=1.2)
            if mark is not None:
                axis.axvline(mark, color="#666666", linewidth=0.9, linestyle="--")
            axis.set(title=title, xlim=(0, None))
        np.atleast_1d(axes)[0].set_yticks(range(len(names)), names)
        np.atleast_1d(axes)[0].invert_yaxis()
        figure.supxlabel(xlabel, fontsize=10)
        show(figure, alt or f"Bars of {xlabel} for {listed(names)}, panels: {listed(panels)}.")
