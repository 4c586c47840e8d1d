"""Drawings of mechanisms, as a teacher makes them on the board: units, weights, messages, grids, stacks of layers.

    d = Drawing(4, 1.5)
    z, a = d.unit((0.6, 0.8), "$z$", value=-2), d.unit((3, 0.8), "$a$", value=0)
    d.arrow(z, a, "ReLU")
    d.show(alt="A ReLU turns -2 into 0.")

Places are in inches, from the lower left corner. What is positive is red and solid, what is negative blue and dashed,
what goes backward orange and dotted: told apart without colours too.
"""

import math
from collections import namedtuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle

from .style import COLOURS, SIGNED, drawing, show

INK, FAINT, OFF = "#222222", "#666666", "#E6E6E6"
POSITIVE_LINE, NEGATIVE_LINE, BACKWARD = "#B2182B", "#2166AC", COLOURS[1]
MARKED = "#FCE4A8"
SIZE, SMALL = 10, 9  # points
GAP = 0.05  # inches between a line and what it leads to, and between a line and its label


class Place(namedtuple("Place", "x y width height is_round")):
    """Where a unit, a block, a grid or a cell stands: its centre and its size, in inches. Arrows lead to it."""

    def edge(self, x, y):
        """The point, a little outside of it, where a line from its centre to (x, y) leaves it."""
        across, up = x - self.x, y - self.y
        length = math.hypot(across, up)
        if self.is_round:
            share = self.width / 2 / length
        else:
            share = min(half / abs(way) for half, way in ((self.width / 2, across), (self.height / 2, up)) if way)
        share += GAP / length if self.width else 0
        return self.x + share * across, self.y + share * up


class Grid(Place):
    """A grid of `rows` x `columns` cells; `cell(i, j)` is the place of one."""

    def __new__(cls, x, y, rows, columns, cell):
        place = super().__new__(cls, x, y, columns * cell, rows * cell, False)
        place.side = cell
        return place

    def cell(self, i, j):
        left, top = self.x - self.width / 2, self.y + self.height / 2
        return Place(left + (j + 0.5) * self.side, top - (i + 0.5) * self.side, self.side, self.side, False)


class Drawing:
    """An empty canvas of `width` x `height` inches; at 9 inches a notebook is filled.

    Each method draws one thing and returns its place, to which arrows lead. All raise a ValueError for what does not
    fit: beyond the canvas, text wider than what it stands in, text over other text; the figure is closed then.
    """

    def __init__(self, width, height):
        if not (0 < width <= 10 and 0 < height <= 10):
            raise ValueError(f"Expected a canvas of up to 10 x 10 inches. Received: {width!r} x {height!r}.")
        self.width, self.height, self._texts = width, height, []
        with drawing():
            self.figure = plt.figure(figsize=(width, height))
            self.axis = self.figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
        self.axis.set_axis_off()

    def unit(self, xy, text="", value=None, off=False, radius=0.27):
        """A circle with a text; `value` stands under it. `off`: a unit that a mask has switched off, grey."""
        place = self._placed(f"the unit {text!r}", Place(*xy, 2 * radius, 2 * radius, True))
        face, line = (OFF, ":") if off else ("white", "-")
        self.axis.add_patch(Circle(xy, radius, facecolor=face, edgecolor=INK, linewidth=1.3, linestyle=line))
        self._write(place.x, place.y, text, inside=place)
        if value is not None:
            self.text((place.x, place.y - radius - 0.13), number(value), SMALL, FAINT)
        return place

    def weight(self, a, b, value, text=None, at=0.5):
        """A line between two places, coloured by the sign of `value`, as thick as it is large; its label lies on it.

        Args:
            text: the label, if not `value`; "" for none.
            at: how far from `a` to `b` the label stands, from 0 to 1.
        """
        x, y = self._line(a, b, value, has_head=False)
        label = number(value) if text is None else text
        place = [start + at * (end - start) for start, end in (x, y)]
        self._write(*place, label, SMALL, background="white")

    def arrow(self, a, b, text="", value=None, backward=False, shift=0.0):
        """A message from `a` to `b`, places or points (x, y), with its label beside it.

        Args:
            value: colours the arrow by its sign and makes it as thick as it is large; None: an arrow of no sign.
            backward: whether it goes back through the network.
            shift: how far it lies to the left of its way, in inches, so that two arrows find room; negative: to the
                right. The label is on that side; above, or to the right, if it is 0.
        """
        x, y = self._line(a, b, value, backward, shift)
        if not text:
            return
        length = math.hypot(x[1] - x[0], y[1] - y[0])
        left = (y[0] - y[1]) / length, (x[1] - x[0]) / length
        if shift < 0 or not shift and (left[1] < -1e-9 or abs(left[1]) <= 1e-9 and left[0] < 0):
            left = -left[0], -left[1]
        half = [size / 2 for size in self._measured(text, SMALL)]
        away = GAP + abs(left[0]) * half[0] + abs(left[1]) * half[1]
        colour = self._colour(value, backward)
        self._write(sum(x) / 2 + away * left[0], sum(y) / 2 + away * left[1], text, SMALL, colour)

    def grid(self, values, xy, title="", cell=0.42, mark=None, signed=False):
        """A small table of numbers or texts `[rows, columns]`: a kernel, a mask, the inputs of a pooling.

        Args:
            values: numbers, texts, or a mask of True (1, white) and False (0, grey).
            xy: the centre.
            title: a text above it.
            cell: the side of a cell, in inches.
            mark: a mask `[rows, columns]` of cells to be set off, the switches of a pooling, say.
            signed: whether the cells are coloured as a signed map is.
        """
        values = np.asarray(values)
        if values.ndim != 2 or not values.size:
            raise self._refusal(f"A grid has rows and columns. Received: shape {values.shape}. Pass x[None] of a row.")
        marked = np.zeros(values.shape, bool) if mark is None else np.asarray(mark)
        if marked.shape != values.shape or marked.dtype != bool:
            raise self._refusal(
                f"mark must be a mask of the shape of the values. Received: {marked.dtype} {marked.shape}. "
                f"Expected: bool {values.shape}."
            )
        if signed and not (values.dtype.kind in "iuf" and np.isfinite(values).all()):
            raise self._refusal(f"The colours of a signed grid are those of finite numbers. Received: {values.dtype}.")
        place = self._placed(f"the grid {title!r}", Grid(*xy, *values.shape, cell))
        limit = 2.2 * np.abs(values).max() or 1 if signed else None  # lighter than a map: numbers stand on it
        for (i, j), value in np.ndenumerate(values):
            one, is_off = place.cell(i, j), values.dtype == bool and not value
            face = SIGNED(0.5 + 0.5 * value / limit) if signed else OFF if is_off else "white"
            corner = one.x - cell / 2, one.y - cell / 2
            style = {"facecolor": MARKED, "linewidth": 2.2, "zorder": 2} if marked[i, j] else {"facecolor": face}
            self.axis.add_patch(Rectangle(corner, cell, cell, **{"edgecolor": INK, "linewidth": 0.8} | style))
            self._write(one.x, one.y, number(value), SIZE, FAINT if is_off else INK, one)
        if title:
            self.text((place.x, place.y + place.height / 2 + 0.15), title)
        return place

    def block(self, xy, text, below="", size=(0.9, 0.6), times=1, colour="white"):
        """A layer of a network: a box with its name, upright where it would not fit, and its shape under it.

        Args:
            size: width and height in inches, of each.
            times: how many of them stand side by side.
            colour: of its edge; its face is a light tint of it. White: an edge in ink.
        """
        pitch = size[0] + 0.06
        place = self._placed(f"the block {text!r}", Place(*xy, times * pitch - 0.06, size[1], False))
        face = [1 - 0.2 * (1 - channel) for channel in to_rgb(colour)]
        edge = INK if face == [1, 1, 1] else colour
        for k in range(times):
            one = Place(place.x + (k - (times - 1) / 2) * pitch, place.y, *size, False)
            corner = one.x - size[0] / 2 + 0.04, one.y - size[1] / 2 + 0.04
            box = FancyBboxPatch(corner, size[0] - 0.08, size[1] - 0.08, "round,pad=0.04")
            box.set(facecolor=face, edgecolor=edge, linewidth=1.3)
            self.axis.add_patch(box)
            upright = self._measured(text, SIZE)[0] > size[0] - 0.04 and size[1] > size[0]
            self._write(one.x, one.y, text, inside=one, rotation=90 if upright else 0)
        if below:
            lines = below.count("\n") + 1
            self.text((place.x, place.y - size[1] / 2 - 0.04 - 0.08 * lines), below, SMALL, FAINT)
        return place

    def text(self, xy, text, size=SIZE, colour=INK):
        """A text, centred at `xy`, of 9 points or more."""
        if size < SMALL:
            raise self._refusal(f"Text is read from {SMALL} points. Received: {size} for {text!r}.")
        self._write(*xy, text, size, colour)

    def show(self, alt, save=None):
        """Show the drawing, with `alt` as its alternative text, and write it to the file `save`, if any."""
        if not isinstance(alt, str) or not alt.strip():
            raise self._refusal(f"alt says what is drawn to readers who cannot see it. Received: {alt!r}.")
        with drawing():
            show(self.figure, alt, save)

    # --- what the methods share

    def _line(self, a, b, value, backward=False, shift=0.0, has_head=True):
        """Draw a line or an arrow from the edge of `a` to the edge of `b`; return its ends, x and y."""
        a, b = (place if isinstance(place, Place) else Place(*place, 0, 0, True) for place in (a, b))
        if value is not None and not math.isfinite(value):
            raise self._refusal(f"A line is drawn by the sign and size of a number. Received: {value!r}.")
        length = math.hypot(b.x - a.x, b.y - a.y)
        if not length:
            raise self._refusal(f"A line leads from one place to another. Received: twice ({a.x}, {a.y}).")
        aside = shift * (a.y - b.y) / length, shift * (b.x - a.x) / length
        ends = [(x + aside[0], y + aside[1]) for x, y in (a.edge(b.x, b.y), b.edge(a.x, a.y))]
        for x, y in ends:
            self._placed("the end of a line", Place(x, y, 0, 0, True))
        width = (1.7 if backward else 1.3) if value is None else 0.8 + min(abs(value), 4)
        dashes = (0, (2, 1)) if backward else (0, (4, 2)) if value is not None and value < 0 else "-"
        neck = tuple(end - 0.1 * way / length for end, way in zip(ends[1], (b.x - a.x, b.y - a.y)))
        parts = [(ends[0], neck, "-", dashes), (neck, ends[1], "-|>", "-")] if has_head else [(*ends, "-", dashes)]
        for start, end, style, dash in parts:  # a head is not dashed
            line = FancyArrowPatch(start, end, arrowstyle=style, mutation_scale=11, shrinkA=0, shrinkB=0, zorder=0.9)
            line.set(color=self._colour(value, backward), linewidth=width, linestyle=dash, capstyle="butt")
            self.axis.add_patch(line)
        return tuple(zip(*ends))

    def _colour(self, value, backward):
        if value:
            return POSITIVE_LINE if value > 0 else NEGATIVE_LINE
        return BACKWARD if backward else INK

    def _measured(self, text, size, **style):
        """Width and height of a text, in inches."""
        words = self.figure.text(0, 0, text, fontsize=size, **style)
        box = words.get_window_extent(self.figure.canvas.get_renderer())
        words.remove()
        return box.width / self.figure.dpi, box.height / self.figure.dpi

    def _write(self, x, y, text, size=SIZE, colour=INK, inside=None, background="none", **style):
        if not text:
            return
        words = Place(x, y, *self._measured(text, size, **style), False)
        self._placed(f"the text {text!r}", words)
        if inside is not None and (words.width > inside.width - GAP or words.height > inside.height):
            raise self._refusal(
                f"The text {text!r} does not fit. Received: {words.width:.2f} x {words.height:.2f} inches, in a place "
                f"of {inside.width:.2f} x {inside.height:.2f}. Make the place larger, or the text shorter."
            )
        for other, their in self._texts:
            apart = (
                abs(their.x - x) - (their.width + words.width) / 2,
                abs(their.y - y) - (their.height + words.height) / 2,
            )
            if max(apart) < -0.01:
                raise self._refusal(
                    f"The text {text!r} runs into {other!r}. Received: around ({x:.2f}, {y:.2f}) and "
                    f"({their.x:.2f}, {their.y:.2f}). Move one of them (weight: at=, arrow: shift=), or shorten it."
                )
        self._texts.append((text, words))
        box = {"facecolor": background, "edgecolor": "none", "pad": 1}
        self.axis.text(x, y, text, fontsize=size, color=colour, ha="center", va="center", bbox=box, **style)

    def _placed(self, what, place):
        """The place itself, if it lies on the canvas."""
        ends = [(place.x - place.width / 2, place.x + place.width / 2, self.width)]
        ends += [(place.y - place.height / 2, place.y + place.height / 2, self.height)]
        if any(low < -1e-9 or high > most + 1e-9 for low, high, most in ends):
            across, up = (f"{low:.2f} to {high:.2f}" for low, high, _ in ends)
            raise self._refusal(
                f"{what} would be drawn off the canvas. Received: x from {across}, y from {up}. "
                f"Expected: within {self.width} x {self.height} inches."
            )
        return place

    def _refusal(self, message):
        """The error to be raised; a figure that is refused is not left open."""
        plt.close(self.figure)
        return ValueError(message[0].upper() + message[1:])


def number(value):
    """A number or a text as it is written in a drawing, with a typographic minus."""
    if isinstance(value, str):
        return value
    return f"{value:g}".replace("-", "\N{MINUS SIGN}")
