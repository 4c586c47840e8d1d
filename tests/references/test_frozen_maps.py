"""The maps of all methods are those that generate_maps.py stored, in all digits of float32."""

import functools
from pathlib import Path

import numpy as np
import pytest

from tests.references import frozen

network = functools.cache(frozen.network)


@pytest.fixture(scope="module")
def stored():
    with np.load(Path(__file__).parent / "maps.npz") as file:
        return dict(file)


@pytest.mark.parametrize("call", frozen.calls())
@pytest.mark.parametrize("name", frozen.NETWORKS)
def test_maps_are_as_they_were(name, call, stored):
    expected, R = stored[f"{name}/{call}"], frozen.calls()[call](network(name))
    assert R.shape == expected.shape and R.dtype == "float64"
    assert np.abs(expected).max() > 0
    assert np.abs(R - expected).max() <= 1e-6 * np.abs(expected).max()


def test_every_method_is_stored(stored):
    assert set(stored) == {f"{name}/{call}" for name in frozen.NETWORKS for call in frozen.calls()}
