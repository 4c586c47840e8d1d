"""Measure what parts of photographs are read as: `python tools/part_and_whole.py`.

Reads quarters of CIFAR-10's test photographs on `cifar10_allcnn`, alone, in place and taken away, and writes
`assets/part_and_whole.json`: how often they are read as what, with 95 % intervals; how the relevance of the quarters
of all 2,000 horses and deer goes with their logits; and what the most relevant tenth of the pixels is worth. Takes a
quarter of an hour on two cores; notebook 6.4 shows the table, and makes its rows again on fewer photographs.
"""

import argparse
import math
import pathlib
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import utils  # noqa: F401  (first: it starts TensorFlow without its log lines)

# isort: split
import cv2
import numpy as np
from tables import with_ends, write_table

from models import load_model, model_card
from models.architectures import CIFAR10_MEAN
from utils.attributions import gradient, integrated_gradients
from utils.data import CIFAR10_CLASSES, load_cifar10

NETWORK, STEPS, TARGET = "cifar10_allcnn", 16, ROOT / "assets" / "part_and_whole.json"
GREY = np.float32(CIFAR10_MEAN)  # its logits are 0
PLACES = [(0, 0), (0, 16), (16, 0), (16, 16), (8, 8)]  # top and left of the quarters: the corners, the centre
GRID = [(i, j) for i in range(0, 17, 4) for j in range(0, 17, 4)]  # 25 places, every fourth pixel
TENTH = 102  # pixels
DOG, ANIMALS = CIFAR10_CLASSES.index("dog"), ("horse", "deer")


def cut(x, places=PLACES):
    """Quarters `[n, places, 16, 16, 3]` of photographs `[n, 32, 32, 3]`."""
    return np.stack([x[:, i : i + 16, j : j + 16] for i, j in places], 1)


def enlarged(small):
    """`[..., 16, 16, 3]` -> `[..., 32, 32, 3]`: bilinear, by OpenCV."""
    flat = [cv2.resize(one, (32, 32), interpolation=cv2.INTER_LINEAR) for one in small.reshape(-1, 16, 16, 3)]
    return np.reshape(flat, (*small.shape[:-3], 32, 32, 3))


def blurred(x):
    """Photographs made half as large, by means of 2 x 2 pixels, and enlarged again: as blurred as the quarters are."""
    return enlarged(x.reshape(-1, 16, 2, 16, 2, 3).mean((2, 4)))


def masks(places=PLACES):
    """`[places, 32, 32, 1]`, True on each quarter."""
    on = np.zeros((len(places), 32, 32, 1), bool)
    for mask, (i, j) in zip(on, places):
        mask[i : i + 16, j : j + 16] = True
    return on


def logits(model, images):
    """`[..., 32, 32, 3]` -> `[..., 10]`."""
    scores = model.predict(images.reshape(-1, 32, 32, 3), batch_size=250, verbose=0)
    return scores.reshape(*images.shape[:-3], -1)


def relevance(model, x, c, steps):
    """Integrated gradients `[n, 32, 32]`, summed over the colours, from the mean colour, by the midpoint rule in t.

    With alpha = t^3 most steps lie near the mean colour, where the logits of this network rise steeply: 16 of them are
    as exact as hundreds that are evenly spaced in alpha.
    """
    t = (np.arange(steps, dtype="float32") + 0.5) / steps
    points = GREY + (t**3)[:, None, None, None] * (x - GREY)[:, None]  # [n, steps, 32, 32, 3]
    slopes = gradient(model, points.reshape(-1, *x.shape[1:]), c).reshape(points.shape)
    return ((x - GREY) * np.einsum("k,nkijc->nijc", 3 * t**2 / steps, slopes)).sum(-1)


def share(hits):
    """The share of True in `[n]` or, of k answers for each photograph, in `[n, k]`, with its interval."""
    return with_ends(hits if hits.ndim == 1 else hits.mean(1))


def correlations(a, b):
    """For each photograph the correlation, over its quarters, of `a` and `b` `[n, quarters]`: `[n]`."""
    a, b = (v - v.mean(1, keepdims=True) for v in (a, b))
    return (a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1))


def without(x, order):
    """Photographs whose pixels `order` `[n, k]` have the mean colour."""
    flat = x.reshape(len(x), -1, 3).copy()
    flat[np.arange(len(x))[:, None], order] = GREY
    return flat.reshape(x.shape)


def read_parts(model, x, own):
    """What wholes and parts of photographs of class `own` are read as: view -> (class -> share), and the logits."""
    quarters = cut(x)  # four corners, and the centre
    scores = {"whole": logits(model, x), "whole, blurred": logits(model, blurred(x))}
    scores["quarters, enlarged"] = logits(model, enlarged(quarters))
    scores["quarters, in place"] = logits(model, np.where(masks(), x[:, None], GREY))
    read = {view: s.argmax(-1) for view, s in scores.items()}
    own = CIFAR10_CLASSES.index(own)
    shares = {view: {"own": share(r == own), "dog": share(r == DOG)} for view, r in read.items()}
    for view, r in read.items():
        shares[view]["read as"] = np.bincount(r.ravel(), minlength=10).tolist()
    return shares, scores, read


def of_coalitions(model, x, c):
    """Logits of class `c` `[n, 16]` with some of the corners, the others in the mean colour; bit q for corner q."""
    corners = masks()[:4]
    here = [np.any(corners[[bool(s >> q & 1) for q in range(4)]], 0) for s in range(16)]
    parts = [logits(model, np.where(here, x[k : k + 100, None], GREY))[..., c] for k in range(0, len(x), 100)]
    return np.concatenate(parts)


def shapley_values(v):
    """Of four players, from the worth `[n, 16]` of all coalitions: `[n, 4]` (Shapley 1953)."""
    weights = [math.factorial(k) * math.factorial(3 - k) / math.factorial(4) for k in range(4)]
    others = [[s for s in range(16) if not s >> q & 1] for q in range(4)]
    return np.stack(
        [sum(weights[s.bit_count()] * (v[:, s | 1 << q] - v[:, s]) for s in others[q]) for q in range(4)], 1
    )


def explain(model, x, own, scores, read, steps, rng):
    """Where the relevance lies, and what it goes with, for photographs of one class."""
    c, n = CIFAR10_CLASSES.index(own), len(x)
    R = np.concatenate([relevance(model, x[k : k + 50], c, steps) for k in range(0, n, 50)])
    of_quarters = np.stack([R[:, i : i + 16, j : j + 16].sum((1, 2)) for i, j in PLACES], 1)  # [n, 5]
    most = of_quarters.argmax(1)
    r = read["quarters, enlarged"][np.arange(n), most]
    chosen = {"own": share(r == c), "dog": share(r == DOG)}

    whole, corners = scores["whole"][:, c], of_quarters[:, :4]
    v = of_coalitions(model, x, c)
    worth = {"enlarged": scores["quarters, enlarged"][:, :4, c]}
    worth["in place"] = np.stack([v[:, 1 << q] for q in range(4)], 1)
    worth["taken away"] = np.stack([v[:, 15] - v[:, 15 ^ 1 << q] for q in range(4)], 1)
    worth["Shapley value"] = shapley_values(v)
    same = {name: correlations(corners, values) for name, values in worth.items()}
    another = {name: correlations(np.roll(corners, 1, 0), values) for name, values in worth.items()}
    first = {name: share(values.argmax(1) == corners.argmax(1)) for name, values in worth.items()}

    by_relevance = np.argsort(-R.reshape(n, -1), 1)
    orders = {"most relevant": by_relevance[:, :TENTH], "least relevant": by_relevance[:, -TENTH:]}
    orders["another photograph's"] = np.roll(orders["most relevant"], 1, 0)
    orders["highest contrast"] = np.argsort(-np.square(x - GREY).sum(-1).reshape(n, -1), 1)[:, :TENTH]
    orders["random"] = rng.permuted(by_relevance, axis=1)[:, :TENTH]
    drops = {name: whole - logits(model, without(x, order))[:, c] for name, order in orders.items()}
    error = np.abs(R.sum((1, 2)) - whole) / np.abs(whole).mean()
    return chosen, {"same": same, "another": another}, first, drops, error


def first_hundred(read, y):
    """How many corners of the horses among the first 100 photographs are read as dogs, enlarged."""
    horses = (y[:100] == CIFAR10_CLASSES.index("horse")).sum()
    return int((read["quarters, enlarged"][:horses, :4] == DOG).sum())


def long_maps(model, x, y, kept):
    """Maps `[32, 32]` in 3,000 even steps: of the first horse that has a dog in a corner, the first dog and deer.

    All three are read rightly. The keys are their places among the test photographs.
    """
    maps = {}
    for name in ("horse", "dog", "deer"):
        c, read = CIFAR10_CLASSES.index(name), kept[name][1]
        fits = read["whole"] == c
        if name == "horse":
            fits &= (read["quarters, enlarged"][:, :4] == DOG).any(1)
        k = int(np.flatnonzero(y == c)[fits.argmax()])
        R = integrated_gradients(model, x[k : k + 1], c, GREY, steps=3000)[0].sum(-1)
        maps[str(k)] = [[float(f"{value:.5g}") for value in row] for row in R]
    return maps


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photographs", type=int, default=10_000, help="the first of the test photographs")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--target", type=pathlib.Path, default=TARGET)
    arguments = parser.parse_args()
    (_, _), (x_test, y_test) = load_cifar10()
    if len(x_test) != 10_000:
        raise SystemExit("The table is of CIFAR-10's test photographs, which are not within reach. Set NN_DATA.")
    x, y, start = x_test[: arguments.photographs], y_test[: arguments.photographs], time.time()
    model, rng = load_model(NETWORK), np.random.default_rng(0)
    readings, kept, windows = {}, {}, {}
    for c, name in enumerate(CIFAR10_CLASSES):
        readings[name], *kept[name] = read_parts(model, x[y == c], name)
        dogs = readings[name]["quarters, enlarged"]["dog"]
        print(f"{time.time() - start:6.0f} s  quarters of {name} read as dog: {dogs}", flush=True)
    spot, shown = first_hundred(kept["horse"][1], y), long_maps(model, x, y, kept)
    for name in ANIMALS:
        some = x[y == CIFAR10_CLASSES.index(name)]
        hits = logits(model, enlarged(cut(some, GRID))).argmax(-1) == DOG
        tried = {"1": hits[:, 12], "5": kept[name][1]["quarters, enlarged"] == DOG, "25": hits}
        windows[name] = {k: share(h if k == "1" else h.any(1)) for k, h in tried.items()}
        print(f"{time.time() - start:6.0f} s  {name}: read as dog, of 1, 5, 25 windows: {windows[name]}", flush=True)
    correlation, firsts, deletion, errors = {}, {}, {}, []
    for name in ANIMALS:
        some = x[y == CIFAR10_CLASSES.index(name)]
        chosen, r, firsts[name], drops, error = explain(model, some, name, *kept[name], arguments.steps, rng)
        readings[name]["quarter with the most relevance, enlarged"] = chosen
        correlation[name] = {how: {view: with_ends(v) for view, v in rows.items()} for how, rows in r.items()}
        deletion[name] = {which: with_ends(values) for which, values in drops.items()}
        errors.append(error)
        print(f"{time.time() - start:6.0f} s  {name}: {chosen} {correlation[name]} {deletion[name]}", flush=True)
    card = {
        "network": NETWORK,
        "sha256": model_card(NETWORK)["sha256"],
        "photographs": {name: int((y == c).sum()) for c, name in enumerate(CIFAR10_CLASSES)},
        "steps": arguments.steps,
        "completeness error, median share of the mean logit": round(float(np.median(np.concatenate(errors))), 4),
        "values": "share, mean or correlation, with the lower and upper end of its 95 % interval; counts by class",
        "readings": readings,
        "read as dog, corners of the horses among the first 100": spot,
        "maps in 3,000 steps": shown,
        "read as dog, at least one of so many windows": windows,
        "correlation of a quarter's relevance and its logit": correlation,
        "the most relevant quarter is the first by its logit, one in four by chance": firsts,
        "drop of the logit without a tenth of the pixels": deletion,
    }
    write_table(arguments.target, card, indent=None)  # or else each pixel of a map would have its line


if __name__ == "__main__":
    main()
