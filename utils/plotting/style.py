"""What all figures share: colours, type, how they are opened, shown with an alternative text, and closed."""

import base64
import contextlib
import io
import pathlib

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from matplotlib.colors import LinearSegmentedColormap
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


@contextlib.contextmanager
def drawing():
    """The style of the series; what was opened is closed again when the drawing of it fails."""
    before = set(plt.get_fignums())
    with plt.rc_context(STYLE):
        try:
            yield
        except BaseException:
            for number in set(plt.get_fignums()) - before:
                plt.close(number)
            raise


def show(figure, alt, save=None):
    """Show a figure, in a notebook with `alt` as its alternative text, and write it to the file `save`, if any.

    The text goes into the metadata of the output, where nbconvert and the sites made by it look for it. Missing
    folders of `save` are made. Where nothing can be shown, in a script without a screen, a saved figure is closed.
    """
    if save is not None:
        path = pathlib.Path(save)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
    backend = matplotlib.get_backend().lower()
    if "inline" in backend:
        png, small = io.BytesIO(), io.BytesIO()
        figure.savefig(png, dpi=figure.dpi, bbox_inches="tight")
        Image.open(png).convert("RGB").save(small, "PNG", optimize=True)  # a tenth smaller than with an alpha channel
        data = {"image/png": base64.b64encode(small.getvalue()).decode(), "text/plain": repr(figure)}
        display(data, raw=True, metadata={"image/png": {"alt": alt}})
        plt.close(figure)
    elif save is not None and backend == "agg":
        plt.close(figure)
    else:
        plt.show()


def wrapped(text):
    """Two lines for a title of two or more words that would run into its neighbour's."""
    text = str(text).replace("_", " ")
    if len(text) <= 11 or " " not in text:
        return text
    words = text.split(" ")
    best = min(range(1, len(words)), key=lambda k: max(len(" ".join(words[:k])), len(" ".join(words[k:]))))
    return " ".join(words[:best]) + "\n" + " ".join(words[best:])


def listed(words):
    """`["a", "b", "c"]` as "a, b and c"."""
    words = [str(word).replace("_", " ") for word in words]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
