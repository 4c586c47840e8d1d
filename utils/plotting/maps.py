"""Images beside what the methods say of them, and grids of images or of maps."""

import numpy as np

from .grid import colour_bars, draw_image, draw_map, even, grid, outline, write_numbers
from .inputs import (
    check_number_of_frames,
    checked_images,
    checked_maps,
    checked_overlay,
    checked_titles,
    flat,
    one_of,
)
from .style import COLUMNS, drawing, listed, show, wrapped


def show_attributions(
    images,
    maps,
    titles=None,
    scale="map",
    across=None,
    signed=None,
    outlines=None,
    save=None,
    *,
    overlay=False,
    alt=None,
    low=0,
    high=1,
):
    """Draw images beside what the methods say of them.

    Args:
        images: `[n, height, width, channels]`, 1 or 3 channels, in [0, 1] or bytes (uint8).
        maps: a dictionary, name of the method -> maps `[n, height, width, channels]` (or without
            channels), or the array of one method. The channels of a map are summed. Smaller maps `[n, h, w]`
            (class activation maps) are upsampled, bilinear with half-pixel centres.
        titles: a word for each image (the class it is explained for, say), or None.
        scale: "map": each map is scaled by its own largest absolute value, which stands under it with its sum;
            "method": all maps of a method by the largest among them. Say in the caption which.
        across: what runs from left to right, "images" (in lines of up to five) or "methods"; None: whichever is more.
        signed: True draws all maps in the signed colours; None only those with negative values.
        outlines: masks `[n, height, width]`; a thin line is drawn around each, over the maps.
        save: the name of a file that the figure is to be written to as well (.png, .pdf, .svg); its folder is made.
        overlay: whether each image is seen, in grey, through its maps; or other images of that shape to be seen there
            (the whole photograph, say, where `images` holds faded copies of it).
        alt: the alternative text of the figure in a notebook; None for one that says what is beside what.
        low, high: the values of black and white in `images` (of one channel: of paper and ink), if not 0 and 1.

    Raises:
        ValueError: images, maps, titles or outlines that do not fit; the message says what to pass instead.
    """
    images = checked_images(images, low, high)
    maps = checked_maps(maps, images)
    n, titles = len(images), checked_titles(titles, len(images))
    under = checked_overlay(overlay, images, low, high)
    one_of("scale", scale, ("map", "method"))
    one_of("across", across, (None, "images", "methods"))
    masks = None if outlines is None else flat("outlines", outlines, images) > 0.5
    check_number_of_frames(n * (1 + len(maps)))
    across = across or ("images" if n > len(maps) + 1 else "methods")
    cells = [("input", images)] + list(maps.items())
    columns = even(n, COLUMNS) if across == "images" else len(cells)
    lines = -(-n // columns) * len(cells) if across == "images" else n
    is_signed = {name: bool(signed or (values < 0).any()) for name, values in maps.items()}
    notes = 0 if scale == "method" else 2 * (lines - (-(-n // columns) if across == "images" else 0))
    with drawing():
        figure, axes = grid(lines, columns, images.shape[1:3], len(set(is_signed.values())), notes=notes)
        for j, (name, values) in enumerate(cells):
            for i, value in enumerate(values):
                if across == "images":  # in blocks, one below the other, of the image and its maps
                    axis, head, side = axes[i // columns * len(cells) + j, i % columns], titles[i], name
                    is_top, is_left = j == 0, i % columns == 0
                else:
                    axis, head, side = axes[i, j], name, titles[i]
                    is_top, is_left = i == 0, j == 0
                if is_top:
                    axis.set_title(wrapped(head))
                if is_left:
                    axis.set_ylabel(wrapped(side), rotation=0, ha="right", va="center")
                if j == 0:
                    draw_image(axis, value)
                    continue
                limit = np.abs(value if scale == "map" else values).max() or 1
                draw_map(axis, value, limit, is_signed[name], None if under is None else under[i])
                if scale == "map":
                    write_numbers(axis, value)
                if masks is not None:
                    outline(axis, masks[i])
        for axis in axes.flat:
            axis.set_visible(bool(axis.images))
        colour_bars(figure, axes, set(is_signed.values()))
        show(figure, alt or _described(n, titles, maps, under is images), save)


def show_images(images, titles=None, columns=COLUMNS, *, alt=None, low=0, high=1):
    """Draw images `[n, height, width, channels]` in a grid, a title over each.

    Args:
        images, titles, alt, low, high: as of `show_attributions`.
        columns: the most images in a line.
    """
    images = checked_images(images, low, high)
    n, titles = len(images), checked_titles(titles, len(images))
    check_number_of_frames(n)
    with drawing():
        _, figure = _in_a_grid(images, titles, columns, 0, lambda axis, k: draw_image(axis, images[k]))
        show(figure, alt or _counted(n, "image", titles))


def show_maps(maps, titles=None, columns=COLUMNS, scale="map", *, alt=None):
    """Draw signed or positive maps in a grid, a title over each.

    Args:
        maps: `[n, height, width]`, or with channels, which are summed.
        titles: a word for each map, or None.
        columns: the most maps in a line.
        scale: "map": each by its own largest absolute value, which stands under it with its sum; "all": one scale.
        alt: the alternative text of the figure in a notebook.
    """
    maps = np.asarray(maps)
    one_of("scale", scale, ("map", "all"))
    if maps.ndim not in (3, 4) or not maps.size:
        raise ValueError(
            f"Expected maps [n, height, width, (channels)]. Received: shape {maps.shape}. Of one map R, pass R[None]."
        )
    maps = flat("maps", maps, np.empty((*maps.shape[:3], 1)))
    n, titles, signed = len(maps), checked_titles(titles, len(maps)), bool((maps < 0).any())
    check_number_of_frames(n)

    def draw(axis, k):
        draw_map(axis, maps[k], np.abs(maps[k] if scale == "map" else maps).max() or 1, signed)
        if scale == "map":
            write_numbers(axis, maps[k])

    with drawing():
        axes, figure = _in_a_grid(maps, titles, columns, 1, draw, 2 if scale == "map" else 0)
        colour_bars(figure, axes, {signed})
        show(figure, alt or _counted(n, "map", titles))


def _in_a_grid(pictures, titles, columns, bars, draw, notes=0):
    """Call `draw(axis, k)` for each picture, with its title."""
    if not (isinstance(columns, int) and columns >= 1):
        raise ValueError(f"columns must be an integer, 1 or more. Received: {columns!r}.")
    n = len(pictures)
    columns = even(n, columns)
    rows = -(-n // columns)
    titles = [wrapped(title) for title in titles]
    between = sum(max(title.count("\n") for title in titles[k : k + columns]) + 1 for k in range(columns, n, columns))
    figure, axes = grid(rows, columns, pictures.shape[1:3], bars, notes=notes * rows, titles=between if notes else 0)
    for k, axis in enumerate(axes.flat):
        axis.axis("off" if k >= n else "on")
        if k < n:
            draw(axis, k)
            axis.set_title(titles[k])
    return axes, figure


def _counted(n, word, titles):
    names = f": {listed(titles)}" if any(titles) else ""
    return f"{n} {word}{'' if n == 1 else 's'}{names}."


def _described(n, titles, maps, overlay):
    """What stands in a figure of `show_attributions`, for those who do not see it."""
    where = "seen through" if overlay else "beside"
    return f"{_counted(n, 'image', titles)[:-1]}, each {where} its maps by {listed(maps)}."
