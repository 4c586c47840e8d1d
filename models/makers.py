"""Training of the networks that make digits: what each is trained on, what is measured, what is written."""

import time

import numpy as np
import sklearn

import models
from models import boltzmann, code_space, denoising
from models.files import VERSIONS, write

EPOCHS = {"mnist_generator": 6, "mnist_discriminator": 6, "mnist_denoiser": 5, "mnist_rbm": 30}
BATCH_SIZE = 128


def train(name, splits, folder, epochs=None, seed=0):
    """Train network `name`, a key of `EPOCHS`, and write its files and cards into `folder`.

    Generator and discriminator are trained together: either name trains and writes both.

    Args:
        splits: `(x_train, y_train), (x_test, y_test)`, digits and classes.

    Returns:
        The dictionary that `NAME.json` holds.
    """
    epochs = epochs or EPOCHS[name]
    if name == "mnist_denoiser":
        return train_denoiser(splits, folder, epochs, seed)
    if name == "mnist_rbm":
        return train_rbm(splits, folder, epochs, seed)
    cards = train_generator(splits, folder, epochs, seed)
    return next(card for card in cards if card["name"] == name)


def train_generator(splits, folder, epochs, seed, weights=None):
    """Train generator and discriminator, `weights` as in `code_space.fit`; return the cards of both."""
    (x, _), (x_test, y_test) = splits
    classifier, other, weights = models.load_model("mnist_cnn"), "mnist_cnn_max", code_space.checked(weights)
    generator, discriminator, codes, rows, steps, snapshots = code_space.fit(
        classifier, splits, epochs, seed, weights, BATCH_SIZE
    )
    c_test = code_space.encoder(classifier).predict(x_test, batch_size=500, verbose=0)
    made = generator.predict(c_test, batch_size=500, verbose=0)
    told_apart = [
        np.mean((discriminator.predict(shown, batch_size=500, verbose=0) > 0) == by_hand)
        for shown, by_hand in ((x_test, True), (made, False))
    ]
    read = models.load_model(other).predict(made, batch_size=500, verbose=0).argmax(-1)
    together = {
        "trained_on": f"{len(x):,} training images of MNIST and their codes, the activations of dense1 of mnist_cnn",
        "encoder_sha256": models.model_card("mnist_cnn")["sha256"],
        "optimizer": "Adam",
        "loss_weights": weights,
        "batch_size": BATCH_SIZE,
        "epochs": epochs,
        "seed": seed,
    }
    measured = {
        "mnist_generator": {
            "code_deviation": round(code_space.deviation(codes), 4),
            "test_images": len(x_test),
            "test_image_loss": rows[-1]["test_image_loss"],
            "test_code_loss": rows[-1]["test_code_loss"],
            f"read_by_{other}_as_their_class": round(float(np.mean(read == y_test)), 4),
        },
        "mnist_discriminator": {"test_images": len(x_test), "test_accuracy": round(float(np.mean(told_apart)), 4)},
    }
    contents = {
        "mnist_generator": {
            "weights.h5": generator,
            "codes.npz": codes._asdict(),
            "snapshots.npz": {"steps": steps, "images": snapshots},
            "log.csv": (code_space.LOG, rows),
        },
        "mnist_discriminator": {"weights.h5": discriminator},
    }
    cards = [
        {"name": network.name, **together, "learning_rate": code_space.LEARNING_RATES[network.name]}
        | {"parameters": network.count_params(), **measured[network.name]}
        | {"minutes": round(sum(row["minutes"] for row in rows), 1), "versions": VERSIONS}
        for network in (generator, discriminator)
    ]
    for card in cards:
        write(card, folder, contents[card["name"]])
    return cards


def train_denoiser(splits, folder, epochs, seed):
    """Train the denoiser, and return its card."""
    (x, _), (x_test, _) = splits
    start, learning_rate = time.time(), 2e-3
    denoiser = denoising.fit(x, x_test, epochs, seed, BATCH_SIZE, learning_rate)
    card = {
        "name": "mnist_denoiser",
        "trained_on": f"{len(x):,} training images of MNIST, each with new normal noise whenever it is seen",
        "sigma": denoising.SIGMA,
        "optimizer": "Adam, one-cycle learning rate",
        "learning_rate": learning_rate,
        "batch_size": BATCH_SIZE,
        "epochs": epochs,
        "seed": seed,
        "parameters": denoiser.count_params(),
        "test_images": len(x_test),
        "test_mean_squared_error": round(denoising.test_error(denoiser, x_test, seed), 5),
        "mean_squared_noise": denoising.SIGMA**2,
        "minutes": round((time.time() - start) / 60, 1),
        "versions": VERSIONS,
    }
    write(card, folder, {"weights.h5": denoiser})
    return card


def train_rbm(splits, folder, epochs, seed):
    """Train two Boltzmann machines, ours and scikit-learn's, keep the one that CRITERION prefers, return its card."""
    (x, _), (x_test, _) = ((images.reshape(len(images), -1), labels) for images, labels in splits)
    start = time.time()
    machines = {
        f"persistent contrastive divergence, centred, rate {boltzmann.LEARNING_RATE} falling to 0": boltzmann.fit(
            x, epochs, seed
        ),
        f"scikit-learn's BernoulliRBM, rate {boltzmann.CONSTANT_RATE}": boltzmann.fit_scikit_learn(x, epochs, seed),
    }
    measured = {how: boltzmann.quality(rbm, x, x_test, seed) for how, rbm in machines.items()}
    best = max(measured, key=lambda how: measured[how]["test_log_likelihood"])
    card = {
        "name": "mnist_rbm",
        "trained_on": f"{len(x):,} training images of MNIST, 0 or 1 drawn from the grey levels",
        "optimizer": best,
        "learning_rate": boltzmann.CONSTANT_RATE if "scikit" in best else boltzmann.LEARNING_RATE,
        "batch_size": boltzmann.BATCH_SIZE,
        "epochs": epochs,
        "seed": seed,
        "parameters": sum(array.size for array in machines[best]),
        "test_images": len(x_test),
        **measured[best],
        "chosen_by": boltzmann.CRITERION,
        "compared": measured,
        "minutes": round((time.time() - start) / 60, 1),
        "versions": VERSIONS | {"scikit-learn": sklearn.__version__},
    }
    write(card, folder, {"npz": machines[best]._asdict()})
    return card
