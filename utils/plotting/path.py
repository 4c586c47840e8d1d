"""A score on the way from a baseline to an image, over copies of the image as it looks there."""

import matplotlib.pyplot as plt
import numpy as np

from .grid import draw_image
from .inputs import checked_images
from .style import COLOURS, drawing, show


def plot_path(alphas, score, images, places, ylabel, tangents=None, *, alt):
    """Draw a score along a path, with images of points of the path below, where they lie, and tangents.

    Args:
        alphas, score: `[k]`, places on the path from 0 to 1 and the score there.
        images: `[n, height, width, channels]`, the points at `places` `[n]`.
        tangents: a dictionary, alpha -> slope; each is drawn as a short line through the score, with its slope.
        alt: the alternative text of the figure in a notebook.

    Raises:
        ValueError: as many scores as alphas, or as many places as images, are missing.
    """
    images, alphas, score = checked_images(images), np.asarray(alphas, float), np.asarray(score, float)
    if alphas.shape != score.shape or alphas.ndim != 1 or len(alphas) < 2 or len(places) != len(images):
        raise ValueError(
            f"Expected: two or more alphas, a score for each, and a place for each image. Received: {alphas.shape}, "
            f"{score.shape}, and {len(places)} places for {len(images)} images."
        )
    with drawing():
        figure, (axis, below) = plt.subplots(
            2, 1, figsize=(7.2, 4.4), height_ratios=(3, 1), sharex=True, layout="constrained"
        )
        axis.plot(alphas, score, color=COLOURS[0])
        for alpha, slope in (tangents or {}).items():
            height, reach = np.interp(alpha, alphas, score), 0.08
            ends = np.array([-reach, reach])
            axis.plot(alpha + ends, height + slope * ends, color=COLOURS[1], linewidth=3, solid_capstyle="butt")
            axis.plot(alpha, height, "o", color=COLOURS[1], markeredgecolor="white")
            words = f"slope {slope:.1f}".replace("-", "\N{MINUS SIGN}")
            style = {"textcoords": "offset points", "fontsize": 9, "color": COLOURS[1]}
            axis.annotate(words, (alpha, height), (8, -13 if slope > 0 else 9), **style)
        for place, image in zip(places, images):
            axis.axvline(place, color="#cccccc", linewidth=0.8, zorder=0)
            frame = below.inset_axes((place - 0.06, 0.02, 0.12, 0.96), transform=below.get_xaxis_transform())
            draw_image(frame, image)
            frame.set(xticks=[], yticks=[])
            frame.spines[:].set(visible=True, color="#bbbbbb", linewidth=0.6)
        axis.set(ylabel=ylabel, xlim=(-0.07, 1.07))
        axis.tick_params(labelbottom=False)
        below.set(xlabel="alpha, from the baseline (0) to the photograph (1)", yticks=[])
        below.spines["left"].set_visible(False)
        show(figure, alt)
