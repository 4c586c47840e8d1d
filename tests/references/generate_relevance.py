"""Write relevance.npz: what captum, zennit, shap and innvestigate compute by backward rules, in float64.

The networks are those of captum.npz; the tests compare utils/relevance.py with these values and need none of the
libraries. To make them again, after generate.py, in an environment of its own:

    pip install torch==2.13.0 numpy==2.4.6
    pip install captum==0.9.0
    pip install --no-deps zennit==0.5.1 shap==0.51.0
    pip install click scipy scikit-learn pandas numba cloudpickle slicer==0.0.8
    python tests/references/generate_relevance.py

and, since innvestigate needs an older TensorFlow, in one with Python 3.10 (its guided backpropagation
and deep Taylor fail on the residual network, whose batch normalizations it treats in ways of its own: it is left out):

    pip install tensorflow-cpu==2.12.1 innvestigate==2.1.2
    python tests/references/generate_relevance.py innvestigate

Each replaces its own part of the file. Maps are stored channels last, of the first `IMAGES` images of captum.npz.
"""

import os
import sys
import types
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np

try:
    import torch
    from captum.attr import LRP, Deconvolution, DeepLift, GuidedBackprop
    from captum.attr._utils.custom_modules import Addition_Module
    from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule, EpsilonRule, GammaRule
    from generate import channels_first
    from torch import nn

    for name in ("torchvision", "torchvision.models", "torchvision.models.resnet"):
        sys.modules[name] = types.ModuleType(name)  # zennit wants no more of it than the names of two classes
    sys.modules[name].Bottleneck = sys.modules[name].BasicBlock = type

    import shap
    from zennit import composites, rules
    from zennit.canonizers import SequentialMergeBatchNorm
    from zennit.layer import Sum
    from zennit.types import Convolution, Linear
except ImportError:
    if sys.argv[1:] != ["innvestigate"]:
        raise
    nn = types.SimpleNamespace(Module=object)

IMAGES = 3


# --- the networks as modules, which is what these libraries put their hooks on; images [n, channels, height, width]


class Pooling(nn.Module):
    """`between` stands between a ReLU and the pooling behind it."""

    def __init__(self, w, pool, between=lambda x: x):
        super().__init__()
        self.conv1, self.relu1, self.pool1 = conv(w["conv1"]), nn.ReLU(), pool(2)
        self.conv2, self.relu2, self.pool2 = conv(w["conv2"]), nn.ReLU(), pool(2)
        self.dense1, self.relu3, self.dense2 = dense(w["dense1"], (3, 3, 8)), nn.ReLU(), dense(w["dense2"])
        self.between = between

    def forward(self, x):
        x = self.pool1(self.between(self.relu1(self.conv1(x))))
        self.inner = self.pool2(self.between(self.relu2(self.conv2(x))))
        return self.dense2(self.relu3(self.dense1(self.inner.flatten(1))))


class Residual(nn.Module):
    """`add` makes a module or function that adds two tensors; with `merged`, a norm has its epsilon in the variance."""

    def __init__(self, w, add, merged=False):
        super().__init__()
        self.stem, self.relu = conv(w["stem"]), nn.ReLU()
        self.block1, self.block2 = (Block(w, name, add, merged) for name in ("block1", "block2"))
        self.pool, self.dense = nn.AdaptiveAvgPool2d(1), dense(w["dense"])

    def forward(self, x):
        self.inner = self.block1(self.relu(self.stem(x)))
        return self.dense(self.pool(self.block2(self.inner)).flatten(1))


class Block(nn.Module):
    def __init__(self, w, name, add, merged):
        super().__init__()
        self.conv1, self.norm1 = conv(w[f"{name}_conv1"]), norm(w[f"{name}_norm1"], merged)
        self.relu1 = nn.ReLU()
        self.conv2, self.norm2 = conv(w[f"{name}_conv2"]), norm(w[f"{name}_norm2"], merged)
        self.add, self.relu2 = add(), nn.ReLU()

    def forward(self, x):
        y = self.norm2(self.conv2(self.relu1(self.norm1(self.conv1(x)))))
        return self.relu2(self.add(x, y))


class ZennitAdd(nn.Module):
    """A sum that zennit sees."""

    def __init__(self):
        super().__init__()
        self.sum = Sum()

    def forward(self, x, y):
        return self.sum(torch.stack([x, y], -1))


def plain_add():
    return torch.add  # the sum as `x + y` writes it: no module, so that no rule is put on it


def conv(w):
    return filled(nn.Conv2d(*w["kernel"].shape[2:], 3, padding=1), w["kernel"].transpose(3, 2, 0, 1), w.get("bias"))


def dense(w, flattened=None):
    """`flattened`: the shape of the images that were flattened, which Keras flattens channels last."""
    kernel = w["kernel"]
    if flattened:
        kernel = kernel.reshape(*flattened, -1).transpose(2, 0, 1, 3).reshape(kernel.shape)
    return filled(nn.Linear(*kernel.shape), kernel.T, w.get("bias"))


def filled(layer, weight, bias):
    layer.weight = nn.Parameter(torch.from_numpy(weight.copy()))
    layer.bias = None if bias is None else nn.Parameter(torch.from_numpy(bias))
    return layer


def norm(w, merged):
    layer = filled(nn.BatchNorm2d(len(w["gamma"]), eps=0 if merged else 1e-3), w["gamma"], w["beta"])
    layer.running_mean = torch.from_numpy(w["moving_mean"])
    layer.running_var = torch.from_numpy(w["moving_variance"] + (1e-3 if merged else 0))
    return layer


def network(name, w, add=plain_add, merged=False, between=lambda x: x):
    if name == "residual":
        return Residual(w, add, merged).eval()
    return Pooling(w, {"average": nn.AvgPool2d, "maximum": nn.MaxPool2d}[name], between).eval()


# --- what the libraries make of them: (key, array)


def by_captum(name, w, x, target, baseline):
    yield "captum/guided_backprop", GuidedBackprop(network(name, w)).attribute(x, target)
    yield "captum/deconvolution", Deconvolution(network(name, w)).attribute(x, target)

    # Its rule for max-pooling is lost where a ReLU is right below: both hooks are on one tensor, and the one of the
    # ReLU, which was there first, has noted the gradient before. With `+ 0` between them there are two tensors.
    for start, point in {"zero": torch.zeros_like(baseline), "image": baseline}.items():
        net = network(name, w, between=lambda x: x + 0)
        yield f"captum/deeplift/{start}", DeepLift(net).attribute(x, point, target)
        if name == "maximum":
            yield f"captum/deeplift_without_zero/{start}", DeepLift(network(name, w)).attribute(x, point, target)

    for key, rule in {"epsilon": EpsilonRule, "gamma": GammaRule, "alpha1_beta0": Alpha1_Beta0_Rule}.items():
        net = network(name, w, Addition_Module)
        for module in net.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                module.rule = rule()  # elsewhere its default, EpsilonRule
        yield f"captum/lrp/{key}", LRP(net).attribute(x, target)


def by_shap(name, w, x, target, baseline):
    if name == "average":  # nothing new
        return
    for start, point in {"zero": torch.zeros_like(baseline), "image": baseline}.items():
        values = shap.DeepExplainer(network(name, w), point).shap_values(x)
        yield f"shap/deeplift/{start}", torch.from_numpy(values[np.arange(len(x)), ..., target.numpy()])


def table(first=None, convolution=None, linear=None):
    """A composite: `first` for the first convolution, `convolution` for the others, `linear` for what is left."""
    linear = linear or rules.Epsilon
    layers = composites.layer_map_base() + [(Convolution, (convolution or linear)()), (Linear, linear())]
    first_map = [(Convolution, first())] if first else []
    return lambda **k: composites.SpecialFirstLayerMapComposite(layers, first_map, **k)


def box():
    return rules.ZBox(0.0, 1.0)


def with_bias():
    """Its composites, and others of the same kind: key -> function that makes one."""
    return {
        "epsilon": table(),
        "epsilon_quarter": table(linear=lambda: rules.Epsilon(0.25)),
        "epsilon_plus": composites.EpsilonPlus,
        "epsilon_alpha2_beta1": composites.EpsilonAlpha2Beta1,
        "epsilon_gamma_box": lambda **k: composites.EpsilonGammaBox(0.0, 1.0, **k),
        "epsilon_plus_flat": composites.EpsilonPlusFlat,
        "alpha1_beta0": table(linear=lambda: rules.AlphaBeta(1, 0)),
        "alpha2_beta1": table(linear=rules.AlphaBeta),
        "z_plus": table(linear=rules.ZPlus),
        "w_square_z_plus": table(rules.WSquare, linear=rules.ZPlus),
        "z_box_z_plus": table(box, linear=rules.ZPlus),
    }


def without_bias():
    """Without the bias; z-box is the same with it, since b - b+ - b- = 0."""
    no = {"zero_params": "bias"}

    def plus():
        return rules.ZPlus(**no)

    return {
        "epsilon": table(linear=lambda: rules.Epsilon(**no)),
        "gamma": table(linear=lambda: rules.Gamma(**no)),
        "alpha2_beta1": table(linear=lambda: rules.AlphaBeta(**no)),
        "epsilon_plus": table(convolution=plus),
        "epsilon_plus_flat": table(rules.Flat, plus),
        "deep_taylor": table(box, linear=plus),
        "deep_taylor_unbounded": table(lambda: rules.WSquare(**no), linear=plus),
    }


ONCE = ("gamma", "alpha1_beta0", "alpha2_beta1", "w_square_z_plus", "z_box_z_plus")  # stored for one network


def by_zennit(name, w, x, target, baseline):
    for key in ("guided_backprop", "deconvolution"):
        composite = {"guided_backprop": composites.GuidedBackprop, "deconvolution": composites.DeconvNet}[key]()
        yield f"zennit/{key}", explained(network(name, w), composite, x, target, torch.ones_like)[0]

    def relevance(composite, merge=True, x=x, **how):
        net = network(name, w, **{"add": ZennitAdd, "merged": True} | how)
        canonizers = [SequentialMergeBatchNorm()] if merge else []
        return explained(net, composite(canonizers=canonizers), x, target, lambda scores: scores)

    for key, composite in with_bias().items():
        if name == "maximum" or key not in ONCE:
            yield f"zennit/{key}", relevance(composite)[0]
    for key, composite in without_bias().items():
        # the average network has no biases, and the convolutions of the maximum network have no positive ones
        if key not in ONCE if name == "residual" else name == "maximum" and not key.startswith("epsilon_plus"):
            yield f"zennit/without_bias/{key}", relevance(composite)[0]
    if name == "maximum":  # gray is 0: inputs of both signs
        signed = (x - 0.5).detach().requires_grad_()
        for key, rule in {"gamma": rules.Gamma, "alpha2_beta1": rules.AlphaBeta}.items():
            yield f"zennit/signed/{key}", relevance(table(linear=rule), x=signed)[0]
    yield "zennit/inner/epsilon_plus", relevance(composites.EpsilonPlus)[1]
    if name == "residual":
        for key in ("epsilon", "epsilon_gamma_box"):
            yield f"zennit/epsilon_left_in/{key}", relevance(with_bias()[key], merged=False)[0]
        yield "zennit/no_rule_at_sums/epsilon_plus", relevance(composites.EpsilonPlus, add=plain_add)[0]
        yield "zennit/norms_not_merged/epsilon_plus", relevance(composites.EpsilonPlus, merge=False)[0]


def explained(net, composite, x, target, seed):
    """What goes back to the images, and to an inner layer."""
    with composite.context(net) as hooked:
        scores = hooked(x)
        start = torch.zeros_like(scores)
        start[range(len(x)), target] = seed(scores[range(len(x)), target]).detach()
        return torch.autograd.grad(scores, (x, hooked.inner), start)


# --- innvestigate


METHODS = {
    "guided_backprop": {},
    "deconvnet": {},
    "lrp.z": {},
    "lrp.alpha_1_beta_0": {},
    "lrp.alpha_2_beta_1": {},
    "lrp.z_plus": {},
    "lrp.w_square": {},
    "lrp.flat": {},
    "deep_taylor": {},
    "deep_taylor.bounded": {"low": 0.0, "high": 1.0},
}
FOR_AVERAGE = ("guided_backprop", "lrp.z", "lrp.w_square", "deep_taylor")  # it has no biases, little else is new


def with_innvestigate(stored):
    import innvestigate
    import tensorflow as tf

    tf.compat.v1.disable_eager_execution()
    tf.keras.backend.set_floatx("float64")
    layers = tf.keras.layers

    def pooling_network(pool, bias):
        x = start = tf.keras.Input(stored["inputs"].shape[1:])
        for k, filters in (1, 6), (2, 8):
            x = layers.Conv2D(filters, 3, 1, "same", activation="relu", use_bias=bias, name=f"conv{k}")(x)
            x = pool(2)(x)
        x = layers.Dense(12, "relu", bias, name="dense1")(layers.Flatten()(x))
        return tf.keras.Model(start, layers.Dense(5, use_bias=bias, name="dense2")(x))

    yield "versions/innvestigate", np.array([f"{k} {version(k)}" for k in ("tensorflow", "innvestigate", "numpy")])
    x, target = stored["inputs"][:IMAGES], stored["targets"][:IMAGES]
    for name, pool in {"average": layers.AveragePooling2D, "maximum": layers.MaxPooling2D}.items():
        model = pooling_network(pool, bias=name == "maximum")
        for layer in model.layers:
            variables = [variable.name.split("/")[-1].split(":")[0] for variable in layer.weights]
            layer.set_weights([stored[f"{name}/weights/{layer.name}/{variable}"] for variable in variables])
        check_logits(model.predict(x), stored, name)
        for method in FOR_AVERAGE if name == "average" else METHODS:
            analyzer = innvestigate.create_analyzer(method, model, neuron_selection_mode="index", **METHODS[method])
            maps = [analyzer.analyze(x[k : k + 1], int(target[k])) for k in range(IMAGES)]
            yield f"{name}/innvestigate/{method}", np.concatenate(maps)


# --- the file


def with_torch(stored):
    torch.set_num_threads(1)
    libraries = ("torch", "captum", "zennit", "shap", "numpy")
    yield "versions/torch", np.array([f"{k} {version(k)}" for k in libraries])
    images = channels_first(torch.from_numpy(stored["inputs"][:IMAGES])).contiguous()
    baseline = channels_first(torch.from_numpy(stored["baseline"][None])).contiguous()
    target = torch.from_numpy(stored["targets"][:IMAGES])
    for name in ("average", "maximum", "residual"):
        weights = {}
        for key, value in stored.items():
            if key.startswith(f"{name}/weights/"):
                layer, variable = key.split("/")[2:]
                weights.setdefault(layer, {})[variable] = value
        check_logits(network(name, weights)(images).detach().numpy(), stored, name)
        for library in (by_captum, by_shap, by_zennit):
            x = images.clone().requires_grad_()
            for key, value in library(name, weights, x, target, baseline):
                yield f"{name}/{key}", np.ascontiguousarray(value.detach().permute(0, 2, 3, 1).numpy())


def check_logits(logits, stored, name):
    np.testing.assert_allclose(logits, stored[f"{name}/logits"][:IMAGES], rtol=0, atol=1e-12)


def main(part="torch"):
    warnings.filterwarnings("ignore")  # hooks and gradients that captum and shap take away again
    path = Path(__file__).with_name("relevance.npz")
    arrays = {}
    if path.exists():  # keep the part of the other environment
        with np.load(path) as file:
            arrays = {key: file[key] for key in file if ("innvestigate" in key) != (part == "innvestigate")}
    with np.load(path.with_name("captum.npz")) as file:
        stored = dict(file)
    made = dict({"torch": with_torch, "innvestigate": with_innvestigate}[part](stored))
    for key, value in made.items():
        assert key.startswith("versions") or (value.dtype == "float64" and np.isfinite(value).all()), key
    arrays |= made
    temporary = path.with_name("relevance.npz.tmp")
    with open(temporary, "wb") as file:
        np.savez_compressed(file, **{key: arrays[key] for key in sorted(arrays)})
    os.replace(temporary, path)
    print(
        f"{path.name}: {len(arrays)} arrays, {path.stat().st_size / 1000:.0f} kB; {', '.join(made[f'versions/{part}'])}"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
