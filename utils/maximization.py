"""Activation maximization: the image, or the code of an image, for which the answer of a network is largest.

    for k in range(steps):
        x <- x + rate_k * Adam(gradient of answer(x) + weight * log p(x)),  cut off at low and high

Simonyan, Vedaldi and Zisserman (2014, arXiv:1312.6034); Montavon, Samek and Müller (2018, arXiv:1706.07979), section 3.
"""

import typing

import numpy as np
import tensorflow as tf

from .checks import (
    as_array,
    as_many,
    black_and_white,
    check_model,
    integer,
    number,
    refuse_unless_finite,
    type_of,
    warn,
)
from .goals import of_classes, of_units
from .scores import scores_of

RATE = 0.05  # of the first step, as a share of the box; it falls to 0 along a cosine
NOISE = 0.02  # of the start, as a share of the box
FRAMES = 31  # images kept of a history


class Ascent(typing.NamedTuple):
    """The way up.

    `answer` and `objective` `[steps + 1, k]`, before the first step and after each: what the network says
    (`log p(c|x)`, say), and what is maximized. `images` `[m, k, ...]` are those after `steps` `[m]` steps, at most 31
    of them, from the start to the end.
    """

    answer: np.ndarray
    objective: np.ndarray
    steps: np.ndarray
    images: np.ndarray


def maximize(
    model,
    target=None,
    *,
    objective="log_probability",
    layer=None,
    unit=None,
    expert=None,
    weight=1.0,
    start=None,
    jitter=0,
    steps=300,
    low=0.0,
    high=1.0,
    seed=0,
    return_history=False,
):
    """The images that maximize `objective` + `weight` * `expert`, one for each target, `[k, ...]`.

    Gradient ascent by Adam (Kingma and Ba 2015, arXiv:1412.6980), whose rate falls to 0; after each step, what lies
    outside of the box from `low` to `high` is set to its edge. Each image is found by itself, whatever the others are.

    Args:
        model: a built functional or Sequential Keras model with one input and scores `[n, classes]`; it is only read.
        target: a class, or k classes; None where a layer or a vector of logits is given.
        objective: "log_probability", `log p(c|x)`; "logit", f_c(x); or a vector of logits v, `[classes]` or
            `[k, classes]`, to be met: `-|f(x) - v|^2`.
        layer, unit: in place of a class, a unit of this layer, behind its activation: a channel, of which the mean over
            all places is maximized, or one place of it, (row, column, channel); or a list of such units.
        expert: a function of images that returns log p(x) but for a constant, `[n]`, in TensorFlow: see `experts`.
        weight: of the expert.
        start: an image, or k of them; a number; None for grey with a little noise, the same for all targets.
        jitter: in each step, the network sees the image rolled by up to so many pixels (Mordvintsev, Olah and Tyka
            2015, "Inceptionism"); what leaves it on one side comes in on the other. The expert sees it as it is.
        low, high: the values of black and white that the model was trained on.
        seed: of the noise at the start and of the jitter.
        return_history: return the images and an `Ascent`.

    Raises:
        ValueError: a class, layer or unit is not there; a start lies outside of the box or does not fit; an expert does
            not return one finite number for each image, or has no gradient, or mixes images; a value is not finite.
    """
    steps, (low, high), weight = integer(steps, "steps"), black_and_white(low, high), number(weight, "weight")
    f = scores_of(model, "logit" if layer is None else "output")
    generator = np.random.default_rng(integer(seed, "seed", 0))
    x = _start(f, start, low, high, generator)
    f(x)  # are they scores, and the model's own?
    if layer is None:
        answer, goal = of_classes(f, model, target, objective)
    elif objective == "log_probability":  # the default
        answer, goal = of_units(f, layer, unit, target, x)
    else:
        raise ValueError(f"Of a unit, the activation is maximized. Received: objective={objective!r}. Leave it out.")
    x, goal = as_many(start=x, target=goal)
    shifts = _shifts(jitter, steps, x, generator)
    if expert is not None:
        _check_expert(expert, x[0], low if x[0].mean() > (low + high) / 2 else high)

    def value(x, goal, shift):
        said = answer(tf.roll(x, shift, [1, 2]) if jitter else x, goal)
        return said, said if expert is None else said + weight * tf.cast(expert(x), said.dtype)

    run = _gradient(value, f.spec, goal, shifts[0])
    x, history = _climb(lambda x, k: run(x, goal, shifts[k]), x, steps, RATE * (high - low), (low, high), f.name)
    return (x, history) if return_history else x


def maximize_code(model, generator, target, *, start=None, centre=0.0, l2=0.1, steps=300, seed=0, return_history=False):
    """The codes z that maximize `log p(c|g(z)) - l2 |z - centre|^2`, and the images g(z) that they stand for.

    Nguyen, Dosovitskiy, Yosinski, Brox and Clune (2016, arXiv:1605.09304). By Adam, as `maximize`; codes have no box.

    Args:
        model: as for `maximize`.
        generator: g, a Keras model whose images fit the model.
        target: a class, or k classes.
        start: a code, or k of them; None for `centre` and normal noise, the same for all targets.
        centre: what codes are pulled to: a number, a code, or k of them; the mean code of a class, say.
        l2: how strongly.
        seed: of the noise at the start.

    Returns:
        The images `[k, ...]` and their codes `[k, ...]`, and an `Ascent` with `return_history`.

    Raises:
        ValueError: no such class; images of the generator, a start or a centre do not fit; a value is not finite.
    """
    steps, f, l2 = integer(steps, "steps"), scores_of(model), number(l2, "l2", least=0)
    shape, dtype, draw = _generator(generator, f)
    noise = np.random.default_rng(integer(seed, "seed", 0)).standard_normal((1, *shape))
    centre = _codes(centre, "centre", shape, dtype)
    z = centre + noise.astype(dtype) if start is None else _codes(start, "start", shape, dtype)
    f(f.images(draw(z).numpy(), f"The images of {generator.name!r}"))
    answer, goal = of_classes(f, model, target, "log_probability")
    z, goal, centre = as_many(start=z, target=goal, centre=centre)

    def value(z, goal, centre):
        said = answer(tf.cast(generator(z, training=False), f.dtype), goal)
        away = tf.reduce_sum(tf.square(z - centre), list(range(1, z.shape.rank)))
        return said, said - l2 * tf.cast(away, said.dtype)

    run = _gradient(value, tf.TensorSpec([None, *shape], dtype), goal, centre)
    z, history = _climb(lambda z, k: run(z, goal, centre), z, steps, RATE, (-np.inf, np.inf), f.name)
    images = draw(z).numpy()
    if not return_history:
        return images, z
    return images, z, history._replace(images=np.stack([draw(codes).numpy() for codes in history.images]))


# --- the ascent


def _climb(at, x, steps, rate, box, name):
    """Adam, from `x` on, along the gradient of the second of the values that `at(x, k)` returns; x and an `Ascent`."""
    kept = np.unique(np.linspace(0, steps, FRAMES).round().astype(int))
    values, images, mean, square = [], [], np.zeros_like(x), np.zeros_like(x)
    for k in range(steps + 1):
        *said, slope = (one.numpy() for one in at(x, k))
        refuse_unless_finite(np.stack(said, 1), "answer and objective", name)
        refuse_unless_finite(slope, "gradients", name)
        values.append(said)
        if k in kept:
            images.append(x)
        if k == steps:
            break
        axes = tuple(range(1, x.ndim))
        if k == 0:
            # so that another unit of the objective changes nothing, image by image
            little = 1e-8 * np.sqrt(np.square(slope, dtype="float64").mean(axes, keepdims=True))
            if not little.all():
                where = np.flatnonzero(little == 0).tolist()
                warn(f"There is no slope at the start of images {where}, so that they stay there. Start elsewhere.")
        mean, square = 0.9 * mean + 0.1 * slope, 0.999 * square + 0.001 * np.square(slope)
        step = mean / (1 - 0.9 ** (k + 1)) / (np.sqrt(square / (1 - 0.999 ** (k + 1))) + np.maximum(little, 1e-30))
        now = rate * (1 + np.cos(np.pi * k / steps)) / 2
        x = np.clip(x + now * step, *box).astype(x.dtype)
    answer, objective = np.moveaxis(np.array(values), 1, 0)
    return x, Ascent(answer, objective, kept, np.stack(images))


def _gradient(value, spec, *others):
    """`value`, a function of (points, ...) that returns (answer, objective), compiled; with the objective's gradient.

    It is compiled in each call: what an expert or a generator computes may depend on anything.
    """

    def run(x, *others):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            said, objective = value(x, *others)
        slope = tape.gradient(objective, x)
        if slope is None:
            raise ValueError("No gradient flows from the objective to the image: an operation on the way has none.")
        return said, objective, slope

    rest = [tf.TensorSpec([None, *one.shape[1:]], one.dtype) for one in others]
    return tf.function(run, input_signature=[spec, *rest], autograph=False).get_concrete_function()


# --- what comes in


def _start(f, start, low, high, generator):
    """The images to begin with, `[1 or k, ...]`."""
    if start is None or np.ndim(start) == 0:
        if None in f.shape:
            raise ValueError(f"{f.name!r} takes images of any size. Received: start={start!r}. Expected: an image.")
        grey = (low + high) / 2 + (high - low) * NOISE * generator.standard_normal((1, *f.shape))
        start = np.clip(grey, low, high) if start is None else np.full((1, *f.shape), number(start, "start"))
    x = np.array(start, f.dtype) if np.asarray(start).dtype.kind in "iu" else as_array(start, "start")
    x = f.images(x[None] if x.ndim == len(f.shape) else x, "start")
    if not len(x) or x.min() < low or x.max() > high:
        spread = f"{x.min()} to {x.max()}" if x.size else f"shape {x.shape}"
        raise ValueError(f"start lies outside of the box. Received: {spread}. Expected: {low} to {high}.")
    return x


def _shifts(jitter, steps, x, generator):
    """By how many rows and columns the image is rolled in each step, `[steps + 1, 2]`; not at the end."""
    jitter = integer(jitter, "jitter", 0)
    if jitter and (x.ndim != 4 or jitter >= min(x.shape[1:3])):
        raise ValueError(
            f"jitter rolls images [n, height, width, channels] by less than their size. Received: jitter={jitter}, "
            f"images {x.shape}."
        )
    shifts = generator.integers(-jitter, jitter + 1, (steps + 1, 2))
    shifts[-1] = 0
    return shifts.astype("int32")


def _check_expert(expert, image, edge):
    """Raise unless an expert returns log p(x) for each image by itself, with a gradient."""
    if not callable(expert):
        raise ValueError(f"expert must be a function of images. Received: {type(expert).__name__}.")
    two = tf.constant(np.stack([image, (image[::-1] + edge) / 2]).astype(image.dtype))
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(two)
        found = expert(two)
    received = tuple(np.shape(found))
    if received != (2,):
        raise ValueError(f"expert must return log p(x) for each image, [n]. Received: shape {received} for 2 images.")
    slope = tape.gradient(found, two) if tf.is_tensor(found) else None
    if slope is None:
        raise ValueError(
            "expert has no gradient: it is constant, or something in it is NumPy's. Expected: a function of tensors in "
            "TensorFlow operations."
        )
    if not (np.isfinite(found).all() and np.isfinite(slope).all()):
        raise ValueError(f"expert is not finite at the start. Received: log p(x) = {np.asarray(found)[0]}.")
    if not np.allclose(expert(two[:1]), found[:1], rtol=1e-3, atol=1e-3 * np.abs(found).max()):
        raise ValueError("expert mixes the images of a batch. Expected: log p(x) of each by itself.")


def _generator(generator, f):
    """The shape and type of the codes of a generator, and what draws their images, which must fit."""
    check_model(generator)
    shape, images = (tuple(one[0].shape[1:]) for one in (generator.inputs, generator.outputs))
    fit = len(images) == len(f.shape) and all(None in (a, b) or a == b for a, b in zip(images, f.shape))
    if None in shape or not fit:
        raise ValueError(
            f"The images of {generator.name!r} do not fit {f.name!r}. Received: codes {shape}, images {images}. "
            f"Expected: codes of known shape, images {f.shape}."
        )
    return shape, type_of(generator.inputs[0]), lambda z: generator(z, training=False)


def _codes(values, name, shape, dtype):
    """Codes `[1 or k, ...]`."""
    values = as_array(values, name)
    if values.dtype.kind not in "iuf" or values.shape not in ((), shape) and values.shape[1:] != shape:
        raise ValueError(
            f"{name} must be a number, a code {shape}, or one for each target. Received: {values.dtype}, shape "
            f"{values.shape}."
        )
    values = values if values.ndim == len(shape) + 1 else np.broadcast_to(values, (1, *shape))
    if not len(values) or not np.isfinite(values).all():
        raise ValueError(f"{name} must hold finite numbers, at least one code. Received: shape {values.shape}.")
    return values.astype(dtype)
