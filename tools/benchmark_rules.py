"""Time of the backward-rule methods over the bare gradient, and beside captum and zennit where they are installed.

    python tools/benchmark_rules.py            a small network, batch 64 and 1, and VGG16 at 224 x 224, batch 1

Everything in one run, on the same network and weights, the methods taken in turns; prints medians. Bare is a compiled
forward and backward pass of the same batch. How to install the other libraries: see `libraries`.
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
from benchmark import bare, microseconds
from libraries import in_torch, installed

from models import load_model
from utils import attributions, composites

METHODS = {
    "guided": attributions.guided_backprop,
    "deconvolution": attributions.deconvolution,
    "LRP epsilon": lambda *a, **k: attributions.lrp(*a, composite=composites.EPSILON, **k),
    "LRP epsilon-plus": lambda *a, **k: attributions.lrp(*a, composite=composites.EPSILON_PLUS, **k),
    "LRP epsilon-gamma-box": lambda *a, **k: attributions.lrp(*a, composite=composites.EPSILON_GAMMA_BOX, **k),
    "DeepLIFT": attributions.deeplift,
}


def others(model, x, y):
    """The same methods by captum and zennit: name -> function without arguments; without those that are not there."""
    captum, zennit = installed("captum.attr", "zennit.composites")
    if captum is None and zennit is None:
        return {}
    import torch

    network, images = in_torch(model, x)
    labels, found = torch.tensor(y), {}

    def by_captum(method):
        return lambda: method(network).attribute(images, target=labels)

    def by_zennit(make):
        from zennit.attribution import Gradient

        def run():
            with Gradient(network, make()) as attributor:
                attributor(images, torch.eye(model.output_shape[1])[labels])

        return run

    if captum:
        found["guided"] = by_captum(captum.GuidedBackprop)
        found["deconvolution"] = by_captum(captum.Deconvolution)
        found["DeepLIFT"] = by_captum(captum.DeepLift)
    if zennit:
        from zennit.rules import Epsilon

        # zennit has no table of epsilon alone
        found["LRP epsilon"] = by_zennit(lambda: zennit.LayerMapComposite([(zennit.Linear, Epsilon())]))
        found["LRP epsilon-plus"] = by_zennit(zennit.EpsilonPlus)
        found["LRP epsilon-gamma-box"] = by_zennit(lambda: zennit.EpsilonGammaBox(low=0.0, high=1.0))
    return found


def compare(title, model, x, y):
    """Print the table of one network and batch."""
    run, x_tf, y_tf = bare(model), tf.constant(x), tf.constant(y)
    tasks = {"bare": (lambda: run(x_tf, y_tf).numpy(), len(x))}
    tasks |= {name: (lambda m=m: m(model, x, y, batch_size=len(x)), len(x)) for name, m in METHODS.items()}
    tasks |= {f"other {name}": (function, len(x)) for name, function in others(model, x, y).items()}
    found = microseconds(tasks, warm=True)
    print(f"\n{title}\n{'method':24}{'ms':>9}{'over bare':>11}{'other library':>16}{'times ours':>12}")
    for name in ("bare", *METHODS):
        other = found.get(f"other {name}")
        line = f"{name:24}{found[name] * len(x) / 1e3:9.1f}{found[name] / found['bare']:11.2f}"
        print(line + (f"{other * len(x) / 1e3:16.1f}{other / found[name]:12.1f}" if other else ""))


def main():
    rng = np.random.default_rng(0)
    for name, batch in (("mnist_cnn", 64), ("mnist_cnn", 1), ("mnist_cnn_max", 64)):
        x, y = rng.random((batch, 28, 28, 1), "float32"), rng.integers(0, 10, batch)
        compare(f"{name}, batch {batch}", load_model(name), x, y)
    keras.utils.set_random_seed(0)
    vgg = keras.applications.VGG16(weights=None, classifier_activation=None)
    compare("VGG16, 224 x 224, batch 1", vgg, rng.random((1, 224, 224, 3), "float32"), np.array([3]))


if __name__ == "__main__":
    main()
