"""Figures of a shortcut: what is drawn where, in which order, and what is refused."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from utils import plotting

RNG = np.random.default_rng(0)
WITH, WITHOUT = RNG.random((2, 3, 8, 8, 3))
MASKS = np.zeros((3, 8, 8), bool)
MASKS[:, 2:4, 5:7] = True
PAIRS = {"with": (WITH, ["horse", "horse", "horse"]), "without": (WITHOUT, ["dog", "cat", "ship"])}
MAPS = {"signed": RNG.standard_normal((3, 8, 8, 3)), "positive": RNG.random((3, 4, 4))}


def test_each_version_stands_over_what_is_read_in_it():
    plotting.show_readings(PAIRS, MAPS, MASKS, alt="readings")
    axes = np.reshape([axis for axis in plt.gcf().axes if axis.images and len(axis.images[0].get_array()) == 8], (3, 4))
    assert [axis.get_title() for axis in axes[0]] == ["with", "without", "signed", "positive"]
    for i, row in enumerate(axes):
        assert np.allclose(row[0].images[0].get_array(), WITH[i]) and row[0].get_xlabel() == "horse"
        assert np.allclose(row[1].images[0].get_array(), WITHOUT[i])
        assert row[1].get_xlabel() == ["dog", "cat", "ship"][i]
        limit = np.abs(MAPS["signed"][i].sum(-1)).max()
        assert np.allclose(row[2].images[0].get_clim(), (-limit, limit)) and row[3].images[0].get_clim()[0] == 0
        assert not row[0].collections and row[2].collections and row[3].collections  # outlines over maps only


@pytest.mark.parametrize(
    ("pairs", "masks", "words"),
    [
        ({"with": PAIRS["with"]}, MASKS, "two versions"),
        (PAIRS | {"without": (WITHOUT[:2], ["dog", "cat"])}, MASKS, "'without': 2"),
        (PAIRS | {"without": (WITHOUT, ["dog"])}, MASKS, "text for each of the 3"),
        (PAIRS, MASKS[:2], "masks"),
    ],
)
def test_readings_that_do_not_fit_are_refused(pairs, masks, words):
    with pytest.raises(ValueError, match=words):
        plotting.show_readings(pairs, MAPS, masks, alt="readings")
    assert not plt.get_fignums()


ROWS = {
    "low": {"mass": (0.1, 0.05, 0.2), "rank": (0.9, 0.8, 1.0)},
    "high": {"mass": (0.6, 0.5, 0.7), "rank": (0.2, 0.1, 0.3)},
}
CONTROL = {name: {"mass": (0.02, 0.01, 0.03), "rank": (0.03, 0.0, 0.1)} for name in ROWS}


def test_methods_are_ordered_by_the_first_table():
    for by, names in (("mass", ["low", "high"]), ("rank", ["high", "low"])):
        plotting.plot_finders({"hans": ROWS, "control": CONTROL}, ["mass", "rank"], 0.0156, by)
        mass, rank = plt.gcf().axes
        assert [label.get_text() for label in mass.get_yticklabels()] == names
        assert [axis.get_xlabel() for axis in (mass, rank)] == ["mass", "rank"]
        chance, *lines = mass.lines
        assert list(chance.get_xdata()) == [0.0156, 0.0156]
        drawn = [tuple(line.get_xdata()) for line in lines]
        expected = [row for table in (ROWS, CONTROL) for row in (table[name]["mass"] for name in names)]
        assert drawn == [ends for mean, *interval in expected for ends in (tuple(interval), (mean,))]
        plt.close("all")


@pytest.mark.parametrize(
    ("tables", "by"),
    [({"hans": ROWS, "control": {"low": CONTROL["low"]}}, "mass"), ({"hans": ROWS}, "IoU")],
)
def test_tables_that_do_not_fit_are_refused(tables, by):
    with pytest.raises(ValueError, match="same methods"):
        plotting.plot_finders(tables, ["mass", "rank"], 0.0156, by)
    assert not plt.get_fignums()
