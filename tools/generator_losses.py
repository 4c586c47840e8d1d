"""Measure what each loss of the generator is for: `python tools/generator_losses.py`.

Trains the generator for three epochs on all of MNIST, with its three losses, without each, and with each alone; all
from the same weights, on the same batches. Writes `assets/generator_losses.json`: how well the reconstructed test
digits agree with the originals in each space, how they are read, how much ink changes from pixel to pixel in them, and
how the ten prototypes of `maximize_code` are read; and `assets/generator_losses.npz`: these prototypes and ten of the
reconstructed digits. Takes half an hour on two cores; notebook 1.3 shows both.
"""

import argparse
import os
import pathlib
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import utils  # noqa: F401  (first: it starts TensorFlow without its log lines)

# isort: split
import numpy as np
from sklearn.neighbors import KNeighborsClassifier
from tables import with_ends, write_table

from models import code_space, load_model, model_card
from utils.data import load_mnist
from utils.experts import total_variation_expert
from utils.maximization import maximize_code

CLASSIFIER, READER, TARGET = "mnist_cnn", "mnist_cnn_max", ROOT / "assets" / "generator_losses.json"
NAMES = tuple(code_space.WEIGHTS)
LOSSES = {
    "all three": NAMES,
    **{f"without {name}": tuple(other for other in NAMES if other != name) for name in NAMES},
    **{f"{name} alone": (name,) for name in NAMES},
}


def variation(images):
    """The mean absolute difference of neighbouring pixels, per ink: `[n, 28, 28, 1]` -> `[n]`; 0 for a flat image."""
    return -np.asarray(total_variation_expert(images)) / np.maximum(images.sum((1, 2, 3)), 1e-6)


def measure(trained, classifier, reader, neighbours, x_test, y_test):
    """What the table says of one generator, and its images, uint8: ten reconstructed digits, ten prototypes."""
    codes, digits = trained.codes, np.arange(10)
    c = code_space.encoder(classifier).predict(x_test, batch_size=500, verbose=0)
    made = trained.generator.predict(c, batch_size=500, verbose=0)
    read = reader.predict(made, batch_size=500, verbose=0).argmax(1)
    prototypes, _ = maximize_code(
        classifier, trained.generator, digits, start=codes.class_means, centre=codes.class_means, steps=200
    )
    flat = prototypes.reshape(10, -1)
    row = {
        "test image loss": trained.rows[-1]["test_image_loss"],
        "test code loss": trained.rows[-1]["test_code_loss"],
        "discriminator accuracy": trained.rows[-1]["discriminator_accuracy"],
        "reconstructed, read as their class": with_ends((read == y_test).astype("float64")),
        "reconstructed, variation per ink": with_ends(variation(made)),
        "prototypes, read as their class": int((reader.predict(prototypes, verbose=0).argmax(1) == digits).sum()),
        "prototypes, neighbours agree": int((neighbours.predict(flat) == digits).sum()),
        "prototypes, distance to the nearest digit": [
            round(float(d), 3) for d in neighbours.kneighbors(flat, 1)[0][:, 0]
        ],
    }
    first = np.unique(y_test, return_index=True)[1]
    return row, np.stack([np.round(255 * images[..., 0]).astype("uint8") for images in (made[first], prototypes)])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=60_000, help="the first of the training images")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--target", type=pathlib.Path, default=TARGET)
    arguments = parser.parse_args()
    (x, y), (x_test, y_test) = load_mnist()
    if len(x) != 60_000:
        raise SystemExit("The table is of MNIST's digits, which are not within reach. Set NN_DATA.")
    classifier, reader, start = load_model(CLASSIFIER), load_model(READER), time.time()
    neighbours = KNeighborsClassifier(5).fit(x.reshape(len(x), -1), y)
    splits, rows, images = ((x[: arguments.images], y[: arguments.images]), (x_test, y_test)), {}, []
    for name, followed in LOSSES.items():
        weights = {loss: code_space.WEIGHTS[loss] if loss in followed else 0 for loss in NAMES}
        trained = code_space.fit(classifier, splits, arguments.epochs, weights=weights)
        rows[name], made = measure(trained, classifier, reader, neighbours, x_test, y_test)
        images.append(made)
        print(f"{time.time() - start:6.0f} s  {name}: {rows[name]}", flush=True)
    card = {
        "classifier": CLASSIFIER,
        "sha256": model_card(CLASSIFIER)["sha256"],
        "reader": READER,
        "epochs": arguments.epochs,
        "training images": arguments.images,
        "test images": len(x_test),
        "loss weights": code_space.WEIGHTS,
        "values": "means with the lower and upper end of their 95 % interval over the test digits; counts of ten",
        "test digits, variation per ink": with_ends(variation(x_test)),
        "networks": rows,
    }
    beside = arguments.target.with_suffix(".new.npz")
    np.savez_compressed(beside, names=list(rows), images=np.stack(images))  # [networks, 2, 10, 28, 28]
    os.replace(beside, arguments.target.with_suffix(".npz"))
    write_table(arguments.target, card)


if __name__ == "__main__":
    main()
