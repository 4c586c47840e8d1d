"""Time of class activation maps over the bare cost, and beside other libraries where they are installed.

    python tools/benchmark_cam.py

Bare is a compiled forward pass, and a backward pass down to the feature map and no further, of the same batch. The
methods are taken in turns, each called once before it is timed; prints medians. How to install the other libraries:
see `libraries`. (tf-keras-vis needs Keras 2, so it cannot take part.)
"""

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import utils  # noqa: F401  (first: it starts TensorFlow without its log lines)

# isort: split
import keras
import numpy as np
import tensorflow as tf
from benchmark import microseconds
from libraries import in_torch, installed

from models import load_model
from utils import cam

METHODS = {
    name: getattr(cam, name)
    for name in ("class_activation_map", "grad_cam", "grad_cam_plus_plus", "hires_cam", "layer_cam")
}


def bare(model, layer):
    """A compiled function of images and classes that returns the slopes of a feature map, with nothing around it."""
    cut = keras.Model(model.inputs, [model.get_layer(layer).output, model.outputs[0]])

    @tf.function(input_signature=[tf.TensorSpec([None, *model.input_shape[1:]]), tf.TensorSpec([None], tf.int64)])
    def run(x, target):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            A, scores = cut(x, training=False)
            score = tf.gather(scores, target, axis=1, batch_dims=1)
        return tape.gradient(score, A)

    return run.get_concrete_function()


def others(model, x, y, depth):
    """Grad-CAM by captum and pytorch-grad-cam, at the torch module `depth`; without those that are not there."""
    captum, library = installed("captum.attr", "pytorch_grad_cam")
    if captum is None and library is None:
        return {}
    import torch

    network, images = in_torch(model, x)
    labels, found = torch.tensor(y), {}
    if captum:
        attributor = captum.LayerGradCam(network, network[depth])
        found["captum grad_cam"] = lambda: attributor.attribute(images, target=labels, relu_attributions=True)
    if library:
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        goals = [ClassifierOutputTarget(int(c)) for c in y]
        for name, method in (("grad_cam", library.GradCAM), ("grad_cam_plus_plus", library.GradCAMPlusPlus)):

            def run(method=method):
                with method(model=network, target_layers=[network[depth]]) as cam:
                    return cam(input_tensor=images, targets=goals)

            found[f"pytorch-grad-cam {name}"] = run
    return found


def compare(title, model, layer, depth, x, y):
    """Print the table of one network and batch."""
    run, x_tf, y_tf = bare(model, layer), tf.constant(x), tf.constant(y)
    tasks = {"bare": (lambda: run(x_tf, y_tf).numpy(), len(x))}
    for name, method in METHODS.items():
        how = {} if name == "class_activation_map" else {"layer": layer}
        if name == "class_activation_map" and "GlobalAverage" not in type(model.layers[-2]).__name__:
            continue
        tasks[name] = (lambda m=method, h=how: m(model, x, y, batch_size=len(x), **h), len(x))
    tasks |= {name: (function, len(x)) for name, function in others(model, x, y, depth).items()}
    found = microseconds(tasks, warm=True)
    print(f"\n{title}\n{'method':38}{'ms':>9}{'over bare':>11}")
    for name, value in found.items():
        print(f"{name:38}{value * len(x) / 1e3:9.1f}{value / found['bare']:11.2f}")


def main():
    rng = np.random.default_rng(0)
    scenes, digits = rng.random((64, 60, 60, 1), "float32"), rng.random((64, 28, 28, 1), "float32")
    y = rng.integers(0, 10, 64)
    for batch in (64, 1):
        x, c = scenes[:batch], y[:batch]
        compare(f"cluttered_cnn, conv5, batch {batch}", load_model("cluttered_cnn"), "conv5", 11, x, c)
        compare(f"mnist_cnn, conv3, batch {batch}", load_model("mnist_cnn"), "conv3", 7, digits[:batch], c)


if __name__ == "__main__":
    main()
