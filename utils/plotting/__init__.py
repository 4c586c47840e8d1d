"""Every figure of the series: images beside their maps, films, curves with their spread, functions of two inputs.

All figures share `STYLE`. Images of one channel are drawn as ink (1) on paper (0). A signed map is drawn
in `SIGNED`, with symmetric limits; a map without negative values in `POSITIVE`; both are white at zero.
In a notebook each figure carries an alternative text, `alt`, for readers who cannot see it. A figure that
is refused is not left open.
"""

from .bars import plot_bars
from .charts import plot_curves, plot_intervals, plot_ledger, plot_localisation, plot_matrix
from .drawing import Drawing
from .film import film_frames, show_film
from .maps import show_attributions, show_images, show_maps
from .path import plot_path
from .plane import plot_plane
from .ranks import plot_ranks
from .shortcut import plot_finders, show_readings
from .slider import show_slider
from .style import COLOURS, COLUMNS, IMAGE, LINES, POSITIVE, SIGNED, STYLE
from .training import plot_histograms, plot_training, show_kernels
from .units import channel_frames, plot_preferences, sheet, show_channels, show_windows

__all__ = [
    "show_attributions",
    "show_images",
    "show_maps",
    "show_film",
    "film_frames",
    "show_slider",
    "plot_curves",
    "plot_plane",
    "plot_path",
    "plot_bars",
    "plot_matrix",
    "plot_ledger",
    "plot_localisation",
    "plot_intervals",
    "plot_finders",
    "plot_ranks",
    "show_readings",
    "sheet",
    "show_channels",
    "channel_frames",
    "show_windows",
    "plot_preferences",
    "plot_training",
    "plot_histograms",
    "show_kernels",
    "IMAGE",
    "SIGNED",
    "POSITIVE",
    "Drawing",
    "COLOURS",
    "LINES",
    "COLUMNS",
    "STYLE",
]
