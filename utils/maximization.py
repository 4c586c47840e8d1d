"""Activation maximization: the image, or the code of an image, for which the answer of a network is largest.

    for k in range(steps):
        x <- x + rate_k * Adam(gradient of answer(x) + weight * log p(x)),  cut off at low and high

Simonyan, Vedaldi and Zisserman (2014, arXiv:1312.6034); Montavon, Samek and Müller (2018, arXiv:1706.07979), section 3.
"""

import functools
import typing

import keras
import numpy as np
import tensorflow as tf

from .checks import (
    as_many,
    black_and_white,
    integer,
    number,
    refuse_unless_finite,
    warn,
)
from .goals import of_classes, of_units
from .scores import scores_of
from .starts import check_expert, checked_codes, checked_generator, drawn_shifts, first_images

RATE = 0.05  # of the first step, as a share of the box; it falls to 0 along a cosine
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
    outside of the box from `low` to `high` is set to its edge. Each image is found by itself, whatever the others are;
    but a pixel whose slope is no larger than what rounding makes of it may end anywhere.

    Args:
        model: a built functional or Sequential Keras model with one input and scores `[n, classes]`; it is only read.
        target: a class, or k classes; None where a layer or a vector of logits is given.
        objective: "log_probability", `log p(c|x)`; "logit", f_c(x); or a vector of logits v, `[classes]` or
            `[k, classes]`, to be met: `-|f(x) - v|^2`.
        layer, unit: in place of a class, a unit of this layer, behind its activation: a channel, of which the mean over
            all places is maximized, or one place of it, (row, column, channel); or a list of such units.
        expert: a function of images that returns log p(x) but for a constant, `[n]`, in TensorFlow: see `experts`. A
            Keras model is called with `training=False`.
        weight: of the expert.
        start: an image, or k of them; a number; None for grey with a little noise, the same for all targets. In `steps`
            steps a pixel can move by 0.025 `steps` of the box, 7.5 times its size in 300.
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
    rng = np.random.default_rng(integer(seed, "seed", 0))
    if layer is None and unit is not None:
        raise ValueError(f"unit names a unit of a layer. Received: unit={unit!r} and no layer. Expected: layer=, too.")
    x = first_images(f, start, low, high, rng)
    f(x)  # are they scores, and the model's own?
    if layer is None:
        answer, goal = of_classes(f, model, target, objective)
    elif isinstance(objective, str) and objective == "log_probability":  # the default
        answer, goal = of_units(f, layer, unit, target, x)
    else:
        raise ValueError(f"Of a unit, the activation is maximized. Received: objective={objective!r}. Leave it out.")
    x, goal = as_many(start=x, target=goal)
    shifts = drawn_shifts(jitter, steps, x, rng)
    if isinstance(expert, keras.layers.Layer):
        expert = functools.partial(expert, training=False)
    if expert is not None:
        check_expert(expert, x[0], low if x[0].mean() > (low + high) / 2 else high)

    def value(x, goal, shift):
        said = answer(tf.roll(x, shift, [1, 2]) if jitter else x, goal)
        if expert is None:
            return said, said
        return said, _wide(said) + weight * tf.cast(expert(x), _wide(said).dtype)

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
        centre: what codes are pulled to: a number, a code, or k of them; the mean code of a class, say. In `steps`
            steps a number of a code can move by 0.025 `steps`, 7.5 in 300, so start within that of the top.
        l2: how strongly.
        seed: of the noise at the start.

    Returns:
        The images `[k, ...]` and their codes `[k, ...]`, and an `Ascent` with `return_history`.

    Raises:
        ValueError: no such class; images of the generator, a start or a centre do not fit; a value is not finite.
    """
    steps, f, l2 = integer(steps, "steps"), scores_of(model), number(l2, "l2", least=0)
    shape, dtype, draw = checked_generator(generator, f)
    noise = np.random.default_rng(integer(seed, "seed", 0)).standard_normal((1, *shape))
    centre = checked_codes(centre, "centre", shape, dtype)
    z = centre + noise.astype(dtype) if start is None else checked_codes(start, "start", shape, dtype)
    f(f.images(draw(z).numpy(), f"The images of {generator.name!r}"))
    answer, goal = of_classes(f, model, target, "log_probability")
    z, goal, centre = as_many(start=z, target=goal, centre=centre)

    def value(z, goal, centre):
        said = answer(tf.cast(draw(z), f.dtype), goal)
        away = tf.reduce_sum(tf.square(_wide(z) - _wide(centre)), list(range(1, z.shape.rank)))
        return said, _wide(said) - l2 * away

    run = _gradient(value, tf.TensorSpec([None, *shape], dtype), goal, centre)
    z, history = _climb(lambda z, k: run(z, goal, centre), z, steps, RATE, (-np.inf, np.inf), f.name)
    images = draw(z).numpy()
    if not return_history:
        return images, z
    return images, z, history._replace(images=np.stack([draw(codes).numpy() for codes in history.images]))


# --- the ascent


def _climb(at, x, steps, rate, box, name):
    """Adam, from `x` on, along the gradient of the second of the values that `at(x, k)` returns; x and an `Ascent`.

    In float64, whatever the network computes in: squares of small slopes would be 0 in float16, and of large ones inf.
    """
    kept = np.unique(np.linspace(0, steps, FRAMES).round().astype(int))
    dtype, rounding = x.dtype, float(np.spacing(np.ones((), x.dtype)))
    x = x.astype("float64")
    values, images, mean, square = [], [], np.zeros_like(x), np.zeros_like(x)
    for k in range(steps + 1):
        *said, slope = (one.numpy().astype("float64") for one in at(x.astype(dtype), k))
        refuse_unless_finite(np.stack(said, 1), "answer and objective", name)
        refuse_unless_finite(slope, "gradients", name)
        values.append(said)
        if k in kept:
            images.append(x)
        if k == steps:
            break
        axes = tuple(range(1, x.ndim))
        if k == 0:
            # so that another unit of the objective changes nothing, image by image, and rounding hardly anything
            little = max(1e-8, 10 * rounding) * np.sqrt(np.square(slope).mean(axes, keepdims=True))
            if not little.all():
                where = np.flatnonzero(little == 0).tolist()
                warn(f"There is no slope at the start of images {where}. If they stay there, start elsewhere.")
        mean, square = 0.9 * mean + 0.1 * slope, 0.999 * square + 0.001 * np.square(slope)
        step = mean / (1 - 0.9 ** (k + 1)) / (np.sqrt(square / (1 - 0.999 ** (k + 1))) + np.maximum(little, 1e-300))
        now = rate * (1 + np.cos(np.pi * k / steps)) / 2
        x = np.clip(x + now * step, *box)
    answer, objective = np.moveaxis(np.array(values), 1, 0)
    return x.astype(dtype), Ascent(answer, objective, kept, np.stack(images).astype(dtype))


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
    compiled = tf.function(run, input_signature=[spec, *rest], autograph=False)
    try:
        return compiled.get_concrete_function()
    except (TypeError, NotImplementedError) as error:
        raise ValueError(
            "The objective cannot be compiled. Expected: an expert in TensorFlow operations, for any number of images, "
            f"without len, if or for over them. Received: {str(error).splitlines()[0]}"
        ) from error


def _wide(values):
    """`values` in float32 or float64, for sums of what may be much larger or smaller."""
    return values if values.dtype == tf.float64 else tf.cast(values, tf.float32)
