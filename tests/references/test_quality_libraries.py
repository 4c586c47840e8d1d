"""The measures of quality against Quantus: values that generate_quality.py stored, in float64.

Where definitions agree, so do values. Where they differ, a test puts the other definition into ours and arrives at the
values of Quantus:

- its pixel flipping removes single values, not pixels with all their channels;
- where patches do not divide the image, it centres them, and ours begin at the upper left;
- its Lipschitz estimate has the Euclidean norm of the change of the map, unless told otherwise;
- its structural similarity takes the range of values from both maps together, ours gives each map the same range.
"""

import functools
from pathlib import Path

import keras
import numpy as np
import pytest
from skimage.metrics import structural_similarity

from tests.helpers import close, deviation
from tests.references.networks import NETWORKS, reference_network, references
from utils.attributions import gradient_x_input
from utils.quality import continuity, insertion, linear_imputation, pixel_flipping, similarity

ORDERS = {"morf": "most", "lerf": "least"}


@pytest.fixture(scope="module")
def stored():
    with np.load(Path(__file__).with_name("quality.npz")) as file:
        return dict(file)


@functools.cache
def explained():
    """The images as Quantus hands them over, and their classes."""
    return references()["inputs"].astype("float32").astype("float64"), references()["targets"]


@functools.cache
def maps():
    return gradient_x_input(reference_network("maximum"), *explained())


def curves(maps, patch, order, fill):
    x, y = explained()
    return pixel_flipping(reference_network("maximum"), x, maps, y, patch, order=order, fill=fill)


@pytest.mark.parametrize("patch", [3, 4])
@pytest.mark.parametrize("order", ORDERS)
def test_region_perturbation(order, patch, stored):
    scores = curves(maps(), patch, ORDERS[order], float(stored["fill"]))
    close((scores[0] - scores[1:]).T, stored[f"maximum/regions/{order}/{patch}"])
    (x, y), other = explained(), {"most": "least", "least": "most"}[ORDERS[order]]
    inserted = insertion(reference_network("maximum"), x, maps(), y, patch, order=other, fill=float(stored["fill"]))
    close((inserted[-1] - inserted[-2::-1]).T, stored[f"maximum/regions/{order}/{patch}"])


@pytest.mark.parametrize("order", ORDERS)
def test_patches_that_do_not_divide_the_image_are_centred_there(order, stored):
    (x, y), model, sign = explained(), reference_network("maximum"), 1 if order == "lerf" else -1
    expected = stored[f"maximum/regions/{order}/5"]
    scores = curves(maps(), 5, ORDERS[order], float(stored["fill"]))
    assert deviation((scores[0] - scores[1:]).T, expected) > 0.01
    places = (np.arange(12) + 1) // 5  # three pixels are added to the twelve, one of them before
    patches = 3 * places[:, None] + places
    for i in range(len(x)):
        left, sums = [x[i]], [maps()[i][patches == k].sum() for k in range(9)]
        for k in sorted(range(9), key=lambda k: sign * sums[k]):
            left.append(np.where((patches == k)[..., None], stored["fill"], left[-1]))
        scores = model(np.stack(left)).numpy()[:, y[i]]
        close(scores[0] - scores[1:], expected[i])


def test_pixel_flipping(stored):
    close(curves(maps(), 1, "most", float(stored["fill"]))[1:].T, stored["maximum/pixels"])


def test_values_are_flipped_one_by_one_there(stored):
    (x, y), model = explained(), reference_network("maximum")
    for i in range(2):
        values = x[i].transpose(2, 0, 1).ravel()  # there channels come first
        order = np.argsort(-maps()[i].transpose(2, 0, 1).ravel())
        left = np.repeat(values[None], len(values), 0)
        for step, k in enumerate(order):
            left[step:, k] = stored["fill"]
        scores = model(left.reshape(-1, 2, 12, 12).transpose(0, 2, 3, 1)).numpy()[:, y[i]]
        close(scores, stored["maximum/values"][i])
        pixels = curves(maps(), 1, "most", float(stored["fill"]))[1:, i]
        assert np.abs(scores[1::2] - pixels)[:-1].max() > 0.01 * np.abs(pixels).max()  # two values are no pixel


@pytest.mark.parametrize("name", NETWORKS)
def test_local_lipschitz_estimate(name, stored):
    model, (x, y) = reference_network(name), explained()
    moves = x + stored["noise"][:, None]
    found = continuity(gradient_x_input, model, x, y, moves)
    close(found, stored[f"{name}/lipschitz/manhattan"], 1e-8)  # there 1e-10 is added to the length of the move
    change = gradient_x_input(model, x, y) - np.stack([gradient_x_input(model, one, y) for one in moves])
    lengths = np.sqrt((stored["noise"] ** 2).sum((1, 2, 3)))
    ratios = np.sqrt((change**2).sum((2, 3, 4))) / lengths[:, None]
    close(ratios.max(0), stored[f"{name}/lipschitz/euclidean"], 1e-8)
    assert (found > 2 * ratios.max(0)).all()


def test_model_parameter_randomisation(stored):
    network, summed, (x, y) = reference_network("maximum"), maps().sum(-1), explained()
    assert list(stored["maximum/mprt/layers"]) == ["dense2", "dense1", "conv2", "conv1"]
    for others, scores in zip(stored["maximum/mprt/maps"], stored["maximum/mprt/scores"]):
        close(similarity(summed, others, absolute=True), scores)
        assert np.abs(similarity(summed, others) - scores).min() > 0.01  # signs count unless told otherwise
    reset = keras.models.clone_model(network)
    reset.set_weights([*network.get_weights()[:-2], stored["maximum/mprt/kernel"], stored["maximum/mprt/bias"]])
    close(gradient_x_input(reset, x, y).sum(-1), stored["maximum/mprt/maps"][0])


@pytest.mark.parametrize("measure", ["pearson", "spearman"])
def test_correlations(measure, stored):
    close(
        similarity(maps().sum(-1), stored["maximum/mprt/maps"][-1], measure, absolute=True),
        stored[f"maximum/{measure}"],
    )


def test_structural_similarity(stored):
    A, B = np.abs(maps().sum(-1)), np.abs(stored["maximum/mprt/maps"][-1])
    ranges = [np.ptp([a, b]) for a, b in zip(A, B)]
    found = [structural_similarity(a, b, data_range=size) for a, b, size in zip(A, B, ranges)]
    close(np.array(found), stored["maximum/ssim"])
    A, B = (one / one.max((1, 2), keepdims=True) for one in (A, B))
    found = [structural_similarity(a, b, data_range=1) for a, b in zip(A, B)]
    close(similarity(maps().sum(-1), stored["maximum/mprt/maps"][-1], "ssim", absolute=True), np.array(found))
    assert (np.array(found) > 2 * stored["maximum/ssim"]).all()


def test_noisy_linear_imputation(stored):
    x = np.repeat(explained()[0][:1], len(stored["holes"]), 0)
    close(linear_imputation(noise=0)(x, stored["holes"]), stored["imputed"])
