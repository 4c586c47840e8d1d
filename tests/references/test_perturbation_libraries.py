"""Occlusion against captum, and RISE against its authors' formula: values that generate_perturbation.py stored.

Occlusion is defined alike, also where the last window is cut off at the edge. So is the map of RISE; its masks differ
in one thing. Beyond the middles of the outermost cells the authors' enlargement reflects the grid (scikit-image, mode
"reflect"), so that values go back to those of the next cell; ours are held (mode "edge"), as those of an image that is
enlarged. `test_the_masks` shows that there is no other difference, `test_the_authors_edges` how little it changes.
"""

import functools
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.helpers import deviation
from tests.references.networks import NETWORKS, reference_network, references
from utils.attributions import occlusion, rise
from utils.perturbation import random_masks

each_network = pytest.mark.parametrize("name", NETWORKS)


@functools.cache
def stored():
    with np.load(Path(__file__).parent / "perturbation.npz") as file:
        return dict(file)


@functools.cache
def with_softmax(name):
    logits = reference_network(name)
    return keras.Model(logits.inputs[0], keras.layers.Softmax(dtype="float64")(logits.outputs[0]))


def settings():
    masks, cells, p, seed = (stored()[key].item() for key in ("masks", "cells", "p", "seed"))
    return {"masks": masks, "cells": cells, "p": p, "seed": seed}


@each_network
@pytest.mark.parametrize("start", ["zero", "image"])
@pytest.mark.parametrize("windows", ["even", "overlap", "cut", "pixels"])
def test_occlusion(name, start, windows):
    x, target = references()["inputs"], references()["targets"]
    baseline = {"zero": None, "image": references()["baseline"]}[start]
    window, stride = stored()[f"windows/{windows}"]
    expected = stored()[f"{name}/occlusion/{windows}/{start}"]
    assert deviation(occlusion(reference_network(name), x, target, window, stride, baseline), expected) < 1e-10
    if len({*window, *stride}) == 1:  # one number says it all
        R = occlusion(reference_network(name), x, target, window[0], stride[0], baseline, batch_size=3)
        assert deviation(R, expected) < 1e-10


@each_network
def test_rise(name):
    how = {"explain": "output"} | settings()
    R = rise(with_softmax(name), references()["inputs"], references()["targets"], **how)
    assert deviation(R, np.repeat(stored()[f"{name}/rise/edge"][..., None], 2, -1)) < 1e-10


def test_the_masks():
    size, how = references()["inputs"].shape[1:3], settings()
    ours = random_masks(size, how["cells"], how["p"], how["seed"])(how["masks"])
    assert deviation(ours, stored()["masks/edge"]) < 1e-10
    theirs, cell = stored()["masks/reflect"], -(-size[0] // how["cells"])
    # the middle of the outermost cells lies `held` pixels from the edge of the enlarged grid
    large = (how["cells"] + 1) * cell
    held = int(np.ceil(large / how["cells"] / 2 - 0.5))
    shift = (np.random.default_rng(how["seed"]).random((how["masks"], 2 + how["cells"] ** 2))[:, :2] * cell).astype(int)
    place = shift[..., None] + np.arange(size[0])  # [masks, axes, pixels]
    inside = (held <= place) & (place < large - held)
    inside = inside[:, 0, :, None] & inside[:, 1, None]
    assert 0.5 < inside.mean() < 1
    assert np.abs(ours - theirs)[inside].max() < 1e-10 < 0.1 < np.abs(ours - theirs)[~inside].max()


@each_network
def test_the_authors_edges(name):
    how = {"explain": "output", "return_standard_error": True} | settings()
    R, error = rise(with_softmax(name), references()["inputs"], references()["targets"], **how)
    difference = np.abs(stored()[f"{name}/rise/reflect"] - R[..., 0])
    assert 1e-3 * error.mean() < difference.max() < 2 * error.max()
