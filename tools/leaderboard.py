"""Measure every method by every measure: `python tools/leaderboard.py`.

For each row of `tools/methods.py` and each measure of `MEASURES` one value an image: `assets/leaderboard.npz` holds
them, `[rows, images]`, `assets/leaderboard.json` their means with 95 % intervals (bootstraps over images), how many
images have no value, and the curves of pixel flipping. Takes about 40 minutes on two cores. A run that was stopped goes
on with the row it was at: what is finished lies in `build/leaderboard`, and is made again after a change of the
settings or of the networks.
"""

import argparse
import hashlib
import json
import os
import pathlib
import sys
import time
import warnings

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import utils  # noqa: F401  (first: it starts TensorFlow without its log lines)

# isort: split
import functools

import keras
import numpy as np
from methods import UNDEFINED, rows
from tables import write_table

from models import load_model, model_card
from models.architectures import CIFAR10_MEAN
from utils import quality
from utils.data import cifar10_with_marks, cluttered_digits, load_cifar10, load_mnist
from utils.perturbation import occlusion

TARGET, KEPT = ROOT / "assets" / "leaderboard.json", ROOT / "build" / "leaderboard"
HORSE = 7
COUNTS = {
    "digits": 1000,
    "digits inpainted": 200,
    "digits, several maps each": 50,
    "scenes": 100,
    "marked horses": 40,
    "photographs": 40,
    "seeds of a randomized network": 2,
}
# measure -> whether more or less of it is better
MEASURES = {
    "relevance mass, scenes": "more",
    "pointing game, mark": "more",
    "pixel flipping, zero": "less",
    "pixel flipping, blur": "less",
    "pixel flipping, inpaint": "less",
    "insertion, blur": "more",
    "pixel flipping, photographs": "less",
    "continuity": "less",
    "continuity, unit mass": "less",
    "randomized network": "less",
    "randomized network, photographs": "less",
    "other class": "less",
    "sums to the score": "more",
}
FILLS = {"zero": 0.0, "blur": "blur", "inpaint": "inpaint"}
WITHIN = 0.05  # of the score: a map that sums to the score within that is complete

DIGITS, PHOTOGRAPHS, SCENES = "mnist_cnn_max", "cifar10_allcnn", "cluttered_cnn"
MARKED = "cifar10_hans"
ON_DIGITS, ON_PHOTOGRAPHS = rows("conv3"), rows("conv6", CIFAR10_MEAN)
# on scenes, of 60 x 60 pixels, larger windows, or there would be 841
ON_SCENES = rows("conv5") | {"occlusion": ("perturbation", functools.partial(occlusion, window=8, stride=4))}
NAMES = list(ON_DIGITS)


@functools.cache
def images(what):
    """Images and the classes they are explained for, or with them masks."""
    (_, _), (x, y) = load_mnist() if what in ("digits", "scenes") else load_cifar10()
    if len(x) != 10_000:
        raise SystemExit("The table is of the test images of MNIST and CIFAR-10, which are not within reach.")
    if what == "scenes":
        return cluttered_digits(x, y, COUNTS["scenes"], seed=1)
    if what == "marked horses":
        horses = np.flatnonzero(y == HORSE)[: COUNTS[what]]
        marked, labels, masks = cifar10_with_marks(x, y, HORSE, share=1)
        return marked[horses], labels[horses], masks[horses]
    return x[: COUNTS[what]], y[: COUNTS[what]]


@functools.cache
def randomized(name):
    """The network with all weights drawn anew, once for each seed."""
    model = load_model(name)
    layers = [
        layer.name for layer in model.layers if layer.weights and not isinstance(layer, keras.layers.Normalization)
    ]
    return [quality.randomized(model, layers, seed) for seed in range(COUNTS["seeds of a randomized network"])]


def measured(name):
    """Of one row: measure -> values `[n]`, and "curve, FILL" -> mean and interval of the scores `[steps + 1, 3]`."""
    found = {}

    def method(model, x, y):
        table = {SCENES: ON_SCENES, DIGITS: ON_DIGITS}.get(model.name, ON_PHOTOGRAPHS)
        return np.asarray(table[name][1](model, x, y))

    x, y, masks = images("scenes")
    found["relevance mass, scenes"] = quality.relevance_mass(method(load_model(SCENES), x, y), masks)

    x, y, masks = images("marked horses")
    found["pointing game, mark"] = quality.pointing_game(method(load_model(MARKED), x, y), masks)

    x, y = images("photographs")
    model = load_model(PHOTOGRAPHS)
    maps = method(model, x, y)
    scores = quality.pixel_flipping(model, x, maps, y, fill=CIFAR10_MEAN)
    found["pixel flipping, photographs"] = quality.area_under_curve(scores)
    found["randomized network, photographs"] = unchanged(maps, method, PHOTOGRAPHS, x, y)

    x, y = images("digits")
    if name != UNDEFINED:
        on_digits(found, method, load_model(DIGITS), x, y)
    return {key: np.asarray(values, "float64") for key, values in found.items()}


def on_digits(found, method, model, x, y):
    """Add to `found` what is measured on digits."""
    maps = method(model, x, y)
    for fill in FILLS:
        some = slice(COUNTS["digits inpainted"] if fill == "inpaint" else None)
        scores = quality.pixel_flipping(model, x[some], maps[some], y[some], fill=FILLS[fill])
        found[f"pixel flipping, {fill}"] = quality.area_under_curve(scores)
        found[f"curve, {fill}"] = [quality.mean_and_interval(step) for step in scores]
    scores = quality.insertion(model, x, maps, y, fill="blur")
    found["insertion, blur"] = quality.area_under_curve(scores)
    few = slice(COUNTS["digits, several maps each"])
    x, y, maps = x[few], y[few], maps[few]
    for measure, unit_mass in (("continuity", False), ("continuity, unit mass", True)):
        found[measure] = quality.continuity(method, model, x, y, quality.shifts(x), unit_mass)
    found["randomized network"] = unchanged(maps, method, DIGITS, x, y)
    scores = model(x).numpy()
    scores[np.arange(len(x)), y] = -np.inf
    found["other class"] = quality.similarity(maps, method(model, x, scores.argmax(1)))
    found["sums to the score"] = quality.completeness_error(maps, model, x, y) < WITHIN


def unchanged(maps, method, network, x, y):
    """The rank correlation of absolute maps with those of the randomized networks, mean over these."""
    others = [named(copy, network) for copy in randomized(network)]
    return np.mean([quality.similarity(maps, method(other, x, y), absolute=True) for other in others], 0)


def named(model, name):
    model.name = name
    return model


def prices():
    """The time of each row on digits over that of the gradient."""
    x, y = (values[:100] for values in images("digits"))
    model = load_model(DIGITS)
    return {
        name: None if name == UNDEFINED else round(quality.time_over_gradient(row[1], model, x, y, 3), 2)
        for name, row in ON_DIGITS.items()
    }


def settings():
    """All that decides the values, as text."""
    networks = {name: model_card(name)["sha256"] for name in (DIGITS, PHOTOGRAPHS, SCENES, MARKED)}
    return {"networks": networks, "images": COUNTS, "rows": NAMES}


def finished(name):
    """The values of a row, from a file if they have been made with these settings."""
    key = hashlib.sha256(json.dumps([settings(), name]).encode()).hexdigest()[:16]
    path = KEPT / f"{key}.npz"
    if not path.exists():
        KEPT.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():  # maps that are zero everywhere, and those that equal the gradient
            warnings.simplefilter("ignore")
            values = measured(name)
        beside = path.with_suffix(".new.npz")
        np.savez(beside, **values)
        os.replace(beside, path)
    with np.load(path) as arrays:
        return dict(arrays)


def summary(values):
    """Mean, ends of its interval, in five digits, and how many images have no value."""
    there = values[np.isfinite(values)]
    numbers = quality.mean_and_interval(there) if len(there) > 1 else [None] * 3
    return [None if number is None else float(f"{number:.5g}") for number in numbers] + [len(values) - len(there)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", type=pathlib.Path, default=TARGET, help="where the table goes")
    arguments = parser.parse_args()
    done, bar = {}, keras.utils.Progbar(len(NAMES), unit_name="method")
    for name in NAMES:
        start = time.time()
        done[name] = finished(name)
        bar.add(1)
        print(f"  {name}: {time.time() - start:.0f} s", flush=True)
    first = done[NAMES[0]]
    table, values = {}, {}
    for measure in MEASURES:
        nothing = np.full(len(first[measure]), np.nan)
        values[measure] = np.stack([done[name].get(measure, nothing) for name in NAMES])
    for k, name in enumerate(NAMES):
        curves = {fill: done[name].get(f"curve, {fill}") for fill in FILLS}
        table[name] = {
            "family": ON_DIGITS[name][0],
            "measures": {measure: summary(values[measure][k]) for measure in MEASURES},
            "curves": {fill: curve.round(3).tolist() for fill, curve in curves.items() if curve is not None},
        }
    for name, price in prices().items():
        table[name]["time over gradient"] = price
    card = settings() | {"values": "mean, lower and upper end of the 95 % interval, images without a value"}
    card |= {"measures": MEASURES, "rows": table}
    beside = arguments.target.with_suffix(".new.npz")
    np.savez_compressed(beside, rows=NAMES, **{key: array.astype("float32") for key, array in values.items()})
    os.replace(beside, arguments.target.with_suffix(".npz"))
    write_table(arguments.target, card, indent=None)


if __name__ == "__main__":
    main()
