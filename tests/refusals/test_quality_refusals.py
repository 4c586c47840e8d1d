"""What the measures of quality refuse, and what they take."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L

from tests.helpers import Own, images, noise, refused, small_cnn
from utils.attributions import gradient
from utils.quality import (
    area_under_curve,
    completeness_error,
    continuity,
    insertion,
    linear_imputation,
    noisy_copies,
    pixel_flipping,
    randomized,
    shifted,
    shifts,
    similarity,
    time_over_gradient,
)

MODEL, X = small_cnn(dtype="float32"), images(3, dtype="float32")
MAPS, NOTHING = noise(3, 8, 7, 2), np.zeros((0, 8, 7, 2), "float32")
MOVES = X + np.float32([[[[[0.1]]]], [[[[-0.1]]]]])

each_curve = pytest.mark.parametrize("measure", [pixel_flipping, insertion])


def nan(maps):
    return np.where(np.arange(3).reshape(3, 1, 1, 1) == 1, np.nan, maps)


# --- pixel flipping and insertion


@each_curve
@pytest.mark.parametrize(
    ("maps", "said"),
    [
        (MAPS[:2], ("maps do not fit x", "Received: shape (2, 8, 7, 2)", "Expected: (3, 8, 7)", "(3, 8, 7, 2)")),
        (MAPS[0], ("Received: shape (8, 7, 2)",)),
        (MAPS[:, ::2, ::2].sum(-1), ("Received: shape (3, 4, 4)", "upsample=True")),
        (None, ("maps do not fit x", "Received: shape ()")),
        (nan(MAPS), ("not finite",)),
        (MAPS * np.inf, ("not finite",)),
        ("map.png", ("maps must be an array", "'map.png'")),
        (np.ma.masked_array(MAPS, MAPS < 0), ("maps is a masked array",)),
    ],
    ids=["fewer", "one", "small", "none", "NaN", "infinite", "name", "masked"],
)
def test_maps(measure, maps, said):
    with refused(*said):
        measure(MODEL, X, maps)


ARGUMENTS = {
    "order": ({"order": "MoRF"}, ("no such order", "Received: 'MoRF'", "'most', 'least', 'random'")),
    "order of a list": ({"order": ["most"]}, ("no such order", "Received: ['most']")),
    "steps": ({"steps": 5}, ("not so many patches", "Received: steps=5", "at most 4")),
    "no steps": ({"steps": 0}, ("steps must be an integer of at least 1", "Received: 0")),
    "half steps": ({"steps": 1.5}, ("steps must be an integer", "Received: 1.5")),
    "patch": ({"patch": 0}, ("patch must be an integer of at least 1", "Received: 0")),
    "patches": ({"patch": (2, 2)}, ("patch must be an integer", "Received: (2, 2)")),
    "seed": ({"seed": None}, ("seed must be an integer of at least 0", "Received: None")),
    "fill": ({"fill": "white"}, ("no such fill", "Received: 'white'", "'blur' or 'inpaint'")),
    "channels": ({"fill": [0.1, 0.2, 0.3]}, ("fill does not fit x", "shape (3,)", "one for each channel (2)")),
    "fewer images": ({"fill": X[:2]}, ("does not fit x", "Received: shape (2, 8, 7, 2)")),
    "true": ({"fill": True}, ("does not fit x", "Expected: a number")),
    "NaN": ({"fill": np.nan}, ("must hold finite numbers", "Received: 112 values")),
    "uint8": ({"fill": (255 * X).astype("uint8")}, ("must hold floating-point numbers", "uint8")),
    "function": ({"fill": lambda x, removed: x[0]}, ("fill must return", "(3, 8, 7, 2)", "Received: (8, 7, 2)")),
    "nothing": ({"fill": lambda x, removed: None}, ("fill must return images", "Received: ()")),
    "function of NaN": ({"fill": lambda x, removed: np.nan * x}, ("fill(x, removed) must hold finite numbers",)),
    "function of integers": ({"fill": lambda x, removed: np.rint(x).astype(int)}, ("fill(x, removed)", "int64")),
    "target": ({"target": 4}, ("a class that", "Received: 4 to 4", "from 0 to 3")),
    "batch_size": ({"batch_size": 0}, ("batch_size must be an integer of at least 1",)),
    "explain": ({"explain": "probability"}, ("score to explain", "Received: 'probability'")),
}


@each_curve
@pytest.mark.parametrize("case", ARGUMENTS)
def test_arguments_of_curves(measure, case):
    arguments, said = ARGUMENTS[case]
    with refused(*said):
        measure(MODEL, X, MAPS, **arguments)


@pytest.mark.parametrize(
    "arguments", [{"maps": MAPS}, {"maps": None, "order": "random"}, {"maps": X, "order": "least"}]
)
def test_a_method_beside_maps_or_a_random_order(arguments):
    with refused("Received: maps or order='random' beside it", "Expected: maps=None"):
        pixel_flipping(MODEL, X, method=gradient, **arguments)


def test_methods_for_pixel_flipping():
    for method, said in (
        (lambda *how: MAPS[:1], "maps do not fit x"),
        (lambda *how: None, "maps do not fit x"),
        (lambda *how: nan(MAPS), "not finite"),
    ):
        with refused(said):
            pixel_flipping(MODEL, X, None, method=method)
    with refused("no such order"):
        pixel_flipping(MODEL, X, None, order="first", method=gradient)


@each_curve
def test_models_and_images(measure):
    with refused("Expected a Keras 3 model"):
        measure(None, X, MAPS)
    with refused("subclassed"):
        measure(Own(), X, MAPS)
    with refused("x must hold floating-point numbers", "uint8 from 0 to"):
        measure(MODEL, (255 * X).astype("uint8"), MAPS)
    with refused("pass x[None]"):
        measure(MODEL, X[0], MAPS)
    flat = keras.Sequential([keras.Input((5,)), L.Dense(2)])
    with refused("Expected: images [n, height, width, channels]", "Received: shape (3, 5)"):
        measure(flat, np.ones((3, 5), "float32"), np.ones((3, 5)))


@pytest.mark.parametrize("scores", [[], [0.1, 0.2], [[0.1, 0.2]], [[0.1], [np.nan]], np.ones((3, 2, 2))])
def test_areas(scores):
    with refused("finite scores [steps + 1, n]", "Received"):
        area_under_curve(scores)


@pytest.mark.parametrize("arguments", [{"noise": -0.1}, {"noise": "a"}, {"noise": np.nan}, {"seed": 0.5}, {"seed": -1}])
def test_imputation(arguments):
    with refused(f"{next(iter(arguments))} must be", "Received"):
        linear_imputation(**arguments)


# --- continuity


@pytest.mark.parametrize(
    ("moves", "said"),
    [
        ([], ("moves must hold neighbours", "[k, 3, 8, 7, 2]", "Received: []")),
        (MOVES[:, :2], ("moves must hold neighbours", "Received: [(2, 8, 7, 2), (2, 8, 7, 2)]")),
        (X, ("moves[0] does not fit the input", "Received: shape (8, 7, 2)")),
        (np.full_like(MOVES, np.nan), ("moves[0] must hold finite numbers",)),
        (MOVES.astype(int), ("moves[0] must hold floating-point numbers",)),
        ([MOVES[0], X], ("moves[1] leaves image 0 where it is",)),
        ([np.concatenate([MOVES[0, :2], X[2:]])], ("moves[0] leaves image 2 where it is", "Leave")),
        (noisy_copies(X, 0), ("moves[0] leaves image 0",)),
    ],
    ids=["none", "fewer", "no axis", "NaN", "integers", "same", "one the same", "no noise"],
)
def test_moves(moves, said):
    with refused(*said):
        continuity(gradient, MODEL, X, None, moves)


@pytest.mark.parametrize(
    "maps", [None, 0.5, MAPS[:2], nan(MAPS), MAPS * np.inf], ids=["none", "number", "fewer", "NaN", "inf"]
)
def test_methods_for_continuity(maps):
    with refused("method must return a finite map for each image", "Received"):
        continuity(lambda *how: maps, MODEL, X, None, MOVES)


@pytest.mark.parametrize("argument", ["right", "down", "fill"])
@pytest.mark.parametrize("value", [np.nan, np.inf, "1", None, [1]])
def test_numbers_of_shifts(argument, value):
    with refused(f"{argument} must be a finite number", "Received"):
        shifted(X, **{argument: value})


@pytest.mark.parametrize("x", [X[0], np.ones((3, 5)), np.ones((1, 8, 7, 2), int)])
def test_images_for_shifts(x):
    for call in (shifted, shifts):
        with refused("images [n, height, width, channels] of floats", f"Received: {x.dtype} {x.shape}"):
            call(x)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"sigma": -0.1}, "sigma must be a finite number of at least 0"),
        ({"sigma": [0.1]}, "sigma must be a finite number of at least 0"),
        ({"copies": 0}, "copies must be an integer of at least 1"),
        ({"seed": "a"}, "seed must be an integer of at least 0"),
        ({"x": (255 * X).astype("uint8")}, "images of floats. Received: uint8"),
    ],
)
def test_noisy_copies(arguments, said):
    with refused(said):
        noisy_copies(**{"x": X} | arguments)


# --- sanity checks and costs


@pytest.mark.parametrize(
    ("A", "B", "said"),
    [
        (MAPS, MAPS[:2], ("Received: (3, 8, 7, 2), (2, 8, 7, 2)",)),
        (MAPS, MAPS.sum(-1), ("Received: (3, 8, 7, 2), (3, 8, 7)",)),
        (MAPS[0, 0], MAPS[0, 0], ("Expected: finite maps of one shape", "Received: (7, 2)")),
        (MAPS, nan(MAPS), ("Expected: finite maps",)),
        ("a.npy", MAPS, ("A must be an array",)),
        (MAPS, np.ma.masked_array(MAPS), ("B is a masked array",)),
    ],
    ids=["fewer", "channels", "one", "NaN", "name", "masked"],
)
def test_maps_that_cannot_be_compared(A, B, said):
    with refused(*said):
        similarity(A, B)


def test_measures_of_similarity():
    with refused("no such measure", "Received: 'cosine'", "'pearson', 'spearman', 'ssim'"):
        similarity(MAPS, MAPS, "cosine")
    with refused("windows of 7 x 7 pixels", "Received: maps of (8, 6)"):
        similarity(MAPS[:, :, :6], MAPS[:, :, :6], "ssim")


def test_layers():
    first, last = MODEL.layers[0], MODEL.layers[-1]
    for layers in ("no such layer", [last.name, "no such layer"], last, [3]):
        with refused("Expected: the name of one layer", "which 0 layers of", f"Those with weights: {first.name}"):
            randomized(MODEL, layers)
    with refused("has no weights", f"Received: ['{MODEL.layers[1].name}']"):
        randomized(MODEL, MODEL.layers[1].name)
    with refused("seed must be an integer of at least 0", "Received: -1"):
        randomized(MODEL, last.name, -1)
    with refused("No layers are named", "Received: []"):
        randomized(MODEL, [])
    with refused("subclassed"):
        randomized(Own(), last.name)
    with refused("Expected a Keras 3 model"):
        randomized(X, last.name)


def test_a_name_that_two_layers_have():
    x = keras.Input((4,))
    inner = [keras.Sequential([keras.Input((4,)), L.Dense(4, name="it")], name=name) for name in ("one", "two")]
    with refused("'it', which 2 layers of"):
        randomized(keras.Model(x, inner[1](inner[0](x))), "it")


@pytest.mark.parametrize("maps", [MAPS[:2], nan(MAPS), 3.0, None], ids=["fewer", "NaN", "number", "none"])
def test_maps_that_do_not_add_up(maps):
    with refused("a finite map for each of 3 images", "Received: shape"):
        completeness_error(maps, MODEL, X)


def test_prices():
    with refused("repeats must be an integer of at least 1", "Received: 0"):
        time_over_gradient(gradient, MODEL, X, repeats=0)
    with refused("baseline does not fit x"):
        completeness_error(MAPS, MODEL, X, baseline=X[:2])


# --- what is taken


class Tensor:
    """As those of PyTorch, which NumPy cannot read while they require gradients."""

    def __init__(self, values):
        self.values = values

    def detach(self):
        return self

    def cpu(self):
        return self.values


KINDS = {"list": lambda x: x.tolist(), "tensor": tf.constant, "torch": Tensor, "half": lambda x: x.astype("float16")}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_arrays(kind):
    maps, given = np.rint(8 * MAPS).astype("float32"), KINDS[kind]
    assert np.array_equal(pixel_flipping(MODEL, X, given(maps), 1), pixel_flipping(MODEL, X, maps, 1))
    assert np.array_equal(similarity(given(maps), maps[::-1]), similarity(maps, maps[::-1]))
    if kind not in ("half", "torch"):
        assert np.array_equal(area_under_curve(given(maps[0, 0])), area_under_curve(maps[0, 0]))
        assert np.array_equal(
            pixel_flipping(MODEL, X, maps, 1, fill=given(np.float32([0.25, 0.5]))),
            pixel_flipping(MODEL, X, maps, 1, fill=np.float32([0.25, 0.5])),
        )


@pytest.mark.parametrize("dtype", [int, bool, "uint8", "int8"])
def test_maps_of_integers(dtype):
    maps = np.rint(5 + MAPS).astype(dtype)
    assert np.array_equal(pixel_flipping(MODEL, X, maps, 1), pixel_flipping(MODEL, X, maps.astype(float), 1))
    assert np.array_equal(similarity(maps, X), similarity(maps.astype(float), X), equal_nan=True)
    assert np.array_equal(completeness_error(maps, MODEL, X), completeness_error(maps.astype(float), MODEL, X))
    ours = pixel_flipping(MODEL, X, maps, np.int8(1), np.int64(4), fill=1)
    assert np.array_equal(ours, pixel_flipping(MODEL, X, maps, 1, fill=1.0))


@pytest.mark.parametrize("fill", [0.0, "blur", "inpaint", linear_imputation(), NOTHING])
def test_no_images(fill):
    for maps in (NOTHING, NOTHING[..., 0]):
        assert pixel_flipping(MODEL, NOTHING, maps, fill=fill).shape == (5, 0)
        assert insertion(MODEL, NOTHING, maps, 1, fill=fill).shape == (5, 0)
    assert pixel_flipping(MODEL, NOTHING, None, steps=2, fill=fill, method=gradient).shape == (3, 0)


def test_measures_of_no_images():
    assert area_under_curve(np.zeros((3, 0))).shape == (0,)
    assert continuity(gradient, MODEL, NOTHING, None, NOTHING[None], True).shape == (0,)
    assert shifts(NOTHING).shape == (4, 0, 8, 7, 2) and noisy_copies(NOTHING, copies=2).shape == (2, 0, 8, 7, 2)
    assert similarity(NOTHING, NOTHING).shape == completeness_error(NOTHING, MODEL, NOTHING).shape == (0,)
