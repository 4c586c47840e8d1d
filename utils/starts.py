"""What activation maximization begins with: images, codes and shifts; and whether an expert or a generator fits."""

import keras
import numpy as np
import tensorflow as tf

from .checks import as_array, check_model, integer, number, type_of

NOISE = 0.02  # of the start, as a share of the box


def first_images(f, start, low, high, rng):
    """The images to begin with, `[1 or k, ...]`."""
    start = start if start is None else as_array(start, "start")
    if start is None or start.ndim == 0:
        if None in f.shape:
            raise ValueError(f"{f.name!r} takes images of any size. Received: start={start!r}. Expected: an image.")
        grey = (low + high) / 2 + (high - low) * NOISE * rng.standard_normal((1, *f.shape))
        start = np.clip(grey, low, high) if start is None else np.full((1, *f.shape), number(start[()], "start"))
    x = start.astype(f.dtype) if start.dtype.kind in "iu" else start
    x = f.images(x[None] if x.ndim == len(f.shape) else x, "start")
    if not len(x) or x.min() < low or x.max() > high:
        spread = f"{x.min()} to {x.max()}" if x.size else f"shape {x.shape}"
        raise ValueError(f"start lies outside of the box. Received: {spread}. Expected: {low} to {high}.")
    return x


def drawn_shifts(jitter, steps, x, rng):
    """By how many rows and columns the image is rolled in each step, `[steps + 1, 2]`; not at the end."""
    jitter = integer(jitter, "jitter", 0)
    if jitter and (x.ndim != 4 or jitter >= min(x.shape[1:3])):
        raise ValueError(
            f"jitter rolls images [n, height, width, channels] by less than their size. Received: jitter={jitter}, "
            f"images {x.shape}."
        )
    shifts = rng.integers(-jitter, jitter + 1, (steps + 1, 2))
    shifts[-1] = 0
    return shifts.astype("int32")


def check_expert(expert, image, edge):
    """Raise unless an expert returns log p(x) for each image by itself, with a gradient."""
    if not callable(expert):
        raise ValueError(f"expert must be a function of images. Received: {type(expert).__name__}.")
    two = tf.constant(np.stack([image, (image[::-1] + edge) / 2]).astype(image.dtype))
    found, slope = _with_slope(expert, two)
    if not (np.isfinite(found[0]) and np.isfinite(slope[0]).all()):
        raise ValueError(f"expert or its gradient is not finite at the start. Received: log p(x) = {found[0]}.")
    near = max(1e-3, 20 * float(np.spacing(np.ones((), image.dtype))))
    for k in (0, 1):
        for alone, beside in zip(_with_slope(expert, two[k : k + 1]), (found[k], slope[k])):
            if np.isfinite(beside).all() and not np.allclose(alone[0], beside, near, near * np.abs(beside).max()):
                raise ValueError("expert mixes the images of a batch. Expected: log p(x) of each by itself.")


def _with_slope(expert, images):
    """log p(x) `[n]` and its gradient, in float64; raise if an expert does not return these."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(images)
        found = expert(images)
    received, n = tuple(np.shape(found)), len(images)
    if received != (n,):
        raise ValueError(f"expert must return log p(x) for each image, [n]. Received: shape {received} of {n}.")
    slope = tape.gradient(found, images) if tf.is_tensor(found) else None
    if slope is None:
        raise ValueError(
            "expert has no gradient: it is constant, or something in it is NumPy's. Expected: a function of tensors in "
            "TensorFlow operations."
        )
    return np.asarray(found, "float64"), np.asarray(slope, "float64")


def checked_generator(generator, f):
    """The shape and type of the codes of a generator, and what draws their images, which must fit."""
    check_model(generator)
    shape, images = (tuple(one[0].shape[1:]) for one in (generator.inputs, generator.outputs))
    fit = len(images) == len(f.shape) and all(None in (a, b) or a == b for a, b in zip(images, f.shape))
    dtype = type_of(generator.inputs[0])
    if None in shape or not fit or dtype.kind == "i":
        raise ValueError(
            f"The images of {generator.name!r} do not fit {f.name!r}. Received: codes {shape}, images {images}, from "
            f"{dtype}. Expected: codes of known shape, floats, images {f.shape}."
        )
    return shape, dtype, lambda z: keras.tree.flatten(generator(z, training=False))[0]


def checked_codes(values, name, shape, dtype):
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
