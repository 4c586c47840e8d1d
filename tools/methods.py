"""All methods of the series under one call, as `tools/leaderboard.py` and `tools/sanity.py` compare them."""

import zlib

import numpy as np

from utils import attributions, cam, composites
from utils.quality import laplacian_edges

DRAWS = 200  # masks of RISE: a tenth of the paper's, and still among the slowest
UNDEFINED = "class activation map"  # only where the network ends in a global average


def random_maps(model, x, y):
    """Normal noise, drawn anew for another image or another network, but not for another class."""
    network = zlib.crc32(b"".join(weight.numpy().tobytes() for weight in model.weights))
    seeds = [zlib.crc32(image.tobytes(), network) for image in x]
    return np.stack([np.random.default_rng(seed).standard_normal(x.shape[1:], "float32") for seed in seeds])


def rows(layer, baseline=0.0, low=0.0, high=1.0):
    """Name -> (family, function (model, x, y) that returns maps), controls first.

    Args:
        layer: the name of the layer whose feature maps the class activation maps weigh.
        baseline: of the methods that compare with one, a number or one for each channel.
        low, high: the bounds of the pixels.
    """

    def relevance(composite):
        return lambda model, x, y: attributions.lrp(model, x, y, composite)

    def compared(method, **how):
        return lambda model, x, y: method(model, x, y, baseline=baseline, **how)

    def upsampled(method, **how):
        return lambda model, x, y: method(model, x, y, layer, upsample=True, verbose=False, **how)

    families = {
        "controls": {
            "the same everywhere": lambda model, x, y: np.ones_like(x),
            "random": random_maps,
            "distance from the baseline": lambda model, x, y: np.abs(x - np.asarray(baseline, x.dtype)),
            "edges (Laplacian)": lambda model, x, y: laplacian_edges(x),
        },
        "gradients": {
            "gradient": attributions.gradient,
            "sensitivity": attributions.sensitivity,
            "SmoothGrad": lambda model, x, y: attributions.smoothgrad(model, x, y, samples=25),
            "SmoothGrad, squared": lambda model, x, y: attributions.smoothgrad(
                model, x, y, samples=25, variant="square"
            ),
            "deconvolution": attributions.deconvolution,
            "guided backpropagation": attributions.guided_backprop,
            "gradient x input": attributions.gradient_x_input,
            "integrated gradients": compared(attributions.integrated_gradients, steps=25),
        },
        "relevance": {
            "LRP epsilon": relevance(composites.EPSILON),
            "LRP epsilon-plus": relevance(composites.EPSILON_PLUS),
            "LRP alpha2-beta1": relevance(composites.ALPHA2_BETA1),
            "LRP epsilon-gamma-box": relevance(composites.EPSILON_GAMMA_BOX),
            "deep Taylor": lambda model, x, y: attributions.deep_taylor(model, x, y, low, high),
            "DeepLIFT rescale": compared(attributions.deeplift),
            "DeepLIFT reveal-cancel": compared(attributions.deeplift, rule="reveal_cancel"),
        },
        "class activation": {
            UNDEFINED: lambda model, x, y: cam.class_activation_map(model, x, y, relu=True, upsample=True),
            "Grad-CAM": upsampled(cam.grad_cam),
            "Grad-CAM++": upsampled(cam.grad_cam_plus_plus),
            "HiResCAM": upsampled(cam.hires_cam),
            "LayerCAM": upsampled(cam.layer_cam),
            "guided Grad-CAM": lambda model, x, y: cam.guided_grad_cam(model, x, y, layer=layer, verbose=False),
        },
        "perturbation": {
            "occlusion": compared(attributions.occlusion),
            "RISE": compared(attributions.rise, masks=DRAWS),
        },
    }
    return {name: (family, method) for family, methods in families.items() for name, method in methods.items()}
