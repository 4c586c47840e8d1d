"""Write captum.npz: what captum computes on three small networks with random weights, in float64.

The tests compare utils/attributions.py with these values and need neither torch nor captum. To make them again,
in an environment of its own:

    pip install torch==2.13.0 numpy==2.4.6
    pip install captum==0.9.0
    python tests/references/generate.py

Images and maps are stored channels last, weights in the layout of Keras (kernels [height, width, in, out]). Torch
keeps its default type, float32: captum's own nodes and step sizes then come out as they do for its users.
"""

import functools
import os
from pathlib import Path
from unittest import mock

import captum
import numpy as np
import torch
import torch.nn.functional as F
from captum.attr import InputXGradient, IntegratedGradients, NoiseTunnel, Saliency
from captum.attr._utils.approximation_methods import approximation_parameters

SIZE, CHANNELS, CLASSES = 12, 2, 5
STEPS, SAMPLES, SIGMA, SEED = 30, 8, 0.2, 0
RULES = {
    "left": "riemann_left",
    "right": "riemann_right",
    "midpoint": "riemann_middle",
    "trapezoid": "riemann_trapezoid",
    "gauss": "gausslegendre",
}
VARIANTS = {"mean": "smoothgrad", "square": "smoothgrad_sq", "variance": "vargrad"}


# --- the networks: weights in, logits out; images [n, height, width, channels] as in Keras


def pooling_network(x, w, pool):
    x = pool(F.relu(conv(channels_first(x), w["conv1"])), 2)
    x = pool(F.relu(conv(x, w["conv2"])), 2)
    x = F.relu(dense(x.permute(0, 2, 3, 1).flatten(1), w["dense1"]))  # flattened as Keras does: channels last
    return dense(x, w["dense2"])


def average(x, w):
    return pooling_network(x, w, F.avg_pool2d)


def maximum(x, w):
    return pooling_network(x, w, F.max_pool2d)


def residual(x, w):
    x = F.relu(conv(channels_first(x), w["stem"]))
    for block in ("block1", "block2"):
        y = F.relu(norm(conv(x, w[f"{block}_conv1"]), w[f"{block}_norm1"]))
        y = norm(conv(y, w[f"{block}_conv2"]), w[f"{block}_norm2"])
        x = F.relu(x + y)
    return dense(x.mean((2, 3)), w["dense"])


def channels_first(x):
    return x.permute(0, 3, 1, 2)


def conv(x, w):
    return F.conv2d(x, w["kernel"].permute(3, 2, 0, 1), w.get("bias"), padding="same")


def dense(x, w):
    return F.linear(x, w["kernel"].T, w.get("bias"))


def norm(x, w):
    return F.batch_norm(x, w["moving_mean"], w["moving_variance"], w["gamma"], w["beta"], eps=1e-3)


# --- their weights: network -> layer -> variable, under the names that Keras gives them


def random_weights(rng):
    def linear(*shape, bias=True):
        kernel = rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[:-1]))
        return {"kernel": kernel} | ({"bias": rng.normal(size=shape[-1]) / 5} if bias else {})

    def statistics(channels):
        return {
            "gamma": rng.uniform(0.5, 1.5, channels),
            "beta": rng.normal(size=channels) / 5,
            "moving_mean": rng.normal(size=channels) / 5,
            "moving_variance": rng.uniform(0.5, 2, channels),
        }

    def pooling(bias):
        flat = 8 * (SIZE // 4) ** 2
        layers = {
            "conv1": linear(3, 3, CHANNELS, 6, bias=bias),
            "conv2": linear(3, 3, 6, 8, bias=bias),
            "dense1": linear(flat, 12, bias=bias),
            "dense2": linear(12, CLASSES, bias=bias),
        }
        for layer in ("conv1", "conv2") if bias else ():
            # below 0: a unit that is on where the image is black is on everywhere, and all its pooling windows tie
            layers[layer]["bias"] = -np.abs(layers[layer]["bias"])
        return layers

    blocks = {"stem": linear(3, 3, CHANNELS, 6), "dense": linear(6, CLASSES)}
    for block in ("block1", "block2"):
        for part in "12":
            blocks[f"{block}_conv{part}"] = linear(3, 3, 6, 6, bias=False)
            blocks[f"{block}_norm{part}"] = statistics(6)
    return {"average": pooling(bias=False), "maximum": pooling(bias=True), "residual": blocks}


# --- what captum makes of them


def explanations(logits, x, target, baseline, noise):
    """Name -> array, for one network."""

    def probabilities(x):
        return torch.softmax(logits(x), -1)

    yield "logits", logits(x)
    yield "saliency", Saliency(logits).attribute(x, target, abs=False)
    yield "input_x_gradient", InputXGradient(logits).attribute(x, target)
    yield "output/saliency", Saliency(probabilities).attribute(x, target, abs=False)

    # captum draws its noise inside: hand it ours, the same for all images, which the tests can draw again
    ours = (SIGMA * noise).repeat(len(x), 1, 1, 1)
    tunnel = NoiseTunnel(Saliency(logits))
    for variant, name in VARIANTS.items():
        with mock.patch("torch.normal", return_value=ours):
            maps = tunnel.attribute(x, name, nt_samples=SAMPLES, stdevs=SIGMA, target=target, abs=False)
        yield f"smoothgrad/{variant}", maps

    for rule, method in RULES.items():
        for start, point in {"zero": torch.zeros_like(baseline), "image": baseline}.items():
            maps, delta = IntegratedGradients(logits).attribute(
                x, point[None], target, n_steps=STEPS, method=method, return_convergence_delta=True
            )
            yield f"integrated_gradients/{rule}/{start}", maps
            yield f"convergence_delta/{rule}/{start}", delta
    # a probability is curved along the way, so that here the nodes count too, not only the weights
    yield (
        "output/integrated_gradients/trapezoid/image",
        IntegratedGradients(probabilities).attribute(
            x, baseline[None], target, n_steps=STEPS, method="riemann_trapezoid"
        ),
    )


def main():
    torch.set_num_threads(1)
    rng = np.random.default_rng(2017)
    arrays = {
        "versions": np.array([f"torch {torch.__version__}", f"captum {captum.__version__}", f"numpy {np.__version__}"]),
        "inputs": rng.random((4, SIZE, SIZE, CHANNELS)),  # noise: no two values tie in a pooling window
        "targets": np.array([0, 3, 4, 1]),
        "baseline": rng.random((SIZE, SIZE, CHANNELS)),
        "steps": np.array(STEPS),
        "sigma": np.array(SIGMA),
        "seed": np.array(SEED),
        "noise": np.random.default_rng(SEED).standard_normal((SAMPLES, SIZE, SIZE, CHANNELS)),
    }
    for rule, method in RULES.items():
        step_sizes, alphas = approximation_parameters(method)
        arrays[f"rules/{rule}/nodes"] = np.array(alphas(STEPS))
        arrays[f"rules/{rule}/step_sizes"] = np.array(step_sizes(STEPS))  # captum rounds these to float32 later
    x, target, baseline, noise = (torch.from_numpy(arrays[k]) for k in ("inputs", "targets", "baseline", "noise"))
    x.requires_grad_()  # captum would do so, with a warning

    for name, weights in random_weights(rng).items():
        tensors = {layer: {k: torch.from_numpy(v) for k, v in w.items()} for layer, w in weights.items()}
        network = {"average": average, "maximum": maximum, "residual": residual}[name]
        for layer, variables in weights.items():
            arrays |= {f"{name}/weights/{layer}/{variable}": value for variable, value in variables.items()}
        for key, value in explanations(functools.partial(network, w=tensors), x, target, baseline, noise):
            arrays[f"{name}/{key}"] = value.detach().numpy()
            assert value.dtype == torch.float64, key

    path = Path(__file__).with_name("captum.npz")
    part = path.with_name("captum.npz.tmp")
    with open(part, "wb") as file:
        np.savez_compressed(file, **arrays)
    os.replace(part, path)
    print(f"{path.name}: {len(arrays)} arrays, {path.stat().st_size / 1000:.0f} kB; {', '.join(arrays['versions'])}")


if __name__ == "__main__":
    main()
