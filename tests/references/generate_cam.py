"""Write cam.npz: what captum, pytorch-grad-cam, torchcam and tf-keras-vis compute as class activation maps, in float64.

The networks are those of captum.npz and one of another kind, `pooled`, with images that are not square; the tests
compare utils/cam.py with these values and need none of the libraries. To make them again, after generate.py, in the
environment of generate_relevance.py, to which this adds:

    pip install --no-deps grad-cam==1.5.7 torchcam==0.5.0 ttach==0.0.3
    pip install opencv-python-headless==5.0.0.93 matplotlib pillow
    python tests/references/generate_cam.py

and then, since tf-keras-vis is for Keras 2, in one with Python 3.10:

    pip install tensorflow-cpu==2.12.1 tf-keras-vis==0.8.7
    python tests/references/generate_cam.py tf_keras_vis

Each replaces its own part of the file. A key is network/layer/library/method. The layers are "last", the last feature
map of convolutions, and "early", one before it, both behind their ReLU. A map is as its library has it before scaling
it to [0, 1] and to the size of the images, `[n, height, width]`; `fitted` in a key: it is resized.
"""

import os
import sys
import types
import warnings
from importlib.metadata import version
from pathlib import Path
from unittest import mock

import numpy as np

try:
    import torch
    from captum.attr import GuidedGradCam, LayerGradCam
    from generate import channels_first
    from generate_relevance import conv, dense, network
    from torch import nn

    for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.functional"):
        sys.modules[name] = types.ModuleType(name)  # pytorch-grad-cam needs none of it here, only the names
    sys.modules["torchvision.transforms"].__dict__.update(Compose=None, Normalize=None, ToTensor=None)
    sys.modules[name].resize = None

    import pytorch_grad_cam
    import torchcam.methods
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
except ImportError:
    if sys.argv[1:] != ["tf_keras_vis"]:
        raise
    nn = types.SimpleNamespace(Module=object)

NETWORKS = ("average", "maximum", "residual", "pooled")


# --- a network that ends in a global average pooling and a dense layer, as class activation mapping wants it


class Pooled(nn.Module):
    def __init__(self, w):
        super().__init__()
        self.conv1, self.relu1, self.pool1 = conv(w["conv1"]), nn.ReLU(), nn.MaxPool2d(2)
        self.conv2, self.relu2 = conv(w["conv2"]), nn.ReLU()
        self.pool2, self.dense = nn.AdaptiveAvgPool2d(1), dense(w["dense"])

    def forward(self, x):
        x = self.relu2(self.conv2(self.pool1(self.relu1(self.conv1(x)))))
        return self.dense(self.pool2(x).flatten(1))


def images_and_weights(rng):
    """Of `pooled`: its images are [11, 15], its last map [5, 7], so that no factor between them is an integer."""
    yield "inputs", rng.random((5, 11, 15, 2))
    yield "targets", np.array([2, 0, 3, 1, 2])
    for layer, shape in {"conv1": (3, 3, 2, 6), "conv2": (3, 3, 6, 8), "dense": (8, 4)}.items():
        yield f"weights/{layer}/kernel", rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[:-1]))
        yield f"weights/{layer}/bias", rng.normal(size=shape[-1]) / 5


def with_layers(name, weights):
    """The network, and its layers to explain."""
    net = Pooled(weights).eval() if name == "pooled" else network(name, weights)
    if name == "residual":
        return net, {"early": net.block1, "last": net.block2}  # a block ends in a ReLU
    return net, {"early": net.relu1, "last": net.relu2}


# --- what the libraries make of them: (key, array)


def by_captum(net, layer, x, target):
    cam = LayerGradCam(net, layer)
    signed = cam.attribute(x, target)
    yield "captum/grad_cam/signed", signed[:, 0]
    yield "captum/grad_cam", cam.attribute(x, target, relu_attributions=True)[:, 0]
    negative = LayerGradCam(lambda x: -net(x), layer)
    yield "captum/grad_cam/counterfactual", negative.attribute(x, target, relu_attributions=True)[:, 0]
    probabilities = LayerGradCam(lambda x: torch.softmax(net(x), -1), layer)
    yield "captum/grad_cam/output", probabilities.attribute(x, target, relu_attributions=True)[:, 0]

    yield "captum/fitted/bilinear", cam.interpolate(signed, tuple(x.shape[2:]), "bilinear")[:, 0]
    for mode in ("nearest", "bilinear"):  # its default is the first
        guided = GuidedGradCam(net, layer).attribute(x, target, interpolate_mode=mode)
        yield f"captum/guided_grad_cam/{mode}", guided.permute(0, 2, 3, 1)


def by_pytorch_grad_cam(net, layer, x, target):
    targets = [ClassifierOutputTarget(k) for k in target.tolist()]
    for method in ("GradCAM", "GradCAMPlusPlus", "HiResCAM", "LayerCAM", "ScoreCAM"):
        with getattr(pytorch_grad_cam, method)(net, [layer]) as cam:
            raw, fitted = raw_and_fitted(cam, x, targets)
        yield f"pytorch_grad_cam/{method}", raw
        if method == "GradCAM":
            yield f"pytorch_grad_cam/fitted/{method}", fitted


def raw_and_fitted(cam, x, targets):
    """What `get_cam_image` returns, a sum over channels, and what the call does: it takes the positive part, subtracts
    the minimum, divides by the maximum, resizes in float32, and does all but the resizing once more."""
    compute, raw = cam.get_cam_image, []

    def kept(*arguments):
        raw.append(compute(*arguments))
        return raw[-1]

    with mock.patch.object(cam, "get_cam_image", kept):
        fitted = cam(x, targets)
    return raw[0], fitted


def by_torchcam(net, layer, x, target):
    for method in ("GradCAM", "GradCAMpp", "LayerCAM", "ScoreCAM"):
        with getattr(torchcam.methods, method)(net, layer) as cam:
            yield f"torchcam/{method}", cam(target.tolist(), net(x), normalized=False)[0]
    if isinstance(net, Pooled) and layer is net.relu2:
        with torchcam.methods.CAM(net, layer, net.dense) as cam:
            net(x)
            yield "torchcam/CAM", cam(target.tolist(), normalized=False)[0]


# --- tf-keras-vis


def with_tf_keras_vis(arrays):
    import tensorflow as tf
    from tf_keras_vis.gradcam import Gradcam, GradcamPlusPlus
    from tf_keras_vis.layercam import Layercam
    from tf_keras_vis.scorecam import Scorecam
    from tf_keras_vis.utils.scores import CategoricalScore

    # its Score-CAM has weights in float32, and takes no other feature maps
    dot = tf.keras.backend.batch_dot
    tf.keras.backend.batch_dot = lambda maps, weights: dot(maps, tf.cast(weights, maps.dtype))
    tf.keras.backend.set_floatx("float64")
    layers = tf.keras.layers

    def pooling_network(x, pool, bias):
        x = layers.Conv2D(6, 3, 1, "same", activation="relu", use_bias=bias, name="conv1")(x)
        x = layers.Conv2D(8, 3, 1, "same", activation="relu", use_bias=bias, name="conv2")(pool(2)(x))
        x = layers.Dense(12, "relu", bias, name="dense1")(layers.Flatten()(pool(2)(x)))
        return layers.Dense(5, use_bias=bias, name="dense2")(x)

    def residual(x):
        x = layers.Conv2D(6, 3, 1, "same", activation="relu", name="stem")(x)
        for block in ("block1", "block2"):
            y = layers.Conv2D(6, 3, 1, "same", use_bias=False, name=f"{block}_conv1")(x)
            y = layers.ReLU()(layers.BatchNormalization(epsilon=1e-3, name=f"{block}_norm1")(y))
            y = layers.Conv2D(6, 3, 1, "same", use_bias=False, name=f"{block}_conv2")(y)
            y = layers.BatchNormalization(epsilon=1e-3, name=f"{block}_norm2")(y)
            x = layers.ReLU(name=block)(layers.Add()([x, y]))
        return layers.Dense(5, name="dense")(layers.GlobalAveragePooling2D()(x))

    def pooled(x):
        x = layers.Conv2D(6, 3, 1, "same", activation="relu", name="conv1")(x)
        x = layers.Conv2D(8, 3, 1, "same", activation="relu", name="conv2")(layers.MaxPooling2D(2)(x))
        return layers.Dense(4, name="dense")(layers.GlobalAveragePooling2D()(x))

    build = {
        "average": lambda x: pooling_network(x, layers.AveragePooling2D, False),
        "maximum": lambda x: pooling_network(x, layers.MaxPooling2D, True),
        "residual": residual,
        "pooled": pooled,
    }
    yield "versions/tf_keras_vis", np.array([f"{k} {version(k)}" for k in ("tensorflow", "tf-keras-vis", "numpy")])
    for name in NETWORKS:
        weights, x, target = weights_and_images(arrays, name)
        inputs = tf.keras.Input(x.shape[1:])
        model = tf.keras.Model(inputs, build[name](inputs))
        for layer in model.layers:
            variables = [variable.name.split("/")[-1].split(":")[0] for variable in layer.weights]
            layer.set_weights([weights[layer.name][variable] for variable in variables])
        np.testing.assert_allclose(model(x).numpy(), arrays[f"{name}/logits"], rtol=0, atol=1e-12)

        score = CategoricalScore(target.tolist())  # of the outputs, which are logits here
        ends = ("block1", "block2") if name == "residual" else ("conv1", "conv2")
        how = {"expand_cam": False, "normalize_cam": False}
        for layer, end in zip(("early", "last"), ends):
            # it would go back from a layer that is no convolution to one that is, in front of norm, sum and ReLU
            exactly = {"penultimate_layer": end, "seek_penultimate_conv_layer": False}
            for method in (Gradcam, GradcamPlusPlus, Layercam, Scorecam):
                maps = method(model)(score, x, **exactly, **how)
                yield f"{name}/{layer}/tf_keras_vis/{method.__name__}", np.asarray(maps)
        if name == "residual":
            yield f"{name}/default_layer/tf_keras_vis/Gradcam", np.asarray(Gradcam(model)(score, x, **how))
        if name == "pooled":
            fitted = Gradcam(model)(score, x, "conv2", normalize_cam=False)
            yield f"{name}/last/tf_keras_vis/fitted/Gradcam", fitted
            softmax = tf.keras.Model(inputs, layers.Softmax()(model.outputs[0]))
            yield (
                f"{name}/last/tf_keras_vis/output/GradcamPlusPlus",
                GradcamPlusPlus(softmax)(score, x, "conv2", **how).numpy(),
            )


# --- the file


def with_torch(arrays):
    torch.set_num_threads(1)
    libraries = ("torch", "captum", "grad-cam", "torchcam", "opencv-python-headless", "numpy")
    yield "versions/torch", np.array([f"{k} {version(k)}" for k in libraries])
    for name in NETWORKS:
        weights, images, target = weights_and_images(arrays, name)
        x, target = channels_first(torch.from_numpy(images)).contiguous().requires_grad_(), torch.from_numpy(target)
        yield f"{name}/logits", with_layers(name, weights)[0](x)
        for layer in ("early", "last"):
            for library in (by_captum, by_pytorch_grad_cam, by_torchcam):
                net, layers = with_layers(name, weights)
                for key, value in library(net, layers[layer], x, target):
                    yield f"{name}/{layer}/{key}", value


def weights_and_images(arrays, name):
    """Layer -> variable -> array; images `[n, height, width, channels]`; their classes."""
    weights = {}
    for key, value in arrays.items():
        if key.startswith(f"{name}/weights/"):
            layer, variable = key.split("/")[2:]
            weights.setdefault(layer, {})[variable] = value
    own = f"{name}/" if name == "pooled" else ""
    return weights, arrays[f"{own}inputs"], arrays[f"{own}targets"]


def main(part="torch"):
    warnings.filterwarnings("ignore")
    path = Path(__file__).with_name("cam.npz")
    with np.load(path.with_name("captum.npz")) as file:
        shared = dict(file)
    arrays = {f"pooled/{key}": value for key, value in images_and_weights(np.random.default_rng(2016))}
    if path.exists():  # keep the part of the other environment
        with np.load(path) as file:
            arrays |= {key: file[key] for key in file if ("tf_keras_vis" in key) != (part == "tf_keras_vis")}
    made = {}
    for key, value in {"torch": with_torch, "tf_keras_vis": with_tf_keras_vis}[part](shared | arrays):
        made[key] = value if isinstance(value, np.ndarray) else value.detach().numpy()
        assert key.startswith("versions") or np.isfinite(made[key]).all(), key
        assert key.startswith("versions") or "fitted" in key or made[key].dtype == "float64", key
    arrays |= made
    temporary = path.with_name("cam.npz.tmp")
    with open(temporary, "wb") as file:
        np.savez_compressed(file, **{key: arrays[key] for key in sorted(arrays)})
    os.replace(temporary, path)
    print(
        f"{path.name}: {len(arrays)} arrays, {path.stat().st_size / 1000:.0f} kB; {', '.join(made[f'versions/{part}'])}"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
