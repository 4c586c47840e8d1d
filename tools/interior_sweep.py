"""Measure what a network sees while photographs are faded in: `python tools/interior_sweep.py`.

Takes the first 1,000 test photographs of CIFAR-10 through `cifar10_allcnn` at 14 points of the straight paths to them
from black and from the mean colour, and writes `assets/interior_sweep.json`: how many are read rightly, as which
classes all are read and, from black, quartiles of the logit and of the probability of the class that the whole
photograph is read as, and of the lengths of their gradients. Takes about five minutes on two cores; notebook 6.3 shows
the table, and makes some of its rows again on fewer photographs.
"""

import argparse
import pathlib
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import utils  # noqa: F401  (first: it starts TensorFlow without its log lines)

# isort: split
import numpy as np
import tensorflow as tf
from tables import write_table

from models import load_model, model_card
from models.architectures import CIFAR10_MEAN
from utils.data import has_real_cifar10, load_cifar10
from utils.scores import scores_of

ALPHAS = 0.01, 0.02, 0.03, 0.04, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0
NETWORK, PHOTOGRAPHS, TARGET = "cifar10_allcnn", 1000, ROOT / "assets" / "interior_sweep.json"


def quartiles(values):
    """Lower quartile, median and upper quartile, to four digits."""
    return [float(f"{value:.4g}") for value in np.quantile(values, [0.25, 0.5, 0.75])]


def in_batches(run, points, *others, size=100):
    """What `run` returns, a dictionary of arrays, computed for so many points at a time."""
    parts = [run(*(array[k : k + size] for array in (points, *others))) for k in range(0, len(points), size)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def measuring(model):
    """A function of points and classes `[n]`: which class is read at each point, scores and lengths of gradients."""

    @tf.function(reduce_retracing=True)
    def run(points, c):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(points)
            logits = model(points)
            both = {"logit": logits, "probability": tf.nn.softmax(logits)}
            scores = {name: tf.gather(values, c, axis=1, batch_dims=1) for name, values in both.items()}
        slopes = {f"{name}_length": tape.gradient(score, points) for name, score in scores.items()}
        lengths = {name: tf.sqrt(tf.reduce_sum(tf.square(slope), (1, 2, 3))) for name, slope in slopes.items()}
        return {"read": tf.argmax(logits, 1)} | scores | lengths

    return lambda points, c: in_batches(run, points, c)


def readings(read, y):
    """How many are read as their class `y`, and as which classes all are read."""
    return {"right": int((read == y).sum()), "read_as": np.bincount(read, minlength=10).tolist()}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photographs", type=int, default=PHOTOGRAPHS)
    parser.add_argument("--target", type=pathlib.Path, default=TARGET)
    arguments = parser.parse_args()
    if not has_real_cifar10():
        raise SystemExit("The table is of CIFAR-10's test photographs, which are not within reach. Set NN_DATA.")
    (_, _), (x, y) = load_cifar10()
    x, y = x[: arguments.photographs], y[: arguments.photographs]
    model, grey, rows = load_model(NETWORK), np.float32(CIFAR10_MEAN), []
    logits, measure = scores_of(model), measuring(model)
    c = logits(x).argmax(1)
    for alpha in ALPHAS:
        start, a = time.time(), np.float32(alpha)
        found = measure(a * x, c)
        from_grey = logits(grey + a * (x - grey)).argmax(1)
        row = {"alpha": alpha, "black": readings(found.pop("read"), y), "mean": readings(from_grey, y)}
        rows.append(row | {name: quartiles(values) for name, values in found.items()})
        print(f"alpha {alpha:<4} {time.time() - start:6.1f} s  {rows[-1]}", flush=True)
    card = {
        "network": NETWORK,
        "sha256": model_card(NETWORK)["sha256"],
        "photographs": len(x),
        "values": "quartiles; of the class that the whole photograph is read as",
        "rows": rows,
    }
    write_table(arguments.target, card)


if __name__ == "__main__":
    main()
