"""Films: how an image and its maps change, step by step, as one animated PNG."""

import base64
import io

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from PIL import Image

from .grid import colour_bars, draw_image, draw_map, grid, laid_over
from .inputs import checked_images, checked_maps, checked_overlay, checked_titles, one_of
from .style import SIGNED, STYLE, drawing, listed


def film_frames(images, maps, titles=None, scale="method", *, overlay=False):
    """Draw an image beside its maps, step by step, all steps alike: the frames of a film, or of `show_slider`.

    Args:
        images: `[steps, height, width, channels]`; what is below 0 or above 1 is drawn as 0 or 1.
        maps: a dictionary, name -> maps `[steps, height, width, channels]` (or without channels).
        titles: a line of text for each step, under it; None where a slider has them as its labels.
        scale: "method": all steps of a map share their scale; "all": so do all maps.
        overlay: as of `show_attributions`.

    Returns:
        `[steps, height, width, 3]`, bytes.

    Raises:
        ValueError: images, maps or titles that do not fit.
    """
    images, maps, titles = _checked(images, maps, titles)
    under = checked_overlay(overlay, images)
    under = [None] * len(images) if under is None else under
    one_of("scale", scale, ("method", "all"))
    is_signed = {name: bool((values < 0).any()) for name, values in maps.items()}
    limits = {name: np.abs(values).max() or 1 for name, values in maps.items()}
    if scale == "all":
        limits = dict.fromkeys(limits, max(limits.values(), default=1))
    with drawing():
        figure, axes = grid(1, 1 + len(maps), images.shape[1:3], len(set(is_signed.values())), width=2.0)
        for axis, (name, values) in zip(axes[0, 1:], maps.items()):
            draw_map(axis, values[-1], limits[name], is_signed[name], under[-1])
            axis.set_title(name)
        draw_image(axes[0, 0], images[-1])
        axes[0, 0].set_title("input")
        colour_bars(figure, axes, set(is_signed.values()))
        frames = []
        for k, title in enumerate(titles):
            axes[0, 0].images[0].set_data(images[k, ..., 0] if images.shape[-1] == 1 else images[k])
            for axis, (name, values) in zip(axes[0, 1:], maps.items()):
                axis.images[0].set_data(laid_over(under[k], values[k], limits[name], is_signed[name]))
            figure.supxlabel(title, fontsize=STYLE["font.size"])
            frames.append(pixels_of(figure))
        plt.close(figure)
    return np.stack(frames)


def _checked(images, maps, titles):
    images = checked_images(images, within=False)  # noisy copies, say
    return images, checked_maps(maps, images), checked_titles(titles, len(images))


def pixels_of(figure):
    """A figure as `[height, width, 3]`, bytes."""
    png = io.BytesIO()
    figure.savefig(png, dpi=STYLE["figure.dpi"])
    return np.asarray(Image.open(png).convert("RGB"))


def with_one_palette(frames):
    """Frames `[n, height, width, 3]` as images that share their palette, or else the colours would flicker.

    A part of it are greys, so that grey stays grey and white white, and a part the colours of signed maps, of which the
    strongest are too rare to be found among those of photographs.
    """
    colours = np.reshape(Image.fromarray(np.concatenate(frames)).quantize(192).getpalette(), (-1, 3))
    signed = np.rint(255 * SIGNED(np.linspace(0, 1, 32))[:, :3]).astype(int)
    greys = np.linspace(0, 255, 32).astype(int)[:, None].repeat(3, 1)
    colours[colours.min(1) > 244] = 255
    palette = Image.new("P", (1, 1))
    palette.putpalette(np.concatenate([greys, signed, colours]).ravel().tolist())
    return [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]


def show_film(images, maps, titles, seconds=0.2, scale="method", *, overlay=False, alt=None):
    """Show an animation, one animated PNG: an image beside its maps, step by step; the last step stands for longer.

    Where nothing moves (on paper, in some viewers) the last step is seen.

    Args:
        images, maps, titles, scale, overlay: as those of `film_frames`.
        seconds: how long a step stands.
        alt: the alternative text of the film; None for one that says what moves.

    Raises:
        ValueError: images, maps or titles that do not fit.
    """
    if not 0 < seconds < 60:
        raise ValueError(f"seconds says how long a step stands. Received: {seconds!r}. Expected: from 0 to 60.")
    images, maps, titles = _checked(images, maps, titles)
    frames = with_one_palette(film_frames(images, maps, titles, scale, overlay=overlay))
    milliseconds = [int(1000 * seconds)] * (len(frames) - 1) + [2000]
    png = io.BytesIO()
    frames[-1].save(png, "PNG", save_all=True, default_image=True, append_images=frames, duration=milliseconds, loop=0)
    data = {"image/png": base64.b64encode(png.getvalue()).decode(), "text/plain": f"an animation, {len(frames)} steps"}
    alt = (
        alt or f"An animation in {len(frames)} steps, from {titles[0]} to {titles[-1]}: an input beside {listed(maps)}."
    )
    display(data, raw=True, metadata={"image/png": {"alt": alt}})
