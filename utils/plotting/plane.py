"""Functions of two inputs, as contours with arrows over them."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import MaxNLocator

from .style import COLOURS, POSITIVE, SIGNED, drawing, listed, show


def plot_plane(panels, span=2.0, centre=(0.0, 0.0), points=None, *, alt=None):
    """Draw functions of two inputs as filled contours, with arrows over them.

    Args:
        panels: a dictionary, title -> (function, field). `function` takes `[k, 2]` and returns `[k]`;
            `field` takes `[k, 2]` and returns the arrows `[k, 2]`, or is None.
        span, centre: both inputs run from centre - span to centre + span.
        points: `[p, 2]`, marked in every panel and numbered from 1, or None.
    """
    middle = np.asarray(centre, float)
    fine, coarse = (middle + np.stack(np.meshgrid(*[np.linspace(-span, span, k)] * 2), -1) for k in (121, 9))
    with drawing():
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
        show(figure, alt or f"Contours of functions of two inputs: {listed(panels)}.")
