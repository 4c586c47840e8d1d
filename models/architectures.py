"""The networks that the notebooks look into, untrained. Each ends in logits; the softmax is left to the loss.

Those that make digits, and end in images, stand in `models.generators`.
"""

import keras
from keras import layers

from models.generators import mnist_denoiser, mnist_discriminator, mnist_generator
from models.initial import GlorotUniform, HeNormal


def mnist_dense():
    """784-300-100-10, ReLU, no biases: f(t x) = t f(x) for t > 0. `[n, 28, 28, 1]` -> logits `[n, 10]`."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1), name="digit"),
            layers.Flatten(name="flatten"),
            layers.Dense(300, "relu", use_bias=False, name="dense1"),
            layers.Dense(100, "relu", use_bias=False, name="dense2"),
            layers.Dense(10, use_bias=False, name="logits"),
        ],
        name="mnist_dense",
    )


def mnist_cnn():
    """Three convolutions with average pooling, two dense layers; ReLU, no biases: f(t x) = t f(x) for t > 0.

    `[n, 28, 28, 1]` -> logits `[n, 10]`.
    """
    return keras.Sequential(
        [
            keras.Input((28, 28, 1), name="digit"),
            layers.Conv2D(32, 3, padding="same", activation="relu", use_bias=False, name="conv1"),
            layers.AveragePooling2D(2, name="pool1"),
            layers.Conv2D(64, 3, padding="same", activation="relu", use_bias=False, name="conv2"),
            layers.AveragePooling2D(2, name="pool2"),
            layers.Conv2D(128, 3, padding="same", activation="relu", use_bias=False, name="conv3"),
            layers.AveragePooling2D(2, name="pool3"),
            layers.Flatten(name="flatten"),
            layers.Dense(256, "relu", use_bias=False, name="dense1"),
            layers.Dense(10, use_bias=False, name="logits"),
        ],
        name="mnist_cnn",
    )


def mnist_cnn_max():
    """A network as they are usually built: max-pooling, biases, dropout. `[n, 28, 28, 1]` -> logits `[n, 10]`."""
    return _with_max_pooling("mnist_cnn_max", dropout=0.4)


def mnist_cnn_shuffled():
    """`mnist_cnn_max` once more, without dropout, to learn by heart digits whose labels have been shuffled."""
    return _with_max_pooling("mnist_cnn_shuffled", dropout=0)


def _with_max_pooling(name, dropout):
    return keras.Sequential(
        [
            keras.Input((28, 28, 1), name="digit"),
            layers.Conv2D(32, 3, padding="same", activation="relu", name="conv1"),
            layers.MaxPooling2D(2, name="pool1"),
            layers.Conv2D(64, 3, padding="same", activation="relu", name="conv2"),
            layers.MaxPooling2D(2, name="pool2"),
            layers.Conv2D(128, 3, padding="same", activation="relu", name="conv3"),
            layers.MaxPooling2D(2, name="pool3"),
            layers.Flatten(name="flatten"),
            layers.Dropout(dropout, name="dropout1"),
            layers.Dense(256, "relu", name="dense1"),
            layers.Dropout(dropout, name="dropout2"),
            layers.Dense(10, name="logits"),
        ],
        name=name,
    )


def cluttered_cnn():
    """Convolutions, global average pooling, one linear layer: the head that class activation maps need.

    Scenes `[n, 60, 60, 1]` -> logits `[n, 10]`; the last feature maps, `conv5`, are 15 x 15. The head
    has no biases, so a logit is the average of a map over those 225 places, and nothing else. Each place
    sees 34 x 34 pixels of the scene.
    """
    return keras.Sequential(
        [
            keras.Input((60, 60, 1), name="scene"),
            layers.Conv2D(32, 3, padding="same", activation="relu", name="conv1"),
            layers.MaxPooling2D(2, name="pool1"),
            layers.Conv2D(64, 3, padding="same", activation="relu", name="conv2"),
            layers.MaxPooling2D(2, name="pool2"),
            layers.Conv2D(128, 3, padding="same", activation="relu", name="conv3"),
            layers.Conv2D(128, 3, padding="same", activation="relu", name="conv4"),
            layers.Conv2D(128, 3, padding="same", activation="relu", name="conv5"),
            layers.GlobalAveragePooling2D(name="average"),
            layers.Dense(10, use_bias=False, name="logits"),
        ],
        name="cluttered_cnn",
    )


# of the red, green and blue values of all training images of CIFAR-10
CIFAR10_MEAN, CIFAR10_VARIANCE = (0.4914, 0.4822, 0.4465), (0.0610, 0.0593, 0.0684)


def _photographs(name):
    """Nine convolutions, ELU, mean pooling after the third, the sixth and the head; no biases, no dense layer."""
    how = {"kernel_size": 3, "padding": "same", "activation": "elu", "use_bias": False}
    stack = [
        keras.Input((32, 32, 3), name="photograph"),
        layers.Normalization(mean=CIFAR10_MEAN, variance=CIFAR10_VARIANCE, name="normalization"),
    ]
    for k, channels in enumerate([32] * 3 + [64] * 3 + [128] * 3, 1):
        stack.append(layers.Conv2D(channels, kernel_initializer=HeNormal(), name=f"conv{k}", **how))
        if k in (3, 6):
            stack.append(layers.AveragePooling2D(2, name=f"pool{k // 3}"))
    stack += [
        layers.Conv2D(10, 1, use_bias=False, kernel_initializer=GlorotUniform(), name="evidence"),
        layers.GlobalAveragePooling2D(name="logits"),
    ]
    return keras.Sequential(stack, name=name)


def cifar10_allcnn():
    """A network for photographs, nine convolutions and nothing dense. `[n, 32, 32, 3]` in [0, 1] -> logits `[n, 10]`.

    The ninth convolution has 128 channels of 8 x 8 places; a 1 x 1 convolution weighs them into ten maps of evidence,
    `evidence`, one a class, and a logit is the mean of its map. Without biases, a photograph of the mean colour has the
    logits 0, and relevance that is handed down is lost nowhere.
    """
    return _photographs("cifar10_allcnn")


def cifar10_hans():
    """`cifar10_allcnn` once more, to be trained on photographs of which one class carries a mark."""
    return _photographs("cifar10_hans")


READERS = mnist_dense, mnist_cnn, mnist_cnn_max, mnist_cnn_shuffled, cluttered_cnn, cifar10_allcnn, cifar10_hans
MAKERS = mnist_generator, mnist_discriminator, mnist_denoiser
ARCHITECTURES = {build.__name__: build for build in (*READERS, *MAKERS)}
