"""Time and memory of the gradient methods over the bare compiled cost: `python tools/benchmark.py`.

Bare is a compiled forward and backward pass of the same network at its best batch size, all in one
run, the methods taken in turns. Prints medians of microseconds per gradient, and the peak memory
that integrated gradients add.
"""

import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import utils  # noqa: F401  (first: it starts TensorFlow without its log lines)

# isort: split
import numpy as np
import tensorflow as tf

from models import load_model
from utils import attributions
from utils.data import load_mnist

ROUNDS = 9
BATCHES = (64, 128, 256, 512)


def bare(model):
    """A compiled function of images and classes that returns the gradient, with nothing around it."""

    @tf.function(input_signature=[tf.TensorSpec([None, *model.input_shape[1:]]), tf.TensorSpec([None], tf.int64)])
    def run(x, target):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            score = tf.gather(model(x, training=False), target, axis=1, batch_dims=1)
        return tape.gradient(score, x)

    return run.get_concrete_function()


def microseconds(tasks, warm=False):
    """Median time of each task, in microseconds per gradient; tasks: name -> (function, gradients).

    `warm`: call each function once more before it is timed, for short tasks, which suffer from what ran before.
    """
    times = {name: [] for name in tasks}
    for _ in range(ROUNDS + 1):
        for name, (function, gradients) in tasks.items():
            if warm:
                function()
            start = time.perf_counter()
            function()
            times[name].append((time.perf_counter() - start) / gradients * 1e6)
    return {name: statistics.median(values[1:]) for name, values in times.items()}  # the first compiles


def speed(name, x, y):
    """Print the table of one network."""
    model = load_model(name)
    run = bare(model)
    x_tf, y_tf = tf.constant(x), tf.constant(y)
    tasks = {
        f"bare, batch {b}": (lambda b=b: [run(x_tf[k : k + b], y_tf[k : k + b]) for k in range(0, 512, b)], 512)
        for b in BATCHES
    }
    for b in BATCHES:
        tasks |= {
            f"gradient, batch {b}": (lambda b=b: attributions.gradient(model, x, y, batch_size=b), 512),
            f"smoothgrad 50, batch {b}": (
                lambda b=b: attributions.smoothgrad(model, x[:20], y[:20], batch_size=b),
                1000,
            ),
        }
        for steps, images in ((50, 20), (300, 4), (3000, 1)):
            tasks[f"integrated gradients {steps}, batch {b}"] = (
                lambda s=steps, n=images, b=b: attributions.integrated_gradients(
                    model, x[:n], y[:n], steps=s, batch_size=b
                ),
                steps * images,
            )
    found = microseconds(tasks)
    best = {}
    for task, value in found.items():
        method, batch = task.rsplit(", batch ", 1)
        best[method] = min(best.get(method, (np.inf, 0)), (value, int(batch)))
    print(f"\n{name}\n{'method':30} us per gradient   over bare   best batch")
    for method, (value, batch) in best.items():
        print(f"{method:30} {value:15.1f} {value / best['bare'][0]:11.2f} {batch:12}")


def memory(steps):
    """Peak memory, in MiB, of a new process that explains one image with so many steps."""
    code = (
        "import utils, numpy as np\n"
        "from models import load_model; from utils.attributions import integrated_gradients\n"
        "model, x = load_model('mnist_cnn'), np.random.default_rng(0).random((1, 28, 28, 1), 'float32')\n"
        f"integrated_gradients(model, x, 3, steps={steps})\n"
        # Linux's own number; that of getrusage begins with the peak of the process that started this one
        "print([int(line.split()[1]) // 1024 for line in open('/proc/self/status') if line.startswith('VmHWM')][0])"
    )
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return int(answer.stdout.splitlines()[-1])


def main():
    (_, _), (x, y) = load_mnist()
    for name in ("mnist_cnn", "mnist_cnn_max"):
        speed(name, x[:512], y[:512])
    peaks = {steps: memory(steps) for steps in (1, 300, 3000)}
    print("\npeak memory of integrated gradients on mnist_cnn, over one step")
    for steps in (300, 3000):
        print(f"{steps:5} steps: {peaks[steps] - peaks[1]:+5} MiB (the process: {peaks[steps]} MiB)")


if __name__ == "__main__":
    main()
