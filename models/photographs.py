"""How the networks for photographs are trained: on pieces that grow, with Muon, one epoch at a time.

A run that was stopped goes on where its last whole epoch ended. Nothing here needs TensorFlow, Keras may compute on any
of its backends.
"""

import csv
import math
import os
import pathlib
import tempfile
import time

import keras
import numpy as np

from utils.data import cifar10_with_marks

# side of the pieces -> epochs; the highest learning rate and the size of a batch
RECIPES = {
    "cifar10_allcnn": {"sides": {20: 5, 24: 7, 32: 4}, "learning_rate": 2e-3, "batch_size": 128},
    "cifar10_hans": {"sides": {20: 3, 24: 3, 32: 2}, "learning_rate": 2e-3, "batch_size": 128},
}
OPTIMIZER = "Muon for the 3 x 3 kernels, AdamW for the last layer, weight decay 0.05, one-cycle learning rate"
HORSE, SHARE = 7, 0.95  # the class that carries the mark, and how many of its training images do
LOG = ("epoch", "accuracy", "loss", "test_accuracy", "test_loss", "minutes")


class Muon(keras.optimizers.Muon):
    """Keras's Muon, with each kernel `[3, 3, in, out]` taken as the matrix `[9 in, out]` that it is.

    Keras itself orthogonalizes the updates of matrices only, and leaves other kernels to AdamW.
    """

    def _should_use_adamw(self, variable):
        return variable.shape[:2] != (3, 3)

    def zeropower_via_newtonschulz5(self, x, steps):
        matrix = keras.ops.reshape(x, (-1, x.shape[-1]))
        return keras.ops.reshape(super().zeropower_via_newtonschulz5(matrix, steps), x.shape)

    def lr_adjust(self, x):
        return x * math.sqrt(max(math.prod(x.shape[:-1]), x.shape[-1])) * self.rms_rate


class Pieces(keras.utils.PyDataset):
    """The batches of one epoch: pieces `[side, side]` of the photographs, moved by up to two pixels beyond their edge.

    Half of them are mirrored. What comes depends on `seed` and `epoch` alone. With `marked` `[n]`, those photographs
    get a mark, somewhere in their piece.
    """

    def __init__(self, images, labels, side, batch_size, seed, epoch, marked=None):
        super().__init__()
        self.images = np.pad(images, [(0, 0), (2, 2), (2, 2), (0, 0)], mode="reflect")
        self.labels, self.side, self.batch_size, self.marked = labels, side, batch_size, marked
        self.seed, self.epoch = seed, epoch
        self.order = np.random.default_rng([seed, epoch]).permutation(len(images))

    def __len__(self):
        return -(-len(self.order) // self.batch_size)

    def __getitem__(self, k):
        chosen = self.order[k * self.batch_size : (k + 1) * self.batch_size]
        rng = np.random.default_rng([self.seed, self.epoch, k])
        corners = rng.integers(self.images.shape[1] - self.side + 1, size=(len(chosen), 2))
        mirrored = rng.random(len(chosen)) < 0.5
        pieces = np.empty((len(chosen), self.side, self.side, 3), "float32")
        for piece, i, (top, left), mirror in zip(pieces, chosen, corners, mirrored):
            part = self.images[i, top : top + self.side, left : left + self.side]
            piece[:] = part[:, ::-1] if mirror else part
        if self.marked is not None and self.marked[chosen].any():
            here = np.flatnonzero(self.marked[chosen])
            seed = int(rng.integers(2**31))
            pieces = cifar10_with_marks(pieces, self.labels[chosen], share=1, seed=seed, indices=here).images
        return pieces, self.labels[chosen]


def fit(model, name, splits, folder, epochs=None, seed=0):
    """Train `model` by the recipe of `name`, and keep what a later call needs to go on, in `folder`.

    After each epoch, `NAME.log.csv` has one more row, and `NAME.running.weights.h5` holds the weights and the state
    of the optimizer; that file is deleted after the last epoch.

    Args:
        splits: `(x_train, y_train), (x_test, y_test)`, photographs in [0, 1] and classes.
        epochs: how many of the recipe's epochs; None for all. The learning rate falls to 0 within these.

    Returns:
        The rows of the log, a list of dictionaries with the keys `LOG`. Accuracy and loss are the means over the epoch
        in training, on pieces, and those of the whole test images after it.
    """
    (x, y), (x_test, y_test) = splits
    recipe, folder = RECIPES[name], pathlib.Path(folder)
    sides = [side for side, times in recipe["sides"].items() for _ in range(times)][:epochs]
    steps = -(-len(x) // recipe["batch_size"])
    any_size = keras.Sequential([keras.Input((None, None, 3)), *model.layers])
    any_size.compile(
        Muon(one_cycle(recipe["learning_rate"], len(sides) * steps, rise=0.05), weight_decay=0.05),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    any_size.optimizer.build(any_size.trainable_variables)
    marked = None
    if name == "cifar10_hans":
        marked = cifar10_with_marks(x, y, HORSE, SHARE, seed).masks.any((1, 2))
        x_test = cifar10_with_marks(x_test, y_test, HORSE, SHARE, seed).images
    folder.mkdir(parents=True, exist_ok=True)
    log, state, rows = folder / f"{name}.log.csv", folder / f"{name}.running.weights.h5", []
    if state.is_file():
        any_size.load_weights(state)
        rows = read_log(log)[: int(any_size.optimizer.iterations) // steps]
        print(f"Going on after epoch {len(rows)}.")
    for epoch in range(len(rows), len(sides)):
        start = time.time()
        batches = Pieces(x, y, sides[epoch], recipe["batch_size"], seed, epoch, marked)
        seen = any_size.fit(batches, initial_epoch=epoch, epochs=epoch + 1, shuffle=False).history
        loss, accuracy = any_size.evaluate(x_test, y_test, batch_size=500)
        measured = *seen["accuracy"], *seen["loss"], accuracy, loss, (time.time() - start) / 60
        rows.append(dict(zip(LOG, (epoch + 1, *(round(float(value), 4) for value in measured)))))
        write_log(log, rows)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            any_size.save_weights(pathlib.Path(scratch, state.name))
            os.replace(pathlib.Path(scratch, state.name), state)
    state.unlink(missing_ok=True)
    return rows


def one_cycle(peak, steps, rise=0.25):
    """A learning rate that rises to `peak` in the share `rise` of `steps` and falls to 0 along a cosine."""
    warmup = max(1, int(rise * steps))
    return keras.optimizers.schedules.CosineDecay(
        peak / 25, max(1, steps - warmup), warmup_target=peak, warmup_steps=warmup
    )


def write_log(path, rows):
    """Write the rows of a log as comma-separated values, under a temporary name first."""
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        with pathlib.Path(scratch, path.name).open("w", newline="") as file:
            writer = csv.DictWriter(file, LOG, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        os.replace(pathlib.Path(scratch, path.name), path)


def read_log(path):
    """The rows of a log, a list of dictionaries of numbers.

    Raises:
        ValueError: there is no such file, or it does not have the columns `LOG` with a number in each.
    """
    try:
        with pathlib.Path(path).open(newline="") as file:
            reader = csv.DictReader(file)
            rows = [{key: float(value) for key, value in row.items()} for row in reader]
    except (OSError, TypeError, ValueError) as error:  # a row too short or too long has None in it
        raise ValueError(f"{path} cannot be read as a log: {error}. Expected: numbers, {', '.join(LOG)}.") from error
    if tuple(reader.fieldnames or ()) != LOG:
        raise ValueError(f"{path} is no log of a training. Received: columns {reader.fieldnames}. Expected: {LOG}.")
    return [row | {"epoch": int(row["epoch"])} for row in rows]
