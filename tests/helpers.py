"""What the tests share: small networks with random weights, slow computations beside ours, and comparisons."""

import functools
import itertools
import pathlib
import re

import keras
import nbformat
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L
from skimage.transform import resize

from utils import attributions, cam, scores
from utils.composites import EPSILON
from utils.parts import Linear
from utils.trace import Trace

ROOT = pathlib.Path(__file__).resolve().parents[1]
F = {"dtype": "float64"}
EPS = 1e-6  # the stabiliser, unless told otherwise
QUADRATURES = ("left", "right", "midpoint", "trapezoid", "gauss")
BACKWARD = ("lrp", "deep_taylor", "deeplift", "deconvolution", "guided_backprop")
# for what all have in common few masks will do
METHODS = attributions.METHODS | {"rise": functools.partial(attributions.rise, masks=50)}

zero_or_not = pytest.mark.filterwarnings("ignore:.*maps are zero everywhere")


# --- notebooks

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path, kind):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


def prose(path):
    return "\n\n".join(cell.source for cell in cells(path, "markdown"))


# --- numbers, and how they are compared


def noise(*shape, seed=1):
    """Numbers of both signs."""
    return np.random.default_rng(seed).standard_normal(shape)


def pixels(*shape, seed=1):
    """Numbers from 0 to 1."""
    return np.random.default_rng(seed).random(shape)


def images(n=5, seed=1, dtype="float64"):
    """Images for `small_cnn` and `plain_net`."""
    return pixels(n, 8, 7, 2, seed=seed).astype(dtype)


def plus(x):
    return np.maximum(x, 0)


def minus(x):
    return np.minimum(x, 0)


def stable(z, eps=EPS):
    """A denominator that is not 0."""
    return z + np.where(z >= 0, eps, -eps)


def close(ours, expected, tolerance=1e-10):
    """Assert equal shapes, and differences that are small beside the largest value expected."""
    scale = np.abs(expected).max()
    assert ours.shape == expected.shape and scale > 0
    assert np.abs(ours - expected).max() <= tolerance * scale


def deviation(ours, expected):
    """The largest difference, relative to the largest value expected; both in float64."""
    assert ours.shape == expected.shape and ours.dtype == expected.dtype == "float64"
    return np.abs(ours - expected).max() / np.abs(expected).max()


def relative_error(ours, expected):
    """The largest difference, relative to the largest value expected or to 1, whichever is more."""
    return np.abs(ours - expected).max() / max(1, np.abs(expected).max())


def refused(*words):
    """The context of a ValueError whose message holds all `words`, in this order."""
    return pytest.raises(ValueError, match="(?s)" + ".*".join(map(re.escape, words)))


# --- networks


def randomize(model, seed=0):
    """Random weights, biases and statistics, variances from 0.5 to 1.5; returns the model."""
    generator = np.random.default_rng(seed)
    for weight in model.weights:
        if weight.name in ("moving_variance", "gamma"):
            weight.assign(0.5 + generator.random(weight.shape))
        else:
            scale = 0.3 if len(weight.shape) < 2 else 1 / np.sqrt(np.prod(weight.shape[:-1]))
            weight.assign(scale * generator.standard_normal(weight.shape))
    return model


def conv(filters, size=3, activation="relu", dtype="float64", **how):
    return L.Conv2D(filters, size, activation=activation, dtype=dtype, **how)


def dense(units, activation=None, dtype="float64", **how):
    return L.Dense(units, activation=activation, dtype=dtype, **how)


def norm(**how):
    return L.BatchNormalization(**F, **how)


def average(dtype="float64", **how):
    return L.GlobalAveragePooling2D(dtype=dtype, **how)


def chain(shape, *layers, seed=0):
    """A functional model of a chain of layers, with random weights, in float64."""
    x = y = keras.Input(shape, **F)
    for layer in layers:
        y = layer(y)
    return randomize(keras.Model(x, y), seed)


def sequential(shape, *layers, dtype="float64", seed=0):
    """The same as a Sequential model."""
    return randomize(keras.Sequential([keras.Input(shape, dtype=dtype), *layers]), seed)


def function_model(function, inputs, dtype="float64"):
    """A Keras model of a function of `inputs` numbers, built from operations; one output."""
    x = keras.Input((inputs,), dtype=dtype)
    return keras.Model(x, function(x))


def small_cnn(head=None, dtype="float64", seed=0):
    """A convolutional network with biases and random weights; `[n, 8, 7, 2]` -> `[n, 4]`."""
    keras.utils.set_random_seed(seed)
    layers = [
        keras.Input((8, 7, 2), dtype=dtype),
        L.Conv2D(5, 3, activation="relu", bias_initializer="normal", dtype=dtype),
        L.MaxPooling2D(2, dtype=dtype),
        L.Flatten(dtype=dtype),
        L.Dense(6, activation="relu", bias_initializer="normal", dtype=dtype),
        L.Dense(4, activation=head, bias_initializer="normal", dtype=dtype),
    ]
    return keras.Sequential(layers)


shared_cnn = functools.cache(small_cnn)  # one for all tests that leave it as it is, so that less is compiled


def plain_net(bias=True, pool=L.MaxPooling2D, seed=11):
    """A convolutional network with BatchNormalization and a fused and a separate ReLU; `[n, 8, 7, 2]` -> `[n, 4]`."""
    return chain(
        (8, 7, 2),
        conv(5, use_bias=bias, name="conv"),
        pool(2, name="pool", **F),
        conv(6, 2, None, padding="same", use_bias=bias, name="conv2"),
        *([norm(name="norm")] if bias else []),
        L.ReLU(name="relu", **F),
        L.Flatten(name="flat", **F),
        dense(6, "relu", use_bias=bias, name="hidden"),
        dense(4, use_bias=bias, name="scores"),
        seed=seed,
    )


def residual_net(seed=11):
    """A residual sum, a concatenation and a gate; `[n, 6, 6, 2]` -> `[n, 3]`."""
    x = keras.Input((6, 6, 2), **F)
    y = conv(4, padding="same")(x)
    z = norm()(conv(4, activation=None, padding="same")(y))
    y = L.ReLU(**F)(L.Add(**F)([y, z]))
    y = L.Concatenate(**F)([y, L.AveragePooling2D(3, 1, padding="same", **F)(y)])
    gate = L.Reshape((1, 1, 8), **F)(dense(8, "sigmoid")(average()(y)))
    return randomize(keras.Model(x, dense(3)(average()(L.Multiply(**F)([y, gate])))), seed)


NETS = {
    "plain": (plain_net, (8, 7, 2)),
    "average": (lambda: plain_net(pool=L.AveragePooling2D), (8, 7, 2)),
    "no biases": (lambda: plain_net(False), (8, 7, 2)),
    "residual": (residual_net, (6, 6, 2)),
}


@functools.cache
def net_of(name):
    """One of NETS and the shape of its input; one for all tests that leave it as it is, so that less is compiled."""
    build, shape = NETS[name]
    return build(), shape


class Own(keras.Model):
    """A subclassed model."""

    def call(self, x):
        return x


# --- slow computations in float64


def slow_occlusion(model, x, target, window, stride, start):
    """Window by window: `window` and `stride` with a number for each axis, `start` in the shape of `x`."""

    def places(length, window, stride):
        first = 0
        while first + window < length:
            yield first
            first += stride
        yield first

    size = x.shape[1:] if x.ndim == 2 else x.shape[1:-1]
    holes, covered = [], [x]
    for place in itertools.product(*map(places, size, window, stride)):
        holes.append((slice(None), *(slice(first, first + w) for first, w in zip(place, window))))
        covered.append(x.copy())
        covered[-1][holes[-1]] = start[holes[-1]]
    scores = model(np.concatenate(covered)).numpy().reshape(len(covered), len(x), -1)[:, range(len(x)), target]
    R, times = np.zeros((2, *x.shape))
    for hole, score in zip(holes, scores[1:]):
        R[hole] += (scores[0] - score).reshape(-1, *[1] * (x.ndim - 1))
        times[hole] += 1
    return R / times


def slow_masks(size, cells, p, seed, many):
    """The masks of RISE one by one, enlarged by scikit-image."""
    generator, cell = np.random.default_rng(seed), [-(-length // cells) for length in size]
    for _ in range(many):
        shifts = [int(generator.random() * length) for length in cell]
        grid = 1.0 * (generator.random([cells] * len(size)) < p)
        large = resize(grid, [(cells + 1) * length for length in cell], 1, mode="edge", anti_aliasing=False)
        yield large[tuple(slice(first, first + length) for first, length in zip(shifts, size))]


def differences(model, x, target, h=1e-6):
    """The gradient by central differences, one input value at a time, on the model as it is."""
    result = np.zeros_like(x)
    for n in range(len(x)):
        nudges = h * np.eye(x[n].size).reshape(-1, *x[n].shape)
        up, down = (model(x[n] + sign * nudges).numpy()[:, target[n]] for sign in (1, -1))
        result[n] = ((up - down) / (2 * h)).reshape(x[n].shape)
    return result


def jacobian(model, x):
    """d model / d x at `x` `[1, ...]` as a matrix `[out, in]`."""
    size = model.outputs[0].shape[1]
    x = tf.repeat(tf.constant(x), size, 0)  # the gradient of each output at a copy of its own
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = model(x)
    return tape.gradient(y, x, tf.eye(size, dtype=y.dtype)).numpy().reshape(size, -1)


def kernel_and_bias(model):
    """An affine model as `[out, in]` and `[out]`."""
    nothing = np.zeros((1, *model.inputs[0].shape[1:]))
    return jacobian(model, nothing), model(nothing).numpy().ravel()


def share(C, b, R, eps=EPS):
    return C / stable(C.sum(1) + b, eps)[:, None] * R[:, None]


def relevance_of_units(name, W, b, a, R, low=None, high=None):
    """What goes to each input, `[out, in]`, of the relevance `R` of each unit by itself, as sums; `a` is `[in]`."""
    C, z, none = W * a, (W * a).sum(1) + b, np.zeros_like(b)
    if name.startswith("z_box"):
        return share(C - low * plus(W) - high * minus(W), none, R)
    if name == "gamma":
        up = share(C + 0.25 * plus(C), b + 0.25 * plus(b), np.where(z > 0, R, 0))
        return up + share(C + 0.25 * minus(C), b + 0.25 * minus(b), np.where(z < 0, R, 0))
    if name == "alpha2_beta1":
        return share(plus(C), plus(b), 2 * R) - share(minus(C), minus(b), R)
    seen = (W != 0).astype(float)
    return {
        "epsilon": lambda: share(C, b, R),
        "epsilon 0.3": lambda: share(C, b, R, 0.3),
        "epsilon without bias": lambda: share(C, none, R),
        "alpha1_beta0": lambda: share(plus(C), plus(b), R),
        "alpha1_beta0 without bias": lambda: share(plus(C), none, R),
        "z_plus": lambda: share(plus(C), none, R),
        "z_plus with bias": lambda: share(plus(C), plus(b), R),
        "w_square": lambda: share(W**2, none, R),
        "w_square with bias": lambda: share(W**2, b**2, R),
        "flat": lambda: share(seen, none, R),
    }[name]()


# --- class activation maps: networks, methods by their names, and each map as a loop over places and channels

BY_GRADIENT = {
    "grad_cam": cam.grad_cam,
    "paper": functools.partial(cam.grad_cam_plus_plus, variant="paper"),
    "authors": functools.partial(cam.grad_cam_plus_plus, variant="authors"),
    "hires_cam": cam.hires_cam,
    "layer_cam": cam.layer_cam,
}
OF_A_LAYER = BY_GRADIENT | {"score_cam": cam.score_cam, "guided_grad_cam": cam.guided_grad_cam}
CAMS = OF_A_LAYER | {"class_activation_map": cam.class_activation_map}

each_cam = pytest.mark.parametrize("name", CAMS)
# methods by gradients differ in their weights alone
each_kind = pytest.mark.parametrize("name", ["grad_cam", "score_cam", "guided_grad_cam", "class_activation_map"])

SHAPE = (11, 9, 2)
X, TARGET = noise(3, *SHAPE), np.array([3, 0, 3])  # the maps of `shared_net` for these have positive values


def features(dtype="float64"):
    """Layers with the feature maps `early`, 9 x 7 x 5, and `late`, 3 x 2 x 6."""
    late = conv(6, 2, dtype=dtype, name="late")
    return [conv(5, dtype=dtype, name="early"), L.MaxPooling2D(2, dtype=dtype), late]


@functools.cache
def deep_net(activation="relu"):
    """A network with a hidden layer above its feature maps."""
    return sequential(SHAPE, *features(), L.Flatten(**F), dense(8, activation), dense(4, "softmax"))


def pooled_net(head="softmax", dtype="float64", shape=SHAPE, classes=4):
    """A network whose feature maps end in a global average and a dense layer."""
    head = dense(classes, head, dtype, name="head")
    return sequential(shape, *features(dtype), average(dtype), head, dtype=dtype)


@functools.cache
def shared_net(dtype="float64"):
    """One of these, for tests that leave it as it is."""
    return pooled_net(dtype=dtype)


def explained(name, model, x=X, target=TARGET, **how):
    """The class activation maps of a method by its name, silent."""
    how = how if name == "class_activation_map" else {"verbose": False} | how
    return CAMS[name](model, x, target, **how)


@functools.cache
def shared_map(name):
    """Of `shared_net`."""
    return explained(name, shared_net())


def backbone(kind=keras.Sequential):
    inner = keras.Sequential([keras.Input(SHAPE, **F), *features()], name="backbone")
    return inner if kind is keras.Sequential else keras.Model(inner.inputs[0], inner.outputs[0], name="backbone")


@functools.cache
def with_words(dtype="int32"):
    """An image and five words: features times the mean of the words' vectors. Grad-CAM is known by hand."""
    image, words = keras.Input(SHAPE, name="image", **F), keras.Input((5,), dtype=dtype, name="words")
    vectors = L.GlobalAveragePooling1D(name="vector", **F)(L.Embedding(9, 6, **F)(words))
    y = average()(keras.Sequential(features(), name="backbone")(image))
    return randomize(keras.Model([image, words], dense(4, "softmax", name="head")(L.Multiply(**F)([y, vectors]))))


WORDS = np.random.default_rng(0).integers(0, 9, (3, 5))


def after(*layers, shape=(6, 6, 2)):
    """Input, the output of a convolution `map`, and what it becomes."""
    x = keras.Input(shape, **F)
    A = y = conv(4, activation=None, name="map")(x)
    for layer in layers:
        y = layer(y)
    return x, A, y


def scored(x, A, y, layer="map"):
    """A model with a dense layer on y, the tensor A of the layer, and the layer's name."""
    return randomize(keras.Model(x, dense(3)(L.Flatten(**F)(y)))), A, layer


def one_output_of_two():
    x, A, y = after()
    inner = keras.Model(z := keras.Input((4, 4, 4), **F), [conv(3, name="unused")(z), keras.ops.square(z)])
    return scored(x, A, inner(y)[1])


def halves(model, name):
    """A chain as a model to the output of the layer `name`, and one from there to the logits, of layers of its own."""
    place = [layer.name for layer in model.layers].index(name) + 1
    lower = keras.Model(model.inputs[0], model.get_layer(name).output)
    copies = [type(layer).from_config(layer.get_config()) for layer in model.layers[place:]]
    copies[-1].activation = keras.activations.linear
    upper = keras.Sequential([keras.Input(lower.output.shape[1:], **F), *copies])
    upper.set_weights([value for layer in model.layers[place:] for value in layer.get_weights()])
    return lower, upper


def slow_map(method, A, g):
    """The map of one image, signed, of its feature maps A and the gradients g there, `[height, width, channels]`."""
    height, width, channels = A.shape
    places, result = list(np.ndindex(height, width)), np.zeros((height, width))
    for k in range(channels):
        total, alpha, w = sum(A[p][k] for p in places), np.zeros((height, width)), 0
        for p in places:
            below = 2 * g[p][k] ** 2 + g[p][k] ** 3 * total
            alpha[p] = g[p][k] ** 2 / below if below else 0
        for p in places:
            if method == "grad_cam":
                w += g[p][k] / (height * width)
            elif method == "paper":
                w += alpha[p] * max(0, g[p][k])
            elif method == "authors" and alpha.any():
                w += alpha[p] / alpha.sum() * max(0, g[p][k])
        for p in places:
            if method == "hires_cam":
                w = g[p][k]
            elif method == "layer_cam":
                w = max(0, g[p][k])
            result[p] += w * A[p][k]
    return result


def slow_maps(method, A, g):
    return np.stack([slow_map(method, *one) for one in zip(A, g)])


def enlarged(M, size):
    """A map in another size: bilinear, half-pixel centres, clamped at the edges."""
    result = np.zeros(size)
    for place in np.ndindex(*size):
        at = [min(max((p + 0.5) * n / m - 0.5, 0), n - 1) for p, n, m in zip(place, M.shape, size)]
        low = [int(a) for a in at]
        for corner in np.ndindex(2, 2):
            share = np.prod([a - i if c else 1 - a + i for a, i, c in zip(at, low, corner)])
            result[place] += share * M[tuple(min(i + c, n - 1) for i, c, n in zip(low, corner, M.shape))]
    return result


def all_enlarged(maps, size):
    return np.stack([enlarged(M, size) for M in maps])


# --- the inside of the engine: all that the tests take from there, but for those of tests/mutations


class GeneralTrace(Trace):
    """A trace whose rules never take the shorter way of relevance that begins at the scores."""

    def _spares_zeros(self, step, a, only_active):
        return False


def same_values(model, x, composite=EPSILON, tolerance=1e-12):
    """Assert that what carries the rules computes what the model computes."""
    ours, theirs = Trace(model, x, composite, "output").scores.numpy(), model(x, training=False).numpy()
    assert np.isfinite(theirs).all() and np.abs(theirs).max() > 0
    assert np.abs(ours - theirs).max() < tolerance * np.abs(theirs).max()


def relevance_by_general_rules(model, composite, x, target):
    """As `lrp`, without the shorter way that is taken when relevance begins at the scores."""
    trace = GeneralTrace(model, x, composite)
    seed = tf.one_hot([target] * len(x), trace.scores.shape[1], dtype=trace.scores.dtype) * trace.scores
    return trace.relevance(seed).numpy()


class Switch:
    """A model whose rule for linear parts can be exchanged."""

    def __init__(self, model):
        self.model = model

    def relevance(self, x, rule):
        """The relevance of the inputs for each output by itself, `[out, in]`; `x` is one image."""
        x = tf.repeat(tf.constant(x[None]), self.model.outputs[0].shape[1], 0)
        trace = GeneralTrace(self.model, x, {Linear: rule} | EPSILON, "output")
        R = trace.relevance(tf.linalg.diag(tf.linalg.diag_part(trace.scores)))
        return R.numpy().reshape(len(x), -1)


def spared(model, composite):
    """How many parts take the shorter way, in a model of which relevance begins at the scores."""
    trace = Trace(model, np.ones((2, *model.input_shape[1:])), composite)
    return sum(passage.step.part.only_active for passage in trace.back(trace.scores))


def kept_with(model):
    """What is compiled for `model`, and kept with it."""
    return scores.scores_of(model)
