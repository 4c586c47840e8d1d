"""A trace as a table: which layer, which parts, which rule, and how much of the relevance goes on."""

import html
import typing

import numpy as np
import tensorflow as tf


class Row(typing.NamedTuple):
    """A part of the network; rows go from the output down to the input."""

    layer: str  # its name; with the names of layers that have been merged with it
    type: str  # that of the layer
    part: str  # the kind of part
    rule: str  # "gradient" for None
    shapes: str  # of its inputs -> of its output, without the batch
    goes_on: float  # of the relevance that came, the share that its inputs get, summed over the images


class Description(list):
    """Rows that print as text, and show as a table in a notebook."""

    TITLES = ("layer", "type", "part", "rule", "shapes", "goes on")

    def _cells(self):
        return [(*row[:-1], "-" if np.isnan(row.goes_on) else f"{row.goes_on:.1%}") for row in self]

    def __str__(self):
        cells = [self.TITLES, *self._cells()]
        widths = [max(map(len, column)) for column in zip(*cells)]
        lines = ["  ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip() for line in cells]
        return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])

    __repr__ = __str__

    def _repr_html_(self):
        def line(tag, cells):
            inside = "".join(f'<{tag} style="text-align:left">{html.escape(cell)}</{tag}>' for cell in cells)
            return f"<tr>{inside}</tr>"

        body = "".join(line("td", cells) for cells in self._cells())
        return f"<table><thead>{line('th', self.TITLES)}</thead><tbody>{body}</tbody></table>"


def description(trace, target=None):
    """The table of a `Trace`, relevance beginning as the score of `target`; see `Trace.describe`."""
    scores = trace.scores
    target = (
        tf.argmax(scores, -1) if target is None else tf.broadcast_to(tf.constant(target, "int64"), scores.shape[:1])
    )
    start = tf.one_hot(target, scores.shape[-1], dtype=scores.dtype) * scores
    return Description(_row(passage) for passage in trace.back(start))


def _row(passage):
    step = passage.step
    part, came = step.part, float(np.sum(passage.incoming, dtype="float64"))
    went = sum(float(np.sum(lower, dtype="float64")) for lower in passage.lower if lower is not None)
    shapes = " + ".join(_shape(x) for x in step.inputs) + " -> " + _shape(step.output)
    return Row(
        " + ".join(dict.fromkeys(layer.name for layer in (part.layer, *part.merged))),
        type(part.layer).__name__,
        type(part).__name__,
        "gradient" if step.rule is None else repr(step.rule),
        shapes,
        went / came if came else float("nan"),
    )


def _shape(tensor):
    return " x ".join(str(size) for size in tensor.shape[1:])
