"""Draw the pictures in assets/ again: `python tools/make_assets.py`.

They show scikit-learn's digits, not MNIST's, so that nothing of a data set that is fetched is stored with the code.
"""

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np

from models import load_model
from utils.attributions import METHODS, smoothgrad
from utils.data import embedded_digits
from utils.plotting import show_attributions


def methods():
    """assets/methods.png: the README's figure, three digits through the methods."""
    _, (x, y) = embedded_digits()
    model = load_model("mnist_cnn_max")
    some = np.array([np.flatnonzero(y == digit)[3] for digit in (2, 3, 6)])
    names = ["gradient", "sensitivity", "gradient_x_input", "integrated_gradients"]
    maps = {name: METHODS[name](model, x[some], y[some]) for name in names}
    maps["smoothgrad"] = smoothgrad(model, x[some], y[some], sigma=0.2, samples=200)
    plt.show = lambda: plt.savefig(ROOT / "assets" / "methods.png", dpi=110, metadata={"Software": None})
    show_attributions(x[some], maps, [f"why {digit}?" for digit in y[some]])


if __name__ == "__main__":
    methods()
