"""Measure which expert helps other readers: `python tools/experts.py`.

Maximizes the ten digits of `mnist_cnn` with each expert, from twenty images of noise and from twenty means of fifty
training digits of all classes, in 200 and in 2,000 steps, and shows what was found, at equal length, to other readers.
The weight of each expert is the one of five for which `mnist_cnn_max` gives the right digits the highest mean
log-probability, from two other starts; `mnist_dense` and the five nearest training digits have no say in it. Writes
`assets/experts.json`: of each expert, start and reader the share of images that are read as what they are meant to be,
with its 95 % interval, from a bootstrap over the starts, and how high the objective has come. Takes three quarters of
an hour on two cores; notebook 1.2 shows the table.
"""

import argparse
import itertools
import pathlib
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import utils  # noqa: F401  (first: it starts TensorFlow without its log lines)

# isort: split
import numpy as np
import tensorflow as tf
from sklearn.neighbors import KNeighborsClassifier
from tables import write_table

from models import load_model, load_rbm, model_card
from models.denoising import SIGMA
from utils.data import load_mnist
from utils.experts import denoiser_expert, gaussian_expert, l2_expert, rbm_expert, total_variation_expert
from utils.maximization import maximize
from utils.quality import mean_and_interval

NETWORK, CHOOSES, READERS = "mnist_cnn", "mnist_cnn_max", ("mnist_cnn_max", "mnist_dense")
STARTS, TRIALS, STEPS, WIDTH, KEPT = 20, 2, (200, 2000), 0.5, 3000
TARGET = ROOT / "assets" / "experts.json"
DIGITS = np.arange(10)


def kernel_density(images, width):
    """log of the sum over `images` of normal densities of deviation `width` around each, but for a constant."""
    seen = tf.constant(images.reshape(len(images), -1))

    def expert(x):
        x = tf.reshape(x, [-1, seen.shape[1]])
        squared = tf.reduce_sum(x**2, 1)[:, None] - 2 * x @ tf.transpose(seen) + tf.reduce_sum(seen**2, 1)
        return tf.reduce_logsumexp(-squared / (2 * width**2), 1)

    return expert


def experts(x_train):
    """Name -> expert, and its five weights."""
    return {
        "none": (None, (0,)),
        "L2": (l2_expert(0), (0.003, 0.01, 0.03, 0.1, 0.3)),
        "total variation": (total_variation_expert, (0.0003, 0.001, 0.003, 0.01, 0.03)),
        "Gaussian": (gaussian_expert(x_train[:5000]), (0.0003, 0.001, 0.003, 0.01, 0.03)),
        "RBM": (rbm_expert(*load_rbm()), (0.0001, 0.0003, 0.001, 0.003, 0.01)),
        "denoiser": (denoiser_expert(load_model("mnist_denoiser"), SIGMA), (0.0003, 0.001, 0.003, 0.01, 0.03)),
        "kernel density": (kernel_density(x_train[:KEPT], WIDTH), (0.001, 0.003, 0.01, 0.03, 0.1)),
    }


def starts(x_train, n, rng):
    """Kind -> n images to start from."""
    some = rng.integers(0, len(x_train), (n, 50))
    return {
        "noise": rng.random((n, 28, 28, 1), "float32"),
        "means of digits": np.stack([x_train[k].mean(0) for k in some]),
    }


def at_equal_length(images, length):
    """Images scaled to a length, and cut off at 1."""
    lengths = np.sqrt(np.square(images).sum((1, 2, 3), keepdims=True))
    return np.minimum(images * length / np.maximum(lengths, 1e-6), 1).astype("float32")


def found(model, expert, weight, start, steps):
    """Images for each digit from each start, `[10 n, 28, 28, 1]`, those of one start after another; their objective."""
    asked = {"start": start.repeat(10, 0), "steps": steps, "return_history": True}
    asked |= {"expert": expert, "weight": weight} if expert else {}
    images, way = maximize(model, np.tile(DIGITS, len(start)), **asked)
    return images, way.objective[-1]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=STARTS)
    parser.add_argument("--target", type=pathlib.Path, default=TARGET)
    arguments = parser.parse_args()
    (x_train, y_train), (x_test, _) = load_mnist()
    if len(x_train) != 60_000:
        raise SystemExit("The table is of MNIST's digits, which are not within reach. Set NN_DATA.")
    model, rng, began = load_model(NETWORK), np.random.default_rng(0), time.time()
    length = np.sqrt(np.square(x_test[:1000]).sum((1, 2, 3))).mean()
    neighbours = KNeighborsClassifier(5).fit(x_train.reshape(len(x_train), -1), y_train)
    networks = {name: load_model(name) for name in READERS}

    def read(images):
        """Reader -> the share of ten digits that are read as they are meant to be, `[n]`, one for each start."""
        shown = at_equal_length(images, length)
        said = {name: network.predict(shown, verbose=0).argmax(1) for name, network in networks.items()}
        said["neighbours"] = neighbours.predict(shown.reshape(len(shown), -1))
        return {name: (c.reshape(-1, 10) == DIGITS).mean(1) for name, c in said.items()}

    def chosen_by(images):
        """The mean log-probability that the network which chooses the weights gives to the right digits."""
        log_p = tf.nn.log_softmax(networks[CHOOSES].predict(at_equal_length(images, length), verbose=0)).numpy()
        return log_p[np.arange(len(log_p)), np.tile(DIGITS, len(log_p) // 10)].mean()

    tried, used = starts(x_train, TRIALS, rng), starts(x_train, arguments.starts, rng)
    candidates = experts(x_train)
    rows = {name: {kind: {} for kind in used} for name in candidates}
    for steps, (name, (expert, weights)), kind in itertools.product(STEPS, candidates.items(), used):
        scores = [chosen_by(found(model, expert, weight, tried[kind], steps)[0]) for weight in weights]
        weight = weights[int(np.argmax(scores))]
        images, objective = found(model, expert, weight, used[kind], steps)
        shares = {reader: mean_and_interval(share) for reader, share in read(images).items()}
        far = neighbours.kneighbors(at_equal_length(images, length).reshape(len(images), -1), 1)[0][:, 0]
        rows[name][kind][str(steps)] = {
            "weight": weight,
            "chosen from": {str(weight): round(float(score), 4) for weight, score in zip(weights, scores)},
            "read": {reader: np.round(ends, 4).tolist() for reader, ends in shares.items()},
            "objective": round(float(objective.mean()), 4),
            "distance to the nearest digit": round(float(far.mean()), 3),
        }
        print(f"{time.time() - began:6.0f} s  {steps} {name}, {kind}: {rows[name][kind][str(steps)]}", flush=True)
    card = {
        "network": NETWORK,
        "sha256": model_card(NETWORK)["sha256"],
        "starts": arguments.starts,
        "steps": list(STEPS),
        "chosen by": CHOOSES,
        "values": "share of the ten digits that are read as they are meant, with the ends of its 95 % interval",
        "experts": rows,
    }
    write_table(arguments.target, card)


if __name__ == "__main__":
    main()
