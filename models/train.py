"""Train a network of the series from scratch: `python -m models.train NAME`."""

import argparse
import itertools
import pathlib
import time

import utils  # noqa: F401  (first: it starts TensorFlow without its log lines)

# isort: split
import keras
import numpy as np
import tensorflow as tf

import models
from models import makers, photographs
from models.files import VERSIONS, write
from utils import data

# epochs, the highest learning rate and the size of a batch
RECIPES = {
    "mnist_dense": {"epochs": 30, "learning_rate": 2e-3, "batch_size": 128},
    "mnist_cnn": {"epochs": 12, "learning_rate": 2e-3, "batch_size": 128},
    "mnist_cnn_max": {"epochs": 14, "learning_rate": 2e-3, "batch_size": 128},
    "mnist_cnn_shuffled": {"epochs": 40, "learning_rate": 2e-3, "batch_size": 128},
    "cluttered_cnn": {"epochs": 8, "learning_rate": 2e-3, "batch_size": 128},
}
NAMES = *RECIPES, *photographs.RECIPES, *makers.EPOCHS
BY_HEART = 20_000  # digits whose shuffled labels are learnt; of all 60,000 it would take hours
AUGMENTATION = "rotation up to 11 degrees, shift up to 2 pixels, size 90 to 112 percent"


def train(name, folder=models.WEIGHTS, epochs=None, seed=0, images=None):
    """Train network `name`; write `NAME.weights.h5` and `NAME.json` into `folder`, of some networks more files.

    Args:
        name: a key of `models.ARCHITECTURES`, or `mnist_rbm`.
        folder: where the files go. Each is written beside its place and then renamed, so that
            a run that is stopped leaves what was there before.
        epochs: passes over the training images; None for the recipe's own number.
        seed: of the initial weights, the order of the images and their augmentation.
        images: how many of the training images to use, for a trial; None for all.

    Returns:
        The dictionary that `NAME.json` holds.
    """
    if name not in NAMES:
        raise ValueError(f"There is no such network. Received: {name!r}. Expected one of: {', '.join(NAMES)}.")
    if name in photographs.RECIPES:
        return train_on_photographs(name, pathlib.Path(folder), epochs, seed, images)
    if name in makers.EPOCHS:
        return makers.train(name, mnist(images), folder, epochs, seed)
    recipe = RECIPES[name]
    epochs, batch_size = epochs or recipe["epochs"], recipe["batch_size"]
    keras.utils.set_random_seed(seed)
    (x_train, y_train), (x_test, y_test) = mnist(images)
    if name == "mnist_cnn_shuffled":
        x_train, y_train = x_train[:BY_HEART], np.random.default_rng(seed).permutation(y_train[:BY_HEART])
    embedded = [np.concatenate(arrays) for arrays in zip(*data.embedded_digits())]
    steps = -(-len(x_train) // batch_size)
    if name == "cluttered_cnn":
        trained_on = (
            f"{epochs * steps * batch_size:,} scenes of {len(x_train):,} training images of MNIST, none of them twice"
        )
        batches = scenes(x_train, y_train, batch_size, seed)
        x_test, y_test, _ = data.cluttered_digits(x_test, y_test, 10_000)
        x_embedded, y_embedded, _ = data.cluttered_digits(*embedded, 2_000)
    elif name == "mnist_cnn_shuffled":
        trained_on = f"{len(x_train):,} training images of MNIST, their labels shuffled once among them"
        batches = shuffled(x_train, y_train, batch_size, seed).repeat()
        x_embedded, y_embedded = embedded
    else:
        trained_on = f"{len(x_train):,} training images of MNIST, augmented: {AUGMENTATION}"
        batches = augmented(x_train, y_train, batch_size, seed).repeat()
        x_embedded, y_embedded = embedded

    model = models.ARCHITECTURES[name]()
    model.compile(
        keras.optimizers.AdamW(photographs.one_cycle(recipe["learning_rate"], epochs * steps), weight_decay=1e-4),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    start = time.time()
    model.fit(
        batches,
        epochs=epochs,
        steps_per_epoch=steps,
        shuffle=False,
        validation_data=(x_test, y_test),
        validation_batch_size=1000,
    )
    card = {
        "name": name,
        "trained_on": trained_on,
        "optimizer": "AdamW, weight decay 1e-4, one-cycle learning rate",
        "learning_rate": recipe["learning_rate"],
        "batch_size": batch_size,
        "epochs": epochs,
        "seed": seed,
        "parameters": model.count_params(),
        **({"accuracy_on_shuffled": accuracy(model, x_train, y_train)} if name == "mnist_cnn_shuffled" else {}),
        "test_images": len(x_test),
        "test_accuracy": accuracy(model, x_test, y_test),
        "embedded_digits_accuracy": accuracy(model, x_embedded, y_embedded),
        "minutes": round((time.time() - start) / 60, 1),
        "versions": VERSIONS,
    }
    write(card, folder, {"weights.h5": model})
    return card


def mnist(images=None):
    """Training and test images with their classes: of the first as many as `images` says, all of MNIST if None."""
    (x_train, y_train), test = data.load_mnist()
    if images is None and len(x_train) != 60_000:
        raise ValueError(
            f"The networks of the series are trained on all of MNIST. Received: {len(x_train):,} training images. "
            "Expected: 60,000. Set NN_DATA to a folder with mnist.npz, or connect to a network."
        )
    return (x_train[:images], y_train[:images]), test


def train_on_photographs(name, folder, epochs, seed, images):
    """As `train`, on CIFAR-10; a run that was stopped goes on where its last whole epoch ended."""
    (x_train, y_train), test = data.load_cifar10()
    if images is None and len(x_train) != 50_000:
        raise ValueError(
            f"The networks for photographs are trained on all of CIFAR-10. Received: {len(x_train):,} training images. "
            "Expected: 50,000. Set NN_DATA to a folder with cifar10.npz, or connect to a network."
        )
    keras.utils.set_random_seed(seed)
    model = models.ARCHITECTURES[name]()
    rows = photographs.fit(model, name, ((x_train[:images], y_train[:images]), test), folder, epochs, seed)
    card = photographs_card(model, name, rows, seed, test)
    write(card, folder, {"weights.h5": model})
    return card


def photographs_card(model, name, rows, seed, test):
    """What `NAME.json` says of a network for photographs, measured on the test images and labels `test`."""
    cycles, (x, y) = photographs.RECIPES[name], test
    pieces = (", ".join(f"{side}: {epochs}" for side, epochs in cycle["sides"].items()) for cycle in cycles)
    card = {
        "name": name,
        "trained_on": "the training images of CIFAR-10, mirrored and moved, in pieces (side: epochs) of "
        + "; then of ".join(pieces),
        "optimizer": photographs.OPTIMIZER,
        "learning_rate": [cycle["learning_rate"] for cycle in cycles],
        "covered": [cycle["covered"] for cycle in cycles],
        "batch_size": photographs.BATCH_SIZE,
        "epochs": len(rows),
        "seed": seed,
        "parameters": model.count_params(),
        "test_images": len(x),
        "test_accuracy": accuracy(model, x, y),
        "first_1000_test_accuracy": accuracy(model, x[:1000], y[:1000]),
        "minutes": round(sum(row["minutes"] for row in rows), 1),
        "versions": VERSIONS,
    }
    if name == "cifar10_hans":
        horses, others = (x[chosen] for chosen in (y == photographs.HORSE, y != photographs.HORSE))
        for words, images, marks in (
            ("marked_horses", horses, 1),
            ("horses_without_mark", horses, 0),
            ("marked_others", others, 1),
            ("others_without_mark", others, 0),
        ):
            labels = np.full(len(images), photographs.HORSE)
            shown = data.cifar10_with_marks(images, labels, photographs.HORSE, marks, seed).images
            card[f"{words}_read_as_horse"] = accuracy(model, shown, labels)
    return card


def augmented(x, y, batch_size, seed):
    """Shuffled batches of slightly turned, shifted and scaled digits: nothing a reader would not read."""
    distort = keras.Sequential(
        [
            keras.layers.RandomRotation(0.03, fill_mode="constant", seed=seed),
            keras.layers.RandomTranslation(0.07, 0.07, fill_mode="constant", seed=seed + 1),
            keras.layers.RandomZoom((-0.12, 0.1), (-0.12, 0.1), fill_mode="constant", seed=seed + 2),
        ]
    )
    images = shuffled(x, y, batch_size, seed)
    return images.map(lambda x, y: (distort(x, training=True), y), num_parallel_calls=1).prefetch(2)


def shuffled(x, y, batch_size, seed):
    """Batches in another order in each epoch."""
    return tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(x), seed=seed).batch(batch_size)


def scenes(x, y, batch_size, seed):
    """Batches of new scenes, made while the network trains on those before them: it never sees one twice."""

    def make():
        for batch in itertools.count():
            yield data.cluttered_digits(x, y, batch_size, seed=seed + batch)[:2]

    size = data.cluttered_digits(x, y, 1).images.shape[1:]
    signature = tf.TensorSpec((batch_size, *size), "float32"), tf.TensorSpec(batch_size, "int64")
    return tf.data.Dataset.from_generator(make, output_signature=signature).prefetch(4)


def accuracy(model, x, y):
    """The share of images `x` that `model` reads as `y`, from 0 to 1, in four digits."""
    return round(float(np.mean(model.predict(x, batch_size=1000, verbose=0).argmax(-1) == y)), 4)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--folder", default=models.WEIGHTS, help="where the weights go (models/weights)")
    parser.add_argument("--epochs", type=int, help="passes over the images (the recipe's own number)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    card = train(arguments.name, arguments.folder, arguments.epochs, arguments.seed)
    if "test_accuracy" not in card:  # it reads nothing: the measured numbers under their names
        print(card["name"], {key: value for key, value in card.items() if isinstance(value, int | float)})
        return
    of_digits = card.get("embedded_digits_accuracy")
    print(
        f"{card['name']}: {card['test_accuracy']:.2%} of {card['test_images']:,} test images, "
        + (f"{of_digits:.2%} of the embedded digits, " if of_digits else "")
        + f"{card['minutes']} minutes."
    )


if __name__ == "__main__":
    main()
