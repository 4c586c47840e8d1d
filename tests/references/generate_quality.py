"""Write quality.npz: what Quantus measures of maps on the networks of captum.npz, in float64.

The tests compare utils/quality with these values and need neither torch nor Quantus. To make them again, after
generate.py, in an environment of its own:

    pip install torch==2.13.0 numpy==2.4.6
    pip install captum==0.9.0 quantus==0.6.0
    python tests/references/generate_quality.py

(Its areas under curves are left out: they call np.trapz, which this NumPy no longer has.)

Quantus hands images over as float32, so the images are those of captum.npz rounded to that, and all fills are multiples
of 1/4. Arrays are stored channels last.
"""

import functools
import os
from importlib.metadata import version
from pathlib import Path

import numpy as np
import quantus
import torch
from generate import average, maximum, residual
from quantus.functions.perturb_func import noisy_linear_imputation
from quantus.functions.similarity_func import (
    correlation_pearson,
    correlation_spearman,
    distance_euclidean,
    distance_manhattan,
    ssim,
)

FILL, COPIES, SIGMA = 0.25, 5, 0.05
PLAIN = {"normalise": False, "disable_warnings": True}
CALL = {"channel_first": True, "softmax": False}


class Network(torch.nn.Module):
    """A function of images and weights, in float64."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x.double().permute(0, 2, 3, 1))


class Layers(torch.nn.Module):
    """The network "maximum" of layers that Quantus can reset."""

    def __init__(self, weights):
        super().__init__()
        self.conv1, self.conv2 = torch.nn.Conv2d(2, 6, 3, padding="same"), torch.nn.Conv2d(6, 8, 3, padding="same")
        self.dense1, self.dense2 = torch.nn.Linear(72, 12), torch.nn.Linear(12, 5)
        for name, layer in self.double().named_children():
            order = (3, 2, 0, 1) if name.startswith("conv") else (1, 0)
            kernel = weights[name]["kernel"].permute(order)
            layer.load_state_dict({"weight": kernel, "bias": weights[name]["bias"]})

    def forward(self, x):
        w = {}
        for name, layer in self.named_children():
            order = (2, 3, 1, 0) if name.startswith("conv") else (1, 0)
            w[name] = {"kernel": layer.weight.permute(order), "bias": layer.bias}
        return maximum(x.double().permute(0, 2, 3, 1), w)


def input_x_gradient(model, inputs, targets, summed=False, **how):
    """Maps `[n, channels, height, width]` as Quantus asks for them, the channels summed or not."""
    x = torch.from_numpy(np.asarray(inputs, "float64")).requires_grad_()
    scores = model(x)[torch.arange(len(x)), torch.as_tensor(targets)]
    maps = (x * torch.autograd.grad(scores.sum(), x)[0]).detach().numpy()
    return maps.sum(1, keepdims=True) if summed else maps


def removed(model, x, y, a):
    """Name -> curves `[n, steps]`."""
    for patch in (3, 4, 5):  # 5 does not divide 12
        for order in ("morf", "lerf"):
            metric = quantus.RegionPerturbation(patch, order, perturb_baseline=FILL, **PLAIN)
            yield f"regions/{order}/{patch}", np.array(metric(model, x, y, a, **CALL))
    for name, maps, at_once in (("pixels", a.sum(1, keepdims=True), 2), ("values", a, 1)):
        metric = quantus.PixelFlipping(at_once, perturb_baseline=FILL, **PLAIN)
        yield name, np.array(metric(model, x, y, maps, **CALL))


def robustness(model, x, y, a, noise):
    for name, norm in (("manhattan", distance_manhattan), ("euclidean", distance_euclidean)):
        draws = iter(noise)
        metric = quantus.LocalLipschitzEstimate(
            norm_numerator=norm,
            nr_samples=COPIES,
            perturb_func=lambda arr, indices, draws=draws, **how: arr + next(draws).ravel(),
            **PLAIN,
        )
        yield f"lipschitz/{name}", np.array(metric(model, x, y, a, explain_func=input_x_gradient, **CALL))


def randomisation(weights, x, y):
    """Scores for each layer that is reset, from the last on, and the maps that they compare."""
    found = []

    def explain(model, inputs, targets, **how):
        found.append(input_x_gradient(model, inputs, targets, summed=True))
        if len(found) == 3:  # of the model itself (twice), then with its last layer reset
            layer = model.dense2
            found[:0] = [layer.weight.detach().numpy().T.copy(), layer.bias.detach().numpy().copy()]
        return found[-1]

    model = Layers(weights).eval()
    metric = quantus.MPRT(abs=True, **PLAIN)
    scores = metric(model, x, y, None, explain_func=explain, channel_first=True)
    kernel, bias, maps, *others = found
    yield "mprt/kernel", kernel
    yield "mprt/bias", bias
    yield "mprt/layers", np.array([name for name in scores if name != "original"])
    yield "mprt/scores", np.array([values for name, values in scores.items() if name != "original"])
    yield "mprt/maps", np.stack(others[-len(scores) + 1 :])[:, :, 0]
    flat, other = (np.abs(one).reshape(len(x), -1) for one in (maps, others[-1]))
    yield "pearson", correlation_pearson(flat, other, batched=True)
    yield "spearman", correlation_spearman(flat, other, batched=True)
    yield "ssim", np.array(ssim(np.abs(maps[:, 0]), np.abs(others[-1][:, 0]), batched=True))


def imputed(image, rng):
    """Holes `[k, height, width]`, and what is drawn into them without noise."""
    holes = np.zeros((6, *image.shape[1:]), bool)
    holes[0, 4:8, 3:9] = holes[1, :5, :5] = holes[2, :, -2:] = holes[3, 6, 6] = True
    holes[4:] = rng.random(holes[4:].shape) < [[[0.3]], [[0.9]]]
    drawn = [noisy_linear_imputation(image, np.flatnonzero(hole), noise=0).transpose(1, 2, 0) for hole in holes]
    return {"holes": holes, "imputed": np.array(drawn)}


def main():
    torch.set_num_threads(1)
    with np.load(Path(__file__).with_name("captum.npz")) as file:
        stored = dict(file)
    rng = np.random.default_rng(2018)
    images = stored["inputs"].astype("float32").astype("float64")
    x, y = images.transpose(0, 3, 1, 2), stored["targets"]
    noise = SIGMA * rng.standard_normal((COPIES, *images.shape[1:]))
    libraries = ("quantus", "torch", "numpy", "scipy", "scikit-image")
    arrays = {
        "versions": np.array([f"{name} {version(name)}" for name in libraries]),
        "fill": np.array(FILL),
        "noise": noise,
    } | imputed(x[0], rng)
    for name, network in {"average": average, "maximum": maximum, "residual": residual}.items():
        weights = {}
        for key in stored:
            if key.startswith(f"{name}/weights/"):
                layer, variable = key.split("/")[2:]
                weights.setdefault(layer, {})[variable] = torch.from_numpy(stored[key])
        model = Network(functools.partial(network, w=weights)).eval()
        a = input_x_gradient(model, x, y)
        found = dict(robustness(model, x, y, a, noise.transpose(0, 3, 1, 2)))
        if name == "maximum":
            found |= dict(removed(model, x, y, a)) | dict(randomisation(weights, x, y))
        arrays |= {f"{name}/{key}": value for key, value in found.items()}

    path = Path(__file__).with_name("quality.npz")
    part = path.with_name("quality.npz.tmp")
    with open(part, "wb") as file:
        np.savez_compressed(file, **arrays)
    os.replace(part, path)
    print(f"{path.name}: {len(arrays)} arrays, {path.stat().st_size / 1000:.0f} kB; {', '.join(arrays['versions'])}")


if __name__ == "__main__":
    main()
