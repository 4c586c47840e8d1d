"""The networks that make or mend digits, untrained: a generator with its discriminator, and a denoiser."""

import keras
from keras import layers


def mnist_generator():
    """From a code to a digit: codes `[n, 256]` -> images `[n, 28, 28, 1]` in [0, 1].

    A code is what the layer `dense1` of `mnist_cnn` says of a digit. Those are activations, never below 0, so that a
    number below 0 counts as 0. Dosovitskiy and Brox (2016, arXiv:1602.02644), at the size of a digit.
    """
    return keras.Sequential(
        [
            keras.Input((256,), name="code"),
            layers.ReLU(name="activations"),
            layers.Dense(7 * 7 * 64, "relu", name="dense"),
            layers.Reshape((7, 7, 64), name="places"),
            layers.UpSampling2D(2, name="larger1"),
            layers.Conv2D(32, 5, padding="same", activation="relu", name="conv1"),
            layers.UpSampling2D(2, name="larger2"),
            layers.Conv2D(1, 5, padding="same", activation="sigmoid", name="digit"),
        ],
        name="mnist_generator",
    )


def mnist_discriminator():
    """Written by hand, or made by the generator? Images `[n, 28, 28, 1]` -> logits `[n, 1]` of "by hand"."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1), name="digit"),
            layers.Conv2D(32, 5, strides=2, padding="same", name="conv1"),
            layers.LeakyReLU(0.2, name="relu1"),
            layers.Conv2D(64, 3, strides=2, padding="same", name="conv2"),
            layers.LeakyReLU(0.2, name="relu2"),
            layers.Flatten(name="flatten"),
            layers.Dense(1, name="logits"),
        ],
        name="mnist_discriminator",
    )


def mnist_denoiser():
    """From a noisy digit to the mean of the digits it may have been: `[n, 28, 28, 1]` -> `[n, 28, 28, 1]`.

    r(x) = x + g(x). g goes down to 7 x 7 places and up again, and on the way up sees the maps of the way down beside
    its own (a U-Net: Ronneberger et al. 2015, arXiv:1505.04597). Its last layer is linear: a sigmoid would bound r, and
    with it (r(x) - x) / sigma^2, the score that `utils.experts.denoiser_expert` reads from it.
    """
    how = {"kernel_size": 3, "padding": "same", "activation": "relu"}
    x = keras.Input((28, 28, 1), name="noisy")
    fine = layers.Conv2D(16, name="down1", **how)(x)
    middle = layers.Conv2D(32, name="down2", **how)(layers.AveragePooling2D(2, name="pool1")(fine))
    coarse = layers.Conv2D(64, name="down3", **how)(layers.AveragePooling2D(2, name="pool2")(middle))
    coarse = layers.Conv2D(64, name="coarse", **how)(coarse)
    up = layers.Concatenate(name="beside2")([layers.UpSampling2D(2, name="larger2")(coarse), middle])
    up = layers.Conv2D(32, name="up2", **how)(up)
    up = layers.Concatenate(name="beside1")([layers.UpSampling2D(2, name="larger1")(up), fine])
    up = layers.Conv2D(16, name="up1", **how)(up)
    change = layers.Conv2D(1, 3, padding="same", name="change")(up)
    return keras.Model(x, layers.Add(name="clean")([x, change]), name="mnist_denoiser")
