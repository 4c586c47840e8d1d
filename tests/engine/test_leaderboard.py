"""The table of all methods: it belongs to the networks and methods that are here, and its cells to their values."""

import json
import sys

import numpy as np
import pytest

from tests.helpers import ROOT

sys.path.insert(0, str(ROOT / "tools"))

import leaderboard  # noqa: E402


@pytest.fixture(scope="module")
def stored():
    with np.load(leaderboard.TARGET.with_suffix(".npz")) as arrays:
        return json.loads(leaderboard.TARGET.read_text()), dict(arrays)


def test_the_table_is_of_these_networks_methods_and_images(stored):
    table, values = stored
    assert all(table[key] == leaderboard.settings()[key] for key in ("networks", "images"))
    assert list(table["rows"]) == values["rows"].tolist() == leaderboard.NAMES
    assert table["measures"] == leaderboard.MEASURES and set(values) == {"rows", *leaderboard.MEASURES}


@pytest.mark.parametrize("name", ["random", "integrated gradients", "class activation map", "guided Grad-CAM"])
def test_cells_are_made_of_the_values(name, stored):
    table, values = stored
    for measure, cell in table["rows"][name]["measures"].items():
        row = values[measure][leaderboard.NAMES.index(name)]
        assert cell[3] == np.isnan(row).sum()
        if cell[0] is None:
            assert np.isnan(row).all()
        else:
            assert cell[1] <= cell[0] <= cell[2] and np.isclose(cell[0], np.nanmean(row), rtol=1e-4, atol=1e-4)


def test_curves_begin_together_and_their_areas_are_the_cells(stored):
    table, _ = stored
    curves = {name: row["curves"]["zero"] for name, row in table["rows"].items() if "zero" in row["curves"]}
    assert len(curves) == len(leaderboard.NAMES) - 1 and len({curve[0][0] for curve in curves.values()}) == 1
    for name, curve in curves.items():
        area = np.trapezoid([step[0] for step in curve]) / (len(curve) - 1)
        assert abs(area - table["rows"][name]["measures"]["pixel flipping, zero"][0]) < 2e-3


def test_a_row_is_made_again_from_few_images(monkeypatch):
    """The control that costs least, all of the way."""
    counts = {"digits": 3, "digits inpainted": 2, "digits, several maps each": 2, "scenes": 2}
    monkeypatch.setattr(leaderboard, "COUNTS", leaderboard.COUNTS | counts | {"marked horses": 1, "photographs": 1})
    leaderboard.images.cache_clear()
    try:
        found = leaderboard.measured("distance from the baseline")
    except SystemExit:
        pytest.skip("needs the test images of MNIST and CIFAR-10")
    finally:
        leaderboard.images.cache_clear()
    assert set(leaderboard.MEASURES) < set(found)
    assert (found["randomized network"] == 1).all() and (found["other class"] == 1).all()  # it knows no network
    assert leaderboard.summary(np.array([1, np.nan, 3])) == [2, 1, 3, 1]
