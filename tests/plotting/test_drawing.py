"""Sketches of mechanisms are drawn as they are meant, and what would not be read is refused."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.patches import Circle, FancyArrowPatch, Rectangle

from utils.plotting import Drawing, drawing


def test_a_relu_and_its_mask(tmp_path):
    d = Drawing(6.6, 2.3)
    x1, x2 = d.unit((0.5, 1.75), "$x_1$", 2), d.unit((0.5, 0.7), "$x_2$", 3)
    z, a, f = d.unit((2.4, 1.3), "$z$", -1), d.unit((4.1, 1.3), "$a$", 0, off=True), d.unit((5.9, 1.3), "$f$", 0)
    d.weight(x1, z, 1)
    d.weight(x2, z, -1)
    d.arrow(z, a, "ReLU", shift=0.1)
    d.arrow(a, f, "$w = 2$", shift=0.1)
    d.arrow(f, a, "2", backward=True, shift=0.1)
    d.arrow(a, z, "mask 0", backward=True, shift=0.1)
    d.show("A ReLU whose input is negative", save=tmp_path / "relu.png")
    assert plt.imread(tmp_path / "relu.png").shape[:2] == (230, 660)
    circles = [patch for patch in d.axis.patches if isinstance(patch, Circle)]
    assert [circle.get_facecolor()[0] < 1 for circle in circles] == [False, False, False, True, False]
    colours = {text.get_text(): text.get_color() for text in d.axis.texts}
    assert colours["ReLU"] == colours["$w = 2$"] == drawing.INK and colours["mask 0"] == drawing.BACKWARD
    assert {"\N{MINUS SIGN}1", "1", "$z$"} <= set(colours)
    heights = {text.get_text(): text.get_position()[1] for text in d.axis.texts}
    assert heights["ReLU"] > 1.4 > 1.2 > heights["mask 0"]  # on the two sides of the line between the centres


def test_a_pooling_and_its_switches():
    x = np.array([[1, 3, 0, 2], [0, 2, 4, 1], [5, 1, 0, 0], [2, 0, 1, 6]])
    most = np.array([[3, 4], [5, 6]])
    switches = x == most.repeat(2, 0).repeat(2, 1)
    d = Drawing(8.2, 2.3)
    inputs = d.grid(x, (1, 1.1), "inputs and switches", mark=switches)
    outputs = d.grid(most, (3.1, 1.1), "outputs", cell=0.46)
    relevance = d.grid([[0.2, -0.1], [0.4, 0.5]], (5, 1.1), "relevance of outputs", cell=0.46, signed=True)
    back = d.grid(np.where(switches, 0.1, 0), (7.2, 1.1), "relevance of inputs", mark=switches)
    d.arrow(inputs, outputs, "max")
    d.arrow(relevance, back, "switches", backward=True)
    d.show("A pooling")
    cells = [patch for patch in d.axis.patches if isinstance(patch, Rectangle)]
    assert len(cells) == 16 + 4 + 4 + 16
    thick = np.array([cell.get_linewidth() > 2 for cell in cells[:16]]).reshape(4, 4)
    assert np.array_equal(thick, switches)
    red, blue = cells[20].get_facecolor(), cells[21].get_facecolor()
    assert red[0] > red[2] and blue[2] > blue[0]
    assert [text.get_text() for text in d.axis.texts[:4]] == ["1", "3", "0", "2"]  # the first row is on top
    first, last = inputs.cell(0, 0), inputs.cell(3, 3)
    assert (first.x, first.y) == pytest.approx((0.37, 1.73)) and (last.x, last.y) == pytest.approx((1.63, 0.47))


def test_lines_end_at_the_edges_and_say_their_sign_without_colours():
    d = Drawing(5, 3)
    a, b = d.unit((1, 1), "a", radius=0.3), d.block((4, 2), "b", "28×28", (0.8, 0.6))
    d.weight(a, b, -2.5, "")
    d.weight(a, (4, 0.5), 0.5, "")
    lines = [patch for patch in d.axis.patches if isinstance(patch, FancyArrowPatch)]
    (start, end), _ = (line._posA_posB for line in lines)
    assert np.hypot(*np.subtract(start, (1, 1))) == pytest.approx(0.3 + drawing.GAP)
    assert end[0] < 3.6 and np.hypot(*np.subtract(end, (3.6, 2 - 0.4 / 3))) == pytest.approx(drawing.GAP)
    assert lines[0].get_linestyle() != lines[1].get_linestyle() and lines[0].get_linewidth() > lines[1].get_linewidth()
    assert lines[0].get_edgecolor() != lines[1].get_edgecolor()


@pytest.mark.parametrize(
    ("way", "side"), [((4, 1.5), "above"), ((-4, -1.5), "above"), ((0, 2), "right"), ((0, -2), "right")]
)
@pytest.mark.parametrize("shift", [0, 0.1, -0.1])
def test_the_label_of_an_arrow_stands_beside_it(way, side, shift):
    d = Drawing(10, 10)
    start, end = np.array([5, 5]), 5 + np.array(way)
    d.arrow(start, end, "a long label", shift=shift)
    across = np.array([-way[1], way[0]]) / np.hypot(*way)  # to the left of the way
    centre = np.array(d.axis.texts[0].get_position()) - (start + end) / 2 - shift * across
    if shift:
        assert centre @ across * shift > 0
    else:
        assert centre[1 if side == "above" else 0] > 0
    width, height = d._measured("a long label", 9)
    assert abs(centre @ across) >= np.abs(across) @ [width / 2, height / 2]  # no corner of it touches the line


def test_layers_stand_side_by_side_with_upright_names():
    d = Drawing(4, 2)
    three = d.block((2, 1), "conv 3×3", "28×28×8", (0.3, 1.2), times=3, colour="#0072B2")
    assert three.width == pytest.approx(3 * 0.3 + 2 * 0.06) and len(d.axis.patches) == 3
    assert [text.get_rotation() for text in d.axis.texts] == [90, 90, 90, 0]
    d.arrow((0.2, 1), three)
    d.show("Three convolutions")


REFUSED = [
    (lambda d: d.unit((0.1, 1), "a"), "The unit 'a' would be drawn off the canvas. Received: x from -0.17 to 0.37"),
    (lambda d: d.unit((1, 0.3), "a", value=3), "The text '3' would be drawn off the canvas"),
    (lambda d: d.grid(np.eye(3), (1, 1.8), "I"), "The grid 'I' would be drawn off the canvas"),
    (lambda d: d.block((2.8, 1), "a"), "The block 'a' would be drawn off the canvas"),
    (lambda d: d.arrow((1, 1), (3.2, 1)), "The end of a line would be drawn off the canvas. Received: x from 3.20"),
    (lambda d: d.arrow((1, 1), (2, 1), shift=1.2), "The end of a line would be drawn off the canvas"),
    (lambda d: d.text((2.9, 1), "words"), "The text 'words' would be drawn off the canvas"),
    (lambda d: d.unit((1, 1), "too many words"), "The text 'too many words' does not fit"),
    (lambda d: d.grid([[123456.0]], (1, 1)), "The text '123456' does not fit"),
    (lambda d: [d.text((1, 1), "one"), d.text((1.1, 1), "other")], "The text 'other' runs into 'one'"),
    (lambda d: d.text((1, 1), "small", 7), "Text is read from 9 points. Received: 7"),
    (lambda d: d.arrow((1, 1), (1, 1)), "Received: twice"),
    (lambda d: d.weight((1, 1), (2, 1), float("nan")), "the sign and size of a number. Received: nan"),
    (lambda d: d.grid([1, 2], (1, 1)), "Received: shape \\(2,\\). Pass x\\[None\\]"),
    (lambda d: d.grid([[1, 2]], (1, 1), mark=[[1, 0]]), "Expected: bool \\(1, 2\\)"),
    (lambda d: d.grid([[1, np.inf]], (1, 1), signed=True), "those of finite numbers"),
    (lambda d: d.grid([["a"]], (1, 1), signed=True), "those of finite numbers. Received: <U1"),
    (lambda d: d.show(" "), "Alt says what is drawn .* Received: ' '"),
]


@pytest.mark.parametrize(("draw", "words"), REFUSED)
def test_what_would_not_be_read_is_refused_and_not_left_open(draw, words):
    d = Drawing(3, 2)
    with pytest.raises(ValueError, match=words):
        draw(d)
    assert not plt.get_fignums()


def test_a_canvas_that_no_notebook_holds():
    with pytest.raises(ValueError, match="up to 10 x 10 inches. Received: 20 x 3"):
        Drawing(20, 3)
