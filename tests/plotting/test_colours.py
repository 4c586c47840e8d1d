"""Colours that colour-blind readers tell apart, and that say how much in grey, too.

The three deficiencies are simulated with the matrices of Machado, Oliveira and Fernandes (2009,
doi:10.1109/TVCG.2009.113) at full severity, on linear RGB; differences are CIEDE2000, of which 2 can just be seen.
"""

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from skimage.color import deltaE_ciede2000, rgb2lab

from utils.plotting import COLOURS, LINES, POSITIVE, SIGNED

DEFICIENCIES = {
    "none": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
each = pytest.mark.parametrize("matrix", DEFICIENCIES.values(), ids=list(DEFICIENCIES))


def seen(colours, matrix):
    """sRGB colours `[k, 3]` as the eye of that deficiency has them, in CIELAB."""
    colours = np.asarray(colours, float)[:, :3]
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ np.asarray(matrix).T, 0, 1)
    return rgb2lab(np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055))


@each
def test_neighbouring_colours_of_curves_are_told_apart(matrix):
    colours = seen([to_rgb(colour) for colour in COLOURS], matrix)
    assert deltaE_ciede2000(colours[:-1], colours[1:]).min() > 12
    every = [deltaE_ciede2000(a, b) for i, a in enumerate(colours) for b in colours[:i]]
    assert min(every) > 5  # any two; and each has a line style of its own
    assert len(set(map(str, LINES))) == len(LINES) >= len(COLOURS)


@each
def test_the_signs_of_a_map_are_told_apart(matrix):
    strength = np.linspace(0.15, 1, 30)
    against, pro = (seen(SIGNED(0.5 + sign * strength / 2), matrix) for sign in (-1, 1))
    assert deltaE_ciede2000(against, pro).min() > 10


@each
@pytest.mark.parametrize("colours", [POSITIVE, SIGNED], ids=["positive", "signed"])
def test_more_is_darker_also_in_grey(matrix, colours):
    strength = np.linspace(0, 1, 60)
    for values in [strength] if colours is POSITIVE else [0.5 + strength / 2, 0.5 - strength / 2]:
        lightness = seen(colours(values), matrix)[:, 0]
        assert lightness[0] > 99 and (np.diff(lightness) < 0.05).all()
        assert lightness[-1] < 45  # a wide range
        steps = np.diff(lightness[::10])
        assert (steps < -1).all()  # no step of a sixth is lost


def test_a_rainbow_fails():
    from matplotlib import colormaps

    lightness = seen(colormaps["jet"](np.linspace(0, 1, 60)), np.eye(3))[:, 0]
    assert (np.diff(lightness) > 0).any() and (np.diff(lightness) < 0).any()
    red, green = seen([[0.85, 0.1, 0.1], [0.4, 0.45, 0.0]], DEFICIENCIES["deuteranopia"])
    assert deltaE_ciede2000(red, green) < 12
