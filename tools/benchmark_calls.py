"""What a call costs beside its compiled function: `python tools/benchmark_calls.py`.

Checks, look-up, and the way in and out. Each compiled function is replaced by one that returns what it returned
last, and the method is called for one image. Prints microseconds: medians, and the least of all.
"""

import pathlib
import statistics
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import utils  # noqa: F401  (first: it starts TensorFlow without its log lines)

# isort: split
import numpy as np
import tensorflow as tf

from models import load_model
from utils import attributions, cam
from utils.relevance import _Compiled
from utils.scores import scores_of

CALLS = 500
METHODS = {
    name: attributions.METHODS[name] for name in ("gradient", "guided_backprop", "deconvolution", "lrp", "deeplift")
} | {"grad_cam": lambda *given: cam.grad_cam(*given, verbose=False)}


class Replayed:
    """A function that has been called once, and returns the same ever after, its arguments converted as ever."""

    def __init__(self, function):
        self.function, self.result = function, None

    def __call__(self, *arguments):
        given = [tf.convert_to_tensor(argument) for argument in arguments]
        if self.result is None:
            self.result = self.function(*given)
        return self.result


def main():
    x, target = np.random.default_rng(0).random((1, 28, 28, 1), "float32"), np.array([3])
    for name in ("mnist_cnn", "mnist_cnn_max"):
        model = load_model(name)
        for method in METHODS.values():
            method(model, x, target)
        compiled = scores_of(model)._compiled
        for key, function in compiled.items():
            if isinstance(function, _Compiled):
                function.function = Replayed(function.function)
            elif callable(function):
                compiled[key] = Replayed(function)
        for method_name, method in METHODS.items():
            times = []
            for _ in range(CALLS):
                start = time.perf_counter()
                method(model, x, target)
                times.append(1e6 * (time.perf_counter() - start))
            print(f"{name:14s} {method_name:16s} {statistics.median(times):5.0f} {min(times):5.0f}")


if __name__ == "__main__":
    main()
