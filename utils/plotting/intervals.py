"""Points with their intervals, as several charts have them: one colour and one marker for each series."""

from matplotlib.lines import Line2D

from .style import COLOURS

MARKERS = "osD^v"


def draw_interval(axis, place, values, k, size=5):
    """Draw `values`, a value and the ends of its interval, at the height `place`, as one of series `k`."""
    value, low, high = values
    axis.plot([low, high], [place, place], color=COLOURS[k], linewidth=2.2, solid_capstyle="butt")
    axis.plot(value, place, MARKERS[k], color=COLOURS[k], markersize=size, markeredgecolor="white")


def draw_rows(axis):
    """Faint lines for the rows, behind the points."""
    axis.grid(axis="y", color="#eeeeee", linewidth=0.8)
    axis.set_axisbelow(True)


def legend_of(series):
    """What a legend shows of the series, by their names."""
    style = {"markeredgecolor": "white", "linewidth": 2.2}
    return [Line2D([], [], color=COLOURS[k], marker=MARKERS[k], label=name, **style) for k, name in enumerate(series)]
