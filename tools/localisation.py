"""Measure how well each method finds the digit in cluttered scenes: `python tools/localisation.py`.

Explains 1,000 scenes of MNIST's test digits on `cluttered_cnn`, each for the class that it shows, by every method of
the series, and writes `assets/localisation.json`: for each method and measure the mean and its 95 % interval, from a
bootstrap over the scenes. Takes a quarter of an hour on two cores; the notebooks show the table, and make its quick
rows again.
"""

import argparse
import pathlib
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import utils  # noqa: F401  (first: it starts TensorFlow without its log lines)

# isort: split
import numpy as np
from tables import write_table

from models import load_model, model_card
from utils import attributions, cam, composites
from utils.data import cluttered_digits, load_mnist
from utils.quality import MEASURES, mean_and_interval

SCENES, SEED, TARGET = 1000, 1, ROOT / "assets" / "localisation.json"


def relevance(composite):
    return lambda model, x, y: attributions.lrp(model, x, y, composite)


def upsampled(method, **how):
    if method is not cam.class_activation_map:
        how["verbose"] = False
    return lambda model, x, y: method(model, x, y, relu=True, upsample=True, **how)


METHODS = {
    "controls": {
        "the same everywhere": lambda model, x, y: np.ones_like(x),
        "random": lambda model, x, y: np.random.default_rng(0).random(x.shape, "float32"),
        "the ink itself": lambda model, x, y: x,
    },
    "gradients": {
        "sensitivity": attributions.sensitivity,
        "gradient x input": attributions.gradient_x_input,
        "integrated gradients": attributions.integrated_gradients,
        "SmoothGrad, squared": lambda model, x, y: attributions.smoothgrad(model, x, y, samples=25, variant="square"),
        "deconvolution": attributions.deconvolution,
        "guided backpropagation": attributions.guided_backprop,
    },
    "relevance": {
        "LRP epsilon": relevance(composites.EPSILON),
        "LRP epsilon-plus": relevance(composites.EPSILON_PLUS),
        "LRP alpha2-beta1": relevance(composites.ALPHA2_BETA1),
        "LRP epsilon-gamma-box": relevance(composites.EPSILON_GAMMA_BOX),
        "deep Taylor": attributions.deep_taylor,
        "DeepLIFT rescale": attributions.deeplift,
        "DeepLIFT reveal-cancel": lambda model, x, y: attributions.deeplift(model, x, y, rule="reveal_cancel"),
    },
    "class activation": {
        "class activation map": upsampled(cam.class_activation_map),
        "class activation map x input": lambda model, x, y: (
            cam.class_activation_map(model, x, y, relu=True, upsample=True)[..., None] * x
        ),
        "Grad-CAM": upsampled(cam.grad_cam),
        "Grad-CAM++": upsampled(cam.grad_cam_plus_plus),
        "Grad-CAM++, authors": upsampled(cam.grad_cam_plus_plus, variant="authors"),
        "HiResCAM": upsampled(cam.hires_cam),
        "LayerCAM": upsampled(cam.layer_cam),
        "Score-CAM": upsampled(cam.score_cam),
        "guided Grad-CAM": lambda model, x, y: cam.guided_grad_cam(model, x, y, verbose=False),
    },
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=SCENES)
    parser.add_argument("--target", type=pathlib.Path, default=TARGET)
    arguments = parser.parse_args()
    (_, _), (x_test, y_test) = load_mnist()
    if len(x_test) != 10_000:
        raise SystemExit("The table is of MNIST's 10,000 test digits, which are not within reach. Set NN_DATA.")
    scenes, labels, masks = cluttered_digits(x_test, y_test, arguments.scenes, seed=SEED)
    model, table = load_model("cluttered_cnn"), {}
    for family, methods in METHODS.items():
        for name, method in methods.items():
            start = time.time()
            maps = method(model, scenes, labels)
            found = {measure: mean_and_interval(score(maps, masks)) for measure, score in MEASURES.items()}
            table[name] = {"family": family} | {m: [round(float(v), 4) for v in found[m]] for m in found}
            line = "  ".join(f"{measure} {values[0]:.3f}" for measure, values in found.items())
            print(f"{name:26} {time.time() - start:6.1f} s  {line}", flush=True)
    card = {
        "network": "cluttered_cnn",
        "sha256": model_card("cluttered_cnn")["sha256"],
        "scenes": f"{arguments.scenes} of MNIST's test digits, seed {SEED}",
        "values": "mean, lower and upper end of the 95 % interval",
        "methods": table,
    }
    write_table(arguments.target, card)


if __name__ == "__main__":
    main()
