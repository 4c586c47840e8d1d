"""Time of the backward-rule methods over the bare gradient, and beside captum and zennit where they are installed.

    python tools/benchmark_rules.py            a small network, batch 64 and 1, and VGG16 at 224 x 224, batch 1

Everything in one run, on the same network and weights, the methods taken in turns; prints medians. Bare is a compiled
forward and backward pass of the same batch. For the other libraries: pip install torch captum zennit.
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


def in_torch(model):
    """A chain of convolutions, pooling and dense layers as a torch.nn.Sequential with the same weights."""
    import torch
    from torch import nn

    class ChannelsLastFlatten(nn.Module):
        def forward(self, x):
            return x.permute(0, 2, 3, 1).flatten(1)

    parts = []
    for layer in model.layers:
        weights = [torch.tensor(np.asarray(w)) for w in layer.get_weights()]
        if isinstance(layer, keras.layers.Conv2D):
            part = nn.Conv2d(*weights[0].shape[2:], layer.kernel_size, padding="same", bias=layer.use_bias)
            part.weight.data = weights[0].permute(3, 2, 0, 1).contiguous()
        elif isinstance(layer, keras.layers.Dense):
            part = nn.Linear(*weights[0].shape, bias=layer.use_bias)
            part.weight.data = weights[0].T.contiguous()
        elif isinstance(layer, keras.layers.MaxPooling2D):
            part = nn.MaxPool2d(2)
        elif isinstance(layer, keras.layers.AveragePooling2D):
            part = nn.AvgPool2d(2)
        elif isinstance(layer, keras.layers.Flatten):
            part = ChannelsLastFlatten()
        elif isinstance(layer, keras.layers.GlobalAveragePooling2D):
            part = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        else:
            continue
        if len(weights) == 2:
            part.bias.data = weights[1]
        parts += [part, nn.ReLU()] if getattr(layer, "activation", None) is keras.activations.relu else [part]
    return nn.Sequential(*parts).eval()


def others(model, x, y):
    """The same methods by captum and zennit: name -> function without arguments; empty if they are not there."""
    try:
        import torch
        from captum import attr
        from zennit.attribution import Gradient
        from zennit.composites import EpsilonGammaBox, EpsilonPlus
        from zennit.core import Composite
        from zennit.rules import Epsilon
        from zennit.types import Linear
    except ImportError:
        return {}
    network = in_torch(model)
    images, labels = torch.tensor(x).permute(0, 3, 1, 2).contiguous(), torch.tensor(y)
    assert np.allclose(network(images).detach().numpy(), model(x).numpy(), atol=1e-3)

    def captum(method):
        return lambda: method(network).attribute(images, target=labels)

    class AllEpsilon(Composite):
        def __init__(self):
            super().__init__(lambda ctx, name, module: Epsilon() if isinstance(module, Linear) else None)

    def zennit(make):
        def run():
            with Gradient(network, make()) as attributor:
                attributor(images, torch.eye(model.output_shape[1])[labels])

        return run

    return {
        "guided": captum(attr.GuidedBackprop),
        "deconvolution": captum(attr.Deconvolution),
        "LRP epsilon": zennit(AllEpsilon),
        "LRP epsilon-plus": zennit(EpsilonPlus),
        "LRP epsilon-gamma-box": zennit(lambda: EpsilonGammaBox(low=0.0, high=1.0)),
        "DeepLIFT": captum(attr.DeepLift),
    }


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
