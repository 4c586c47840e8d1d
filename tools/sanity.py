"""Measure how each method's maps change when the network does: `python tools/sanity.py`.

Explains test digits on `mnist_cnn_max` and test photographs on `cifar10_allcnn`, each for the class that the trained
network predicts, and again after layers have been drawn anew: from the top down to each layer (cascading), and each
layer alone (independent); digits also on `mnist_cnn_shuffled`, which has learned shuffled labels by heart. Writes
`assets/sanity.json`: for each method, layer and measure the mean similarity to the trained network's map, its 95 %
interval, the means of the single draws, and how many maps were constant, so that there was nothing to compare. All
images share a draw, and draws differ, so the interval is from a bootstrap over images and over draws. Takes seven
minutes on two cores; notebook 5.3 shows the table, and makes some of its rows again.
"""

import argparse
import pathlib
import sys
import time
import warnings

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import utils  # noqa: F401  (first: it starts TensorFlow without its log lines)

# isort: split
import keras
import numpy as np
from methods import UNDEFINED, rows
from tables import write_table

from models import load_model, model_card
from models.architectures import CIFAR10_MEAN
from utils.data import load_cifar10, load_mnist
from utils.quality import canny_edges, randomized, similarity

TARGET = ROOT / "assets" / "sanity.json"
DEAR = "SmoothGrad", "SmoothGrad, squared", "integrated gradients", "occlusion", "RISE"  # many passes for each map
DIGITS, PHOTOGRAPHS = 30, 12
DEAR_DIGITS, DEAR_PHOTOGRAPHS, DEAR_SEEDS = 15, 6, 2
SEEDS = {"mnist_cnn_max": 5, "cifar10_allcnn": 3}
LAYERS = {
    "mnist_cnn_max": ["logits", "dense1", "conv3", "conv2", "conv1"],
    "cifar10_allcnn": ["evidence"] + [f"conv{k}" for k in range(9, 0, -1)],
}
DEAR_LAYERS = "evidence", "conv7", "conv4", "conv1"  # of photographs
SHUFFLED = "mnist_cnn_shuffled"


def stages(layers):
    """(way, layer, the layers that are drawn anew); of the top layer both ways are the same, and it comes once."""
    for k, layer in enumerate(layers):
        yield "cascading", layer, layers[: k + 1]
    for layer in layers[1:]:
        yield "independent", layer, [layer]


def weights_of(model, layers, seeds):
    """For each way, layer and seed the weights of the changed network, drawn once for all methods."""
    return {
        (way, layer, seed): randomized(model, names, seed).get_weights()
        for way, layer, names in stages(layers)
        for seed in range(seeds)
    }


def on_ink(A, B, x, absolute):
    """Rank correlation over the pixels that carry ink, `[n]`."""
    A, B = (maps.sum(-1) if maps.ndim == 4 else maps for maps in (A, B))
    inked = x.sum(-1) > 0
    return np.concatenate(
        [similarity(a[ink][None, None], b[ink][None, None], absolute=absolute) for a, b, ink in zip(A, B, inked)]
    )


def measured(A, B, x):
    """Name of the measure -> similarities `[n]`; NaN where a map is constant."""
    found = {
        "signed": similarity(A, B),
        "absolute": similarity(A, B, absolute=True),
        "ssim": similarity(A, B, "ssim"),
    }
    if x.shape[-1] == 1:
        found |= {"signed, ink": on_ink(A, B, x, False), "absolute, ink": on_ink(A, B, x, True)}
    return found


def summary(by_seed):
    """From similarities `[n]`, one array a seed, to what stands in the table."""
    by_seed = np.stack(by_seed)  # [seeds, n]
    defined = by_seed[:, np.isfinite(by_seed).all(0)]
    cell = {"undefined": int(np.isnan(by_seed).sum())}
    if defined.shape[1] < 2:
        return cell
    ends = np.quantile(resampled(defined), (0.025, 0.975))
    cell["mean"] = [round(float(value), 3) for value in (defined.mean(), *ends)]
    cell["seeds"] = [round(float(value), 2) for value in defined.mean(1)]
    return cell


def resampled(values, many=2000):
    """Means of `values` `[seeds, n]` with seeds and images drawn again, each of them with all its values, `[many]`.

    The pigeonhole bootstrap of Owen (2007, doi:10.1214/07-AOAS122).
    """
    rng = np.random.default_rng(0)
    over_seeds, over_images = (rng.multinomial(k, np.full(k, 1 / k), many) / k for k in values.shape)
    return ((over_seeds @ values) * over_images).sum(1)


def one_row(name, method, model, changed, drawn, x, target):
    """The row of one method: way -> layer -> measure -> what `summary` says."""
    dear = name in DEAR
    if dear:
        many = DEAR_DIGITS if x.shape[-1] == 1 else DEAR_PHOTOGRAPHS
        x, target = x[:many], target[:many]
    before, found = method(model, x, target), {}
    for (way, layer, seed), weights in drawn.items():
        if dear and (seed >= DEAR_SEEDS or x.shape[-1] == 3 and layer not in DEAR_LAYERS):
            continue
        changed.set_weights(weights)  # of the same copy, so that each method is compiled once
        found.setdefault((way, layer), []).append(measured(before, method(changed, x, target), x))
    row = {"images": len(x), "cascading": {}, "independent": {}}
    for (way, layer), each in found.items():
        row[way][layer] = {measure: summary([one[measure] for one in each]) for measure in each[0]}
    top = next(iter(row["cascading"]))
    row["independent"] = {top: row["cascading"][top]} | row["independent"]
    return row


def table_of(network, x, methods, other=None):
    """Name of the method -> its row, for one network; `other`: one whose maps are compared as well."""
    model = load_model(network)
    target = np.asarray(model.predict(x, verbose=0)).argmax(1)
    changed = keras.models.clone_model(model)
    drawn = weights_of(model, LAYERS[network], SEEDS[network])
    methods = methods | {"edges (Canny)": ("controls", lambda model, x, y: canny_edges(x))}
    table = {}
    for name, (family, method) in methods.items():
        if name == UNDEFINED and x.shape[-1] == 1:
            continue  # no global average at the end of that network
        start = time.time()
        with warnings.catch_warnings():  # in a network without ReLUs, two of the methods say that they are its gradient
            warnings.simplefilter("ignore")
            table[name] = {"family": family} | one_row(name, method, model, changed, drawn, x, target)
            if other is not None:
                n = table[name]["images"]
                pair = [method(one, x[:n], target[:n]) for one in (model, other)]
                table[name]["shuffled labels"] = {k: summary([v]) for k, v in measured(*pair, x[:n]).items()}
        cells = table[name]["cascading"].values()
        line = " ".join(f"{c['signed'].get('mean', [np.nan])[0]:+.2f}" for c in cells)
        print(f"{network} {name:28} {time.time() - start:6.1f} s  {line}", flush=True)
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--digits", type=int, default=DIGITS)
    parser.add_argument("--photographs", type=int, default=PHOTOGRAPHS)
    parser.add_argument("--target", type=pathlib.Path, default=TARGET)
    arguments = parser.parse_args()
    (_, _), (digits, _) = load_mnist()
    (_, _), (photographs, _) = load_cifar10()
    if len(digits) != 10_000 or len(photographs) != 10_000:
        raise SystemExit("The table is of the 10,000 test images of MNIST and CIFAR-10 each. Set NN_DATA.")
    tables = {
        "mnist_cnn_max": table_of(
            "mnist_cnn_max", digits[: arguments.digits], rows("conv3"), other=load_model(SHUFFLED)
        ),
        "cifar10_allcnn": table_of("cifar10_allcnn", photographs[: arguments.photographs], rows("conv6", CIFAR10_MEAN)),
    }
    card = {
        "sha256": {name: model_card(name)["sha256"] for name in (*tables, SHUFFLED)},
        "images": f"the first {arguments.digits} digits and {arguments.photographs} photographs of the test sets, "
        "fewer where a map needs many passes, see each row; explained for the class that the trained network predicts",
        "values": "similarity to the trained network's map: mean over images and draws, and the ends of its 95 % "
        "interval; the means of the single draws; how many pairs held a constant map (such images are left out)",
        "tables": tables,
    }
    write_table(arguments.target, card, indent=None)  # thousands of cells


if __name__ == "__main__":
    main()
