"""Time and memory of occlusion and RISE over bare forward passes: `python tools/benchmark_perturbation.py`.

Bare is a compiled forward pass of as many images, which are there already, at its best batch size. Everything in one
run, on the same network, the methods taken in turns; prints medians of microseconds per forward pass, and the memory
that a call adds.
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

from models import load_model
from utils import attributions
from utils.perturbation import random_masks

BATCHES = (64, 128, 256)


def bare(model, size, passes):
    """A function without arguments: the scores of so many images, `size` at a time."""
    spec = tf.TensorSpec([None, *model.input_shape[1:]])
    run = tf.function(lambda x: model(x, training=False), input_signature=[spec]).get_concrete_function()
    x = tf.constant(np.random.default_rng(0).random((size, *model.input_shape[1:]), "float32"))
    rest = x[: passes % size]
    return lambda: [run(x).numpy() for _ in range(passes // size)] + ([run(rest).numpy()] if len(rest) else [])


def compare(title, model, images, window, stride, masks, batches=BATCHES):
    """Print the table of one network."""
    shape = model.input_shape[1:]
    x = np.random.default_rng(0).random((images, *shape), "float32")
    windows = int(np.prod([-(-(length - window) // stride) + 1 for length in shape[:2]]))
    tasks = {f"bare, batch {size}": (bare(model, size, images * masks), images * masks) for size in batches}
    tasks["occlusion"] = (lambda: attributions.occlusion(model, x, 0, window, stride), images * windows)
    tasks["RISE"] = (lambda: attributions.rise(model, x, 0, masks), images * masks)
    tasks["the masks of RISE alone"] = (lambda: random_masks(shape[:2], 7, 0.5)(masks), images * masks)
    found = microseconds(tasks, warm=True)
    best = min(value for name, value in found.items() if name.startswith("bare"))
    print(f"\n{title}, {images} images, {windows} windows, {masks} masks")
    print(f"{'':26}us per pass   speed over bare")
    for name, value in found.items():
        print(f"{name:26}{value:11.1f}{best / value:18.2f}")


def status(key):
    """MiB, by Linux's own account."""
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024


def added(call):
    """The peak of a call's memory over what the process had before, in MiB; not of the first call, which compiles."""
    call()
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = status("VmRSS")
    call()
    return status("VmHWM") - before


def main():
    model = load_model("mnist_cnn")
    for images in (1, 8):
        compare("mnist_cnn", model, images, 4, 2, 256)
    keras.utils.set_random_seed(0)
    large = keras.applications.MobileNetV2(weights=None, classifier_activation=None)
    compare("MobileNetV2, 224 x 224", large, 1, 64, 32, 32, (1, 4, 16))
    x = np.random.default_rng(0).random((1, 28, 28, 1), "float32")
    print("\nmemory that a call adds, mnist_cnn, one image")
    for masks in (256, 2_560, 25_600):
        print(f"RISE, {masks:6} masks: {added(lambda n=masks: attributions.rise(model, x, 0, n)):5.1f} MiB")
    for stride in (2, 1):
        more = added(lambda s=stride: attributions.occlusion(model, x, 0, 4, s))
        print(f"occlusion, stride {stride}: {more:6.1f} MiB")


if __name__ == "__main__":
    main()
