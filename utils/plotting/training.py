"""What a training did: its curves, and the weights before and after it, as histograms and as colours."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

from .style import COLOURS, LINES, drawing, listed, show
from .units import sheet

STEPS = ("#FFFFFF", "#F0F0F0")  # the ground of one stage of the training and of the next


def plot_training(log, stages=None, bands=None, *, alt=None):
    """Draw accuracy and loss over the epochs, training and test, side by side.

    Args:
        log: a list of dictionaries with `epoch`, `accuracy`, `loss`, `test_accuracy` and `test_loss`.
        stages: a dictionary, name -> number of epochs, of what changed during the training; the epochs of each are
            set off by the ground. None for none.
        bands: a dictionary, name -> (lower `[k]`, upper `[k]`), intervals around the test accuracy.
        alt: the alternative text of the figure in a notebook; None for one that names the curves.

    Raises:
        ValueError: an empty log, or stages whose epochs are not those of the log.
    """
    stages = stages or {}
    if not log:
        raise ValueError("There is nothing to draw. Received: an empty log. Expected: one row for each epoch.")
    if stages and sum(stages.values()) != len(log):
        raise ValueError(
            f"The stages do not fit the log. Received: {sum(stages.values())} epochs in stages. "
            f"Expected: {len(log)}, as in the log."
        )
    epochs = [row["epoch"] for row in log]
    with drawing():
        figure, axes = plt.subplots(1, 2, figsize=(9, 3.9), layout="constrained")
        for axis, name in zip(axes, ("accuracy", "loss")):
            for k, (key, label) in enumerate(((f"test_{name}", "test, after the epoch"), (name, "training, its mean"))):
                values = [row[key] for row in log]
                axis.plot(epochs, values, color=COLOURS[k], linestyle=LINES[k], marker="os"[k], ms=3.5, label=label)
            _ground(axis, epochs, stages)
            axis.set(xlabel="epoch", ylabel=name)
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        for k, (name, (low, high)) in enumerate((bands or {}).items()):
            style = {"facecolor": COLOURS[0], "alpha": 0.45 - 0.3 * (k > 0), "edgecolor": "none"}
            axes[0].fill_between(epochs, low, high, label=name, **style)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2)
        text = "Accuracy and loss against the epoch, curves of training and test"
        text += f"; bands around the test accuracy: {listed(bands)}" if bands else ""
        show(figure, alt or f"{text}.")


def plot_histograms(rows, each=3, *, alt=None):
    """Draw histograms of the weights of layers, `each` of them a panel, with their means and standard deviations.

    Args:
        rows: a dictionary, what a row of panels shows ("before", say) -> a dictionary, name of a layer -> its weights,
            of any shape. All rows have the same layers; panels below each other share their axes.
        each: how many layers share a panel.

    Raises:
        ValueError: rows that differ in their layers.
    """
    names = list(next(iter(rows.values())))
    for name, row in rows.items():
        if list(row) != names:
            raise ValueError(
                f"The rows must have the same layers. Received: {list(row)} in {name!r}. Expected: {names}."
            )
    groups = [names[k : k + each] for k in range(0, len(names), each)]
    with drawing():
        size = (0.6 + 2.9 * len(groups), 0.6 + 2.3 * len(rows))
        figure, axes = plt.subplots(len(rows), len(groups), figsize=size, squeeze=False, layout="constrained")
        for group, column in zip(groups, axes.T):
            largest = max(np.abs(row[name]).max() for row in rows.values() for name in group)
            bins, highest = np.linspace(-largest, largest, 61), 0
            for axis, (title, row) in zip(column, rows.items()):
                for k, name in enumerate(group):
                    values = np.asarray(row[name], "float64").ravel()
                    density = np.histogram(values, bins, density=True)[0]
                    label = f"{name}  {_signed(values.mean())} $\\pm$ {values.std():.3f}"
                    style = {"color": COLOURS[k], "linestyle": LINES[k], "linewidth": 1.4, "baseline": None}
                    axis.stairs(density, bins, label=label, **style)
                    highest = max(highest, density.max())
                axis.axvline(0, color="#999999", linewidth=0.6, zorder=0)
                axis.legend(loc="upper center", borderaxespad=0, handlelength=1.6)
                axis.spines["left"].set_visible(False)
                axis.set(yticks=[], xlim=(-largest, largest), ylabel=title if group is groups[0] else "")
            for axis in column:  # room for the legend; one scale, so that widths and heights can be compared
                axis.set_ylim(0, (1.1 + 0.2 * len(group)) * highest)
            column[-1].set_xlabel("weight")
        show(figure, alt or f"Histograms of the weights of {listed(names)}, a row of panels each for {listed(rows)}.")


def show_kernels(sets, columns=8, *, alt=None):
    """Draw the kernels of a first layer as colours: grey is 0, each kernel is scaled by its own largest weight.

    Args:
        sets: a dictionary, title -> kernels `[height, width, 3, n]`, for red, green and blue.
        columns: how many kernels stand side by side in each set.
    """
    tiles = {title: kernel_tiles(kernels, columns) for title, kernels in sets.items()}
    aspect = max(tile.shape[0] / tile.shape[1] for tile in tiles.values())
    with drawing():
        size = (0.4 + 4.2 * len(tiles), 0.5 + 4.2 * aspect)
        figure, axes = plt.subplots(1, len(tiles), figsize=size, squeeze=False, layout="constrained")
        figure.get_layout_engine().set(wspace=0.08)
        for axis, (title, tile) in zip(axes[0], tiles.items()):
            axis.imshow(tile, interpolation="nearest")
            axis.set_title(title)
            axis.axis("off")
        show(figure, alt or f"Kernels of the first layer as colours: {listed(sets)}.")


def kernel_tiles(kernels, columns):
    """Kernels `[height, width, 3, n]` as colours, side by side on white: an image `[..., ..., 3]` in [0, 1].

    A colour is 0.5 + 0.5 w / max |w|, the maximum being that of the kernel.

    Raises:
        ValueError: kernels of another shape; a kernel of zeros, which has no scale, is drawn in plain grey.
    """
    kernels = np.asarray(kernels, "float64")
    if kernels.ndim != 4 or kernels.shape[2] != 3:
        raise ValueError(
            f"Colours need kernels [height, width, 3, n] of a first layer. Received: shape {kernels.shape}. "
            "Weights of deeper layers are drawn by plot_histograms."
        )
    largest = np.abs(kernels).max((0, 1, 2))
    colours = 0.5 + 0.5 * kernels / np.where(largest > 0, largest, 1)
    return sheet(np.moveaxis(colours, -1, 0), columns)


def _ground(axis, epochs, stages):
    """Set the epochs of each stage off, with its name above."""
    start = epochs[0] - 0.5
    for k, (name, times) in enumerate(stages.items()):
        axis.axvspan(start, start + times, facecolor=STEPS[k % 2], zorder=0)
        place = {"transform": axis.get_xaxis_transform(), "ha": "center", "va": "bottom"}
        axis.text(start + times / 2, 1.02, name, fontsize=9, **place)
        start += times
    axis.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)


def _signed(number):
    return f"{number:+.3f}".replace("-", "\N{MINUS SIGN}")
