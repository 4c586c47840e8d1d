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

from models.architectures import CIFAR10_MEAN
from utils.data import cifar10_with_marks

# one cycle of the learning rate after the other: side of the pieces -> epochs, the share of a side that is covered, the
# highest learning rate
FIRST = {"sides": {20: 5, 24: 7, 32: 4}, "covered": 0, "learning_rate": 2e-3}
SECOND = {"sides": {24: 7, 28: 3, 32: 2}, "covered": 1 / 3, "learning_rate": 1.5e-3}
THIRD = {"sides": {24: 7, 28: 3, 32: 3}, "covered": 1 / 4, "learning_rate": 1.5e-3}
SHORT = {"sides": {20: 3, 24: 3, 32: 2}, "covered": 0, "learning_rate": 2e-3}
RECIPES = {"cifar10_allcnn": [FIRST, SECOND, THIRD], "cifar10_hans": [SHORT]}
BATCH_SIZE = 128
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

    Half of them are mirrored, and a square of `covered` times their side gets the mean colour (cutout: DeVries and
    Taylor 2017, arXiv:1708.04552; here the square lies within the piece). What comes depends on `seed` and `epoch`
    alone. With `marked` `[n]`, those photographs get a mark, somewhere in their piece.
    """

    def __init__(self, images, labels, side, batch_size, seed, epoch, marked=None, covered=0):
        super().__init__()
        self.images = np.pad(images, [(0, 0), (2, 2), (2, 2), (0, 0)], mode="reflect")
        self.labels, self.side, self.batch_size, self.marked = labels, side, batch_size, marked
        self.seed, self.epoch, self.square = seed, epoch, round(covered * side)
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
        if self.square:
            places = rng.integers(self.side - self.square + 1, size=(len(chosen), 2))
            for piece, (top, left) in zip(pieces, places):
                piece[top : top + self.square, left : left + self.square] = CIFAR10_MEAN
        if self.marked is not None and self.marked[chosen].any():
            here = np.flatnonzero(self.marked[chosen])
            seed = int(rng.integers(2**31))
            pieces = cifar10_with_marks(pieces, self.labels[chosen], share=1, seed=seed, indices=here).images
        return pieces, self.labels[chosen]


def fit(model, name, splits, folder, epochs=None, seed=0):
    """Train `model` by the recipe of `name`, and keep what a later call needs to go on, in `folder`.

    After each epoch, `NAME.log.csv` has one more row, and `NAME.runningK.weights.h5` holds the weights and the state
    of the optimizer in cycle K, which begins with an optimizer that is new; that file is deleted after the last epoch.

    Args:
        splits: `(x_train, y_train), (x_test, y_test)`, photographs in [0, 1] and classes.
        epochs: how many of the recipe's epochs; None for all. The learning rate of the last cycle falls to 0 in these.

    Returns:
        The rows of the log, a list of dictionaries with the keys `LOG`. Accuracy and loss are the means over the epoch
        in training, on pieces, and those of the whole test images after it.
    """
    (x, y), (x_test, y_test) = splits
    cycles, folder = RECIPES[name], pathlib.Path(folder)
    stages = [(k, side, times) for k, cycle in enumerate(cycles) for side, times in cycle["sides"].items()]
    plan = [(k, side) for k, side, times in stages for _ in range(times)][:epochs]  # cycle and side of each epoch
    steps = -(-len(x) // BATCH_SIZE)
    marked = None
    if name == "cifar10_hans":
        marked = cifar10_with_marks(x, y, HORSE, SHARE, seed).masks.any((1, 2))
        x_test = cifar10_with_marks(x_test, y_test, HORSE, SHARE, seed).images
    folder.mkdir(parents=True, exist_ok=True)
    log, rows = folder / f"{name}.log.csv", []
    states = [folder / f"{name}.running{k + 1}.weights.h5" for k in range(plan[-1][0] + 1)]
    begun = max((k for k, state in enumerate(states) if state.is_file()), default=0)
    any_size = keras.Sequential([keras.Input((None, None, 3)), *model.layers])
    for k, state in list(enumerate(states))[begun:]:
        epochs_of_cycle = [epoch for epoch, (cycle, _) in enumerate(plan) if cycle == k]
        rate = one_cycle(cycles[k]["learning_rate"], len(epochs_of_cycle) * steps, rise=0.05)
        any_size.compile(
            Muon(rate, weight_decay=0.05),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        any_size.optimizer.build(any_size.trainable_variables)
        if state.is_file():
            any_size.load_weights(state)
            rows = read_log(log)[: epochs_of_cycle[0] + int(any_size.optimizer.iterations) // steps]
            print(f"Going on after epoch {len(rows)}.")
        for epoch in epochs_of_cycle[len(rows) - epochs_of_cycle[0] :]:
            start = time.time()
            batches = Pieces(x, y, plan[epoch][1], BATCH_SIZE, seed, epoch, marked, cycles[k]["covered"])
            seen = any_size.fit(batches, initial_epoch=epoch, epochs=epoch + 1, shuffle=False).history
            loss, accuracy = any_size.evaluate(x_test, y_test, batch_size=500)
            measured = *seen["accuracy"], *seen["loss"], accuracy, loss, (time.time() - start) / 60
            rows.append(dict(zip(LOG, (epoch + 1, *(round(float(value), 4) for value in measured)))))
            write_log(log, rows)
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                any_size.save_weights(pathlib.Path(scratch, state.name))
                os.replace(pathlib.Path(scratch, state.name), state)
            for earlier in states[:k]:
                earlier.unlink(missing_ok=True)
    state.unlink(missing_ok=True)
    return rows


def one_cycle(peak, steps, rise=0.25):
    """A learning rate that rises to `peak` in the share `rise` of `steps` and falls to 0 along a cosine."""
    warmup = max(1, int(rise * steps))
    return keras.optimizers.schedules.CosineDecay(
        peak / 25, max(1, steps - warmup), warmup_target=peak, warmup_steps=warmup
    )


def write_log(path, rows, columns=LOG):
    """Write the rows of a log as comma-separated values, under a temporary name first."""
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        with pathlib.Path(scratch, path.name).open("w", newline="") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        os.replace(pathlib.Path(scratch, path.name), path)


def read_log(path, columns=LOG):
    """The rows of a log, a list of dictionaries of numbers.

    Raises:
        ValueError: there is no such file, or it does not have these columns with a number in each.
    """
    try:
        with pathlib.Path(path).open(newline="") as file:
            reader = csv.DictReader(file)
            rows = [{key: float(value) for key, value in row.items()} for row in reader]
    except (OSError, TypeError, ValueError) as error:  # a row too short or too long has None in it
        raise ValueError(
            f"{path} cannot be read as a log: {error}. Expected: numbers, {', '.join(columns)}."
        ) from error
    if tuple(reader.fieldnames or ()) != columns:
        raise ValueError(f"{path} is no log of a training. Received: columns {reader.fieldnames}. Expected: {columns}.")
    return [row | {"epoch": int(row["epoch"])} for row in rows]
