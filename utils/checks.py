"""What does not fit is refused here, in one voice: what came, what was expected, what to do."""

import operator
import os
import sys
import warnings

import keras
import numpy as np

_PACKAGE, _KERAS = (os.path.dirname(os.path.abspath(path)) + os.sep for path in (__file__, keras.__file__))


def warn(message):
    """Warn at the line outside of this package that called into it, be TensorFlow between here and there."""
    level, outermost, frame = 1, 1, sys._getframe()
    while frame is not None:
        if os.path.abspath(frame.f_code.co_filename).startswith(_PACKAGE):
            outermost = level
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=outermost + 1)


def one_of(value, name, expected):
    """Return `value`, or raise a ValueError unless it is one of the words `expected`."""
    if not isinstance(value, str) or value not in expected:
        words = [repr(word) for word in expected]
        words = f": {' or '.join(words)}" if len(words) == 2 else f" one of: {', '.join(words)}"
        raise ValueError(f"There is no such {name}. Received: {value!r}. Expected{words}.")
    return value


def integer(value, name, least=1):
    """Return `value` as an int, or raise a ValueError unless it is an integer of at least `least`."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or number < least:
        raise ValueError(f"{name} must be an integer of at least {least}. Received: {value!r}.")
    return number


def number(value, name, least=-np.inf, most=np.inf):
    """Return `value` as a float, or raise a ValueError unless it is a finite number from `least` to `most`."""
    is_number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if not (is_number and np.isfinite(value) and least <= value <= most):
        expected = "a finite number" if most == np.inf else f"a number from {least} to {most}"
        expected += f" of at least {least}" if -np.inf < least and most == np.inf else ""
        raise ValueError(f"{name} must be {expected}. Received: {value!r}.")
    return float(value)


def black_and_white(low, high):
    """Return the values of black and white as floats, or raise a ValueError unless both are finite, black below."""
    are_numbers = all(np.ndim(value) == 0 and np.asarray(value).dtype.kind in "iuf" for value in (low, high))
    if not (are_numbers and np.isfinite([low, high]).all() and low < high):
        raise ValueError(f"low and high are the values of black and white. Received: {low!r} and {high!r}.")
    return float(low), float(high)


# --- models


def check_model(model, several_inputs=False):
    """Raise a ValueError unless the connections of `model` are known: a built functional or Sequential model."""
    if not isinstance(model, keras.Model):
        raise ValueError(f"Expected a Keras 3 model. Received: {type(model).__module__}.{type(model).__name__}.")
    if isinstance(model, keras.Sequential) and not hasattr(model, "outputs"):
        raise ValueError(
            f"The model {model.name!r} is not built: the shape of its input is not known. "
            "Begin it with keras.Input(shape), or call it once on an image."
        )
    check_connections(model)
    for side in ("outputs",) if several_inputs else ("inputs", "outputs"):
        tensors = getattr(model, side)
        if len(tensors) == 1:
            continue
        advice = (
            "The class activation maps take several inputs. For the other methods, fix all inputs but one: make the "
            "rest part of a new functional model, keras.Model(x, model([x, constants]))."
            if side == "inputs"
            else "keras.Model(inputs, outputs) makes one that has the output you mean, model.outputs[0], say."
        )
        raise ValueError(
            f"Expected a model with one input and one output. Received: {model.name!r} with {len(tensors)} {side}. "
            f"{advice}"
        )


def check_connections(model):
    """Raise a ValueError unless `model` is its graph: not subclassed, and without a `call` of its own."""
    its_own = "call" in vars(model) or not type(model).call.__code__.co_filename.startswith(_KERAS)
    if its_own or not hasattr(model, "outputs"):
        raise ValueError(
            f"The model {model.name!r} is subclassed ({type(model).__name__}): its layers are known, their "
            "connections are not. Expected: a functional or Sequential model. If its call is a chain of layers, "
            "x = keras.Input(shape); keras.Model(x, model.call(x)) gives a functional model with the same weights."
        )


# --- arrays


def as_many(**arrays):
    """Arrays of one length, those of one row repeated, or a ValueError."""
    n = max(map(len, arrays.values()))
    lengths = {name: len(one) for name, one in arrays.items()}
    if set(lengths.values()) - {1, n}:
        raise ValueError(f"Expected: one of each, or as many as of the others. Received: {lengths}.")
    return [one if len(one) == n else np.repeat(one, n, 0) for one in arrays.values()]


def type_of(tensor):
    """The NumPy type of a symbolic input, or a ValueError if it holds no numbers."""
    try:
        return np.dtype(keras.backend.standardize_dtype(tensor.dtype))
    except TypeError:
        raise ValueError(
            f"The input {tensor.name!r} is of type {tensor.dtype}. Expected: numbers. Explain the model behind the "
            "layer that turns them into numbers."
        ) from None


def rows(x):
    """How many images: of an array, or of a list of arrays of one length."""
    return len(x) if isinstance(x, np.ndarray) else len(keras.tree.flatten(x)[0])


def as_array(values, name):
    """`values` as an array, or a ValueError."""
    if isinstance(values, np.ma.MaskedArray):
        raise ValueError(f"{name} is a masked array, whose mask would be lost. Expected: x.filled(0), say.")
    if isinstance(values, (str, os.PathLike)) or hasattr(values, "as_numpy_iterator"):
        what = "a data set" if hasattr(values, "as_numpy_iterator") else repr(values)
        advice = "np.concatenate(list(dataset))" if hasattr(values, "as_numpy_iterator") else "np.asarray of the image"
        raise ValueError(f"{name} must be an array. Received: {what}. Expected: what it holds, for example {advice}.")
    if hasattr(values, "detach"):  # a tensor of PyTorch, which is no array while it requires gradients
        values = values.detach().cpu()
    try:
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} must be an array. Received: {type(values).__name__} ({error}).") from error


def checked_array(x, name, shape, dtype, model, rescales=False):
    """Check the input `x` of a model and return it as an array `[n, *shape]` of type `dtype`.

    Args:
        name: what the message calls it.
        shape: without the batch; None where any size will do.
        model: the name of the model.
        rescales: whether the model begins with a rescaling of its own.
    """
    x = as_array(x, name)
    if dtype.kind != "f" and x.dtype.kind not in "iub":
        raise ValueError(f"{name} must hold integers ({dtype}). Received: {x.dtype}.")
    if dtype.kind == "f" and x.dtype.kind != "f" and x.dtype != "bfloat16":
        spread = f" from {x.min()} to {x.max()}" if x.size and x.dtype.kind in "iu" else ""
        advice = (
            "The model rescales its input itself, so keep the range: x.astype('float32')."
            if rescales
            else "The range is not guessed: convert as for training, for example x.astype('float32') / 255."
        )
        raise ValueError(
            f"{name} must hold floating-point numbers in the range the model was trained on. Received: {x.dtype}"
            f"{spread}. {advice}"
        )
    if not (x.ndim == len(shape) + 1 and _fits(x.shape[1:], shape)):
        alone = f" For a single image, pass {name}[None]." if _fits(x.shape, shape) else ""
        expected = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(
            f"{name} does not fit the input of {model!r}. Received: shape {x.shape}. Expected: [n, {expected}].{alone}"
        )
    if dtype.kind in "iu" and x.size:
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        if not (low <= x.min() and x.max() <= high):
            raise ValueError(
                f"{name} must hold integers from {low} to {high} ({dtype}). Received: {x.min()} to {x.max()}."
            )
    if x.dtype != dtype:
        with np.errstate(over="ignore"):  # what overflows is refused below
            x = x.astype(dtype)
    if not np.isfinite(x).all():
        bad = ~np.isfinite(x)
        raise ValueError(
            f"{name} must hold finite numbers. Received: {bad.sum()} values that are NaN, infinite or too large "
            f"for {dtype}, the first at index {tuple(map(int, np.argwhere(bad)[0]))}."
        )
    return x


def _fits(received, shape):
    return len(received) == len(shape) and all(size in (None, got) for size, got in zip(shape, received))


def checked_target(target, n, classes, model):
    """Check `target` and return class indices `[n]`, int64."""
    target = as_array(target, "target")
    if not target.size and not n:
        return np.zeros(0, "int64")
    expected = f"a class index from 0 to {classes - 1}, or one for each of the {n} images"
    if target.ndim > 1:
        raise ValueError(
            f"target has too many axes. Received: shape {target.shape}. Expected: {expected}. "
            "Of one-hot labels, pass labels.argmax(-1)."
        )
    if target.dtype.kind not in "iu":
        advice = " Of the name of a class, pass names.index(name)." if target.dtype.kind in "US" else ""
        raise ValueError(f"target must hold integers. Received: {target.dtype}. Expected: {expected}.{advice}")
    if target.ndim == 1 and len(target) != n:
        raise ValueError(f"target does not fit x. Received: {len(target)} targets. Expected: {expected}.")
    if target.size and not (0 <= target.min() and target.max() < classes):
        advice = (
            " Its single score speaks for 'yes': its map, with the sign turned, is that of 'no'."
            if classes == 1
            else ""
        )
        raise ValueError(
            f"target names a class that {model!r} does not have. Received: {target.min()} to {target.max()}. "
            f"Expected: {expected}.{advice}"
        )
    return np.full(n, target, "int64")


def checked_baseline(baseline, x, check, name="baseline"):
    """Check `baseline` and return it in the shape of `x`.

    Args:
        baseline: None for zeros, a number, one number for each channel, one image, or one image for each of x.
        check: what checks images.
        name: what the message calls it.
    """
    if baseline is None:
        return np.zeros_like(x)
    received, image = np.shape(baseline), x.shape[1:]
    if received == () or (received == image[-1:] and len(image) > 1):
        given = np.asarray(baseline)
        if given.dtype.kind in "iuf":
            baseline = np.broadcast_to(given.astype(x.dtype), image)
    if np.ndim(baseline) == x.ndim - 1:
        baseline = np.asarray(baseline)[None]
    if np.shape(baseline) not in ((1, *image), x.shape):
        raise ValueError(
            f"{name} does not fit x. Received: shape {received}. Expected: a number, one for each channel "
            f"({image[-1]}), one image {image}, or one for each, {x.shape}."
        )
    return np.broadcast_to(check(baseline, name), x.shape)


def refuse_unless_finite(values, what, model):
    """Raise a ValueError unless all `values`, `[n, ...]`, are finite."""
    finite = np.isfinite(values)
    if not finite.all():
        image = int(np.argwhere(~finite)[0][0])
        raise ValueError(
            f"The {what} of {model!r} are not finite, first for point {image} of {len(values)}. Are there "
            "weights that are NaN, values that overflow, or an operation without a finite slope at the input "
            "(a root at 0)?"
        )


def warn_where_empty(maps, advice, name=""):
    """Warn of maps `[n, ...]` that are zero everywhere."""
    empty = np.flatnonzero(~maps.any(tuple(range(1, maps.ndim))))
    if len(empty):
        warn(f"{name}{len(empty)} of {len(maps)} maps are zero everywhere, the first for image {empty[0]}. {advice}")
