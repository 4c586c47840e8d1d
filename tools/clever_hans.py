"""Measure which methods find a planted shortcut: `python tools/clever_hans.py`.

Explains the horses among the first 1,000 test photographs of CIFAR-10, each for the class horse, on `cifar10_hans`,
which has learned that a magenta mark means "horse", and on `cifar10_allcnn`, which never saw one: with a mark, and
without it (measured at the place where the mark would be). Writes `assets/clever_hans.json`: for each method and
measure the mean and its 95 % interval, from a bootstrap over the photographs, or Wilson's where all are hits and
misses. Takes ten minutes on two cores; notebook 6.5 shows the table, and makes its quick rows again.
"""

import argparse
import pathlib
import sys
import time
import warnings

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import utils  # noqa: F401  (first: it starts TensorFlow without its log lines)

# isort: split
import numpy as np
from tables import with_ends, write_table

from models import load_model, model_card
from utils import attributions, cam, composites
from utils.data import cifar10_with_marks, load_cifar10
from utils.quality import MEASURES

PHOTOGRAPHS, HORSE, TARGET = 1000, 7, ROOT / "assets" / "clever_hans.json"
NETWORKS = "cifar10_hans", "cifar10_allcnn"


def relevance(composite):
    return lambda model, x, y: attributions.lrp(model, x, y, composite)


def upsampled(method, **how):
    return lambda model, x, y: method(model, x, y, upsample=True, verbose=False, **how)


def without_sign(method):
    """The absolute values of a method's map, before its channels are summed."""
    return lambda model, x, y: np.abs(method(model, x, y))


METHODS = {
    "controls": {
        "the same everywhere": lambda model, x, y: np.ones_like(x),
    },
    "gradients": {
        "gradient": attributions.gradient,
        "gradient, absolute": without_sign(attributions.gradient),
        "sensitivity": attributions.sensitivity,
        "interior gradients": attributions.interior_gradients,
        "interior gradients, absolute": without_sign(attributions.interior_gradients),
        "SmoothGrad": attributions.smoothgrad,
        "SmoothGrad, absolute": without_sign(attributions.smoothgrad),
        "deconvolution": attributions.deconvolution,
        "guided backpropagation": attributions.guided_backprop,
        "gradient x input": attributions.gradient_x_input,
        "simple Taylor": attributions.simple_taylor,
        "integrated gradients": attributions.integrated_gradients,
    },
    "relevance": {
        "LRP epsilon": relevance(composites.EPSILON),
        "LRP epsilon-plus": relevance(composites.EPSILON_PLUS),
        "LRP alpha2-beta1": relevance(composites.ALPHA2_BETA1),
        "LRP epsilon-gamma-box": relevance(composites.EPSILON_GAMMA_BOX),
        "deep Taylor": attributions.deep_taylor,
        "DeepLIFT": attributions.deeplift,
    },
    "class activation": {
        "class activation map": lambda model, x, y: cam.class_activation_map(model, x, y, relu=True, upsample=True),
        "Grad-CAM, conv9": upsampled(cam.grad_cam, layer="conv9"),
        "Grad-CAM, conv6": upsampled(cam.grad_cam, layer="conv6"),
        "Grad-CAM, conv3": upsampled(cam.grad_cam, layer="conv3"),
        "Grad-CAM++, conv6": upsampled(cam.grad_cam_plus_plus, layer="conv6"),
        "HiResCAM, conv6": upsampled(cam.hires_cam, layer="conv6"),
        "LayerCAM, conv6": upsampled(cam.layer_cam, layer="conv6"),
        "Score-CAM, conv6": upsampled(cam.score_cam, layer="conv6"),
        "guided Grad-CAM": lambda model, x, y: cam.guided_grad_cam(model, x, y, layer="conv9", verbose=False),
    },
}


def measured(method, model, x, masks):
    """For each measure: the mean over the photographs and the ends of its interval, in four digits."""
    with warnings.catch_warnings():  # in a network without ReLUs, two of the methods say that they are its gradient
        warnings.simplefilter("ignore")
        maps = method(model, x, HORSE)
    return {name: with_ends(score(maps, masks)) for name, score in MEASURES.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photographs", type=int, default=PHOTOGRAPHS)
    parser.add_argument("--target", type=pathlib.Path, default=TARGET)
    arguments = parser.parse_args()
    (_, _), (x_test, y_test) = load_cifar10()
    if len(x_test) != 10_000:
        raise SystemExit("The table is of CIFAR-10's 10,000 test photographs, which are not within reach. Set NN_DATA.")
    x, y = x_test[: arguments.photographs], y_test[: arguments.photographs]
    horses = np.flatnonzero(y == HORSE)
    marked, _, masks = cifar10_with_marks(x, y, HORSE, share=1)
    shown = {"marked": marked[horses], "without mark": x[horses]}
    models = {name: load_model(name) for name in NETWORKS}
    tables = {where: {name: {} for name in NETWORKS} for where in shown}
    for family, methods in METHODS.items():
        for name, method in methods.items():
            start = time.time()
            for where, photographs in shown.items():
                for network, model in models.items():
                    row = measured(method, model, photographs, masks[horses])
                    tables[where][network][name] = {"family": family} | row
            line = "  ".join(f"{n} {tables['marked'][n][name]['relevance mass'][0]:.3f}" for n in NETWORKS)
            print(f"{name:30} {time.time() - start:6.1f} s  {line}", flush=True)
    card = {
        "sha256": {name: model_card(name)["sha256"] for name in NETWORKS},
        "photographs": f"the {len(horses)} horses among the first {len(x):,} test photographs, explained as horses",
        "values": "mean, lower and upper end of the 95 % interval",
        "tables": tables,
    }
    write_table(arguments.target, card)


if __name__ == "__main__":
    main()
