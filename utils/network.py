"""A model as the methods see it: checked inputs in, scores and their gradients out, compiled once."""

import functools
import operator
import warnings

import keras
import numpy as np
import tensorflow as tf

from utils.heads import check_model, logits_of


def network_of(model, explain="logit", several_inputs=False):
    """Return the `Network` of `model`, compiled at its first use and kept with the model for as long as that lives.

    It is made anew when a layer was exchanged or has got other attributes since (an activation, a slope, LoRA,
    the statistics of a `Normalization`). New values of the weights need nothing.

    Args:
        model: a built functional or Sequential Keras model.
        explain: "logit" for the score before a softmax head, "output" for the model's own output.
        several_inputs: whether a model with more than one input will do.

    Raises:
        ValueError: `model` or `explain` is not one of these.
    """
    check_model(model, several_inputs)
    if not isinstance(explain, str) or explain not in ("logit", "output"):
        raise ValueError(f"explain names the score to explain. Received: {explain!r}. Expected: 'logit' or 'output'.")
    # in its dictionary, so that Keras neither tracks nor saves it, and both are forgotten together
    kept = vars(model).setdefault("_networks", _Kept())
    state = _state(model)
    if explain not in kept.networks or not _same(kept.networks[explain].state, state):
        kept.networks[explain] = Network(model, explain, state)
    return kept.networks[explain]


def checked(model, x, target, explain, batch_size):
    """What every method begins with: the network of `model`, its checked images, and a class index for each."""
    network = network_of(model, explain)
    x = network.images(x)
    return network, x, network.targets(x, target, batch_size)


class _Kept:
    """The networks of a model; no dictionary, for Keras would look into one when it saves the model."""

    def __init__(self):
        self.networks = {}


def _state(model):
    """All layers and what hangs on them, as a flat list of objects; a changed one is another object."""
    objects = []
    for layer in model._flatten_layers(include_self=False):
        objects.append(layer)
        if not isinstance(layer, keras.Model):  # its layers are in the list themselves
            objects += [value for name, value in vars(layer).items() if _COUNTS[name]]
    return objects


# what changes when a model is called, compiled, trained, frozen or saved, and not in what it computes
_BOOKKEEPING = ("_trainable", "_inbound", "_outbound", "_loss", "_metric", "_called", "_path", "_parent", "built")


class _Counts(dict):
    """Name of an attribute -> whether it counts; there are few names, and they are looked up in every call."""

    def __missing__(self, name):
        self[name] = not name.startswith(_BOOKKEEPING)
        return self[name]


_COUNTS = _Counts()


def _same(one, other):
    return len(one) == len(other) and all(map(operator.is_, one, other))


class Network:
    """The scores of a model and their input gradients, in chunks, for input that has been checked."""

    def __init__(self, model, explain, state):
        logits = logits_of(model, verbose=False) if explain == "logit" else model
        inputs = logits.inputs if len(logits.inputs) > 1 else logits.inputs[0]
        self.model = keras.Model(inputs, logits.outputs[0])  # the same layers, not the same object
        self._unchecked, self._no_head_found = True, explain == "logit" and logits is model
        self.state = state
        self.compiled = {}  # what the methods compile for this network: see `once`
        self.name = model.name
        self.shape = tuple(self.model.inputs[0].shape[1:])
        self.dtype = _type_of(self.model.inputs[0])
        if self.dtype.kind != "f" and len(self.model.inputs) == 1:
            raise ValueError(
                f"The input of {self.name!r} is {self.dtype}. Expected: float16, float32 or float64, for there is no "
                "gradient with respect to whole numbers, and NumPy has no bfloat16. Explain the part of the model "
                "behind its first layer, or give it another input type."
            )
        if len(self.model.outputs[0].shape) != 2:
            raise ValueError(
                f"Expected a model with one score per class, [n, classes]. Received: {self.name!r} with output "
                f"{self.model.outputs[0].shape}. Reduce it to the score you mean, for example with "
                "GlobalAveragePooling2D, as a new keras.Model."
            )
        self.classes = self.model.outputs[0].shape[1]
        if self.classes is None:
            raise ValueError(
                f"The number of classes of {self.name!r} is not known, for it depends on the size of the image. "
                "Expected: [n, classes], for example after GlobalAveragePooling2D in place of Flatten."
            )

    # --- what came in

    def images(self, x, name="x"):
        """Check `x` and return it as an array `[n, ...]` in the type of the model's input."""
        return self._checked_array(x, name, self.shape, self.dtype)

    def inputs(self, x):
        """Check what goes into a model of one input or several: an array, or a list of arrays in the model's order."""
        tensors = self.model.inputs
        if len(tensors) == 1:
            return self.images(x)
        names = [tensor.name for tensor in tensors]
        if isinstance(x, dict) and set(x) == set(names):
            x = [x[name] for name in names]
        if not isinstance(x, (list, tuple)) or len(x) != len(names):
            raise ValueError(
                f"{self.name!r} has {len(names)} inputs. Received: {type(x).__name__}. Expected: a list of arrays for "
                f"{names}, or a dictionary with these names."
            )
        arrays = [
            self._checked_array(values, f"x, {tensor.name!r},", tuple(tensor.shape[1:]), _type_of(tensor))
            for values, tensor in zip(x, tensors)
        ]
        if len({len(values) for values in arrays}) > 1:
            raise ValueError(f"The inputs differ in length. Received: {[len(values) for values in arrays]}.")
        return arrays

    def _checked_array(self, x, name, shape, dtype):
        x = _as_array(x, name)
        if dtype.kind != "f" and x.dtype.kind not in "iub":
            raise ValueError(f"{name} must hold whole numbers ({dtype}). Received: {x.dtype}.")
        if dtype.kind == "f" and x.dtype.kind != "f" and x.dtype != "bfloat16":
            raise ValueError(
                f"{name} must hold floating-point numbers in the range the model was trained on. Received: {x.dtype}"
                f"{f' from {x.min()} to {x.max()}' if x.size and x.dtype.kind in 'iu' else ''}. The range is not "
                "guessed: convert as for training, for example x.astype('float32') / 255."
            )
        fits = x.ndim == len(shape) + 1 and all(size in (None, got) for size, got in zip(shape, x.shape[1:]))
        if not fits:
            one = x.ndim == len(shape) and all(size in (None, got) for size, got in zip(shape, x.shape))
            raise ValueError(
                f"{name} does not fit the input of {self.name!r}. Received: shape {x.shape}. Expected: "
                f"{_shape_text(shape)}. {f'For a single image, pass {name}[None].' if one else ''}".rstrip()
            )
        if dtype.kind in "iu" and x.size:
            low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
            if not (low <= x.min() and x.max() <= high):
                raise ValueError(
                    f"{name} must hold whole numbers from {low} to {high} ({dtype}). Received: {x.min()} to {x.max()}."
                )
        with np.errstate(over="ignore"):  # what overflows is refused below
            x = x.astype(dtype, copy=False)
        bad = ~np.isfinite(x)
        if bad.any():
            raise ValueError(
                f"{name} must hold finite numbers. Received: {bad.sum()} values that are NaN, infinite or too large "
                f"for {dtype}, the first at index {tuple(map(int, np.argwhere(bad)[0]))}."
            )
        return x

    def targets(self, x, target, batch_size=None):
        """Check `target` and return class indices `[n]`; the predicted classes where it is None."""
        if target is None:
            return self.scores(x, batch_size=batch_size).argmax(-1)
        target = _as_array(target, "target")
        if not target.size and not rows(x):
            return np.zeros(0, "int64")
        expected = f"a class index from 0 to {self.classes - 1}, or one for each of the {rows(x)} images"
        if target.dtype.kind not in "iu":
            raise ValueError(
                f"target must hold whole numbers. Received: {target.dtype}. Expected: {expected}. Of the name of a "
                "class, pass names.index(name)."
            )
        if target.ndim > 1:
            raise ValueError(
                f"target has too many axes. Received: shape {target.shape}. Expected: {expected}. "
                "Of one-hot labels, pass labels.argmax(-1)."
            )
        if target.ndim == 1 and len(target) != rows(x):
            raise ValueError(f"target does not fit x. Received: {len(target)} targets. Expected: {expected}.")
        if target.size and not (0 <= target.min() and target.max() < self.classes):
            raise ValueError(
                f"target names a class that {self.name!r} does not have. Received: {target.min()} to {target.max()}. "
                f"Expected: {expected}."
            )
        return np.broadcast_to(target, rows(x)).astype("int64")

    def baselines(self, baseline, x):
        """Check `baseline` (None, a number, one image `[...]` or `[n, ...]`) and return it in the shape of `x`."""
        if baseline is None:
            return np.zeros_like(x)
        received = np.shape(baseline)
        if received == ():
            baseline = np.full(x.shape[1:], baseline, None if isinstance(baseline, str) else self.dtype)
        if np.ndim(baseline) == x.ndim - 1:
            baseline = np.asarray(baseline)[None]
        if np.shape(baseline) not in ((1, *x.shape[1:]), x.shape):
            raise ValueError(
                f"baseline does not fit x. Received: shape {received}. Expected: a number, one image "
                f"{x.shape[1:]}, or one for each, {x.shape}."
            )
        return np.broadcast_to(self.images(baseline, "baseline"), x.shape)

    # --- what goes out

    def batch_size(self, batch_size, x):
        """Check `batch_size`; for None, return about as many images as make 200,000 pixels, at most 256."""
        if batch_size is None:
            pixels = max(1, *(int(np.prod(part.shape[1:-1])) for part in keras.tree.flatten(x)))
            return int(np.clip(200_704 // pixels, 1 if pixels > 200_704 else 4, 256))
        return whole_number(batch_size, "batch_size")

    def scores(self, x, target=None, batch_size=None):
        """Scores `[n, classes]` of checked images; with `target` `[n]`, only each image's own, `[n]`."""
        size = self.batch_size(batch_size, x)
        scores = np.zeros((rows(x), self.classes), self.dtype if self.dtype.kind == "f" else "float32")
        for k in range(0, len(scores), size):
            scores[k : k + size] = self._forward(chunk(x, k, size))
        self.refuse_unless_finite(scores, "scores")
        return scores if target is None else scores[np.arange(len(scores)), target]

    def completeness_error(self, R, x, baseline, target, batch_size=None):
        """The sum of each map of `R` minus f_c(x) - f_c(x'), `[n]`."""
        gain = self.scores(x, target, batch_size) - self.scores(baseline, target, batch_size)
        return R.reshape(len(x), -1).sum(-1) - gain

    def gradient(self, x, target, batch_size=None):
        """The gradient of each image's score for its `target`, in the shape of `x`."""
        size = self.batch_size(batch_size, x)
        gradient = np.empty_like(x)
        for k in range(0, len(x), size):
            gradient[k : k + size], outputs = self._backward(x[k : k + size], target[k : k + size])
            self.check_outputs(x[k : k + size], outputs)
        self.refuse_unless_finite(gradient, "gradients")
        return gradient

    def once(self, key, make):
        """What `make()` returns, made at the first call with `key` and kept, with the last `MOST_COMPILED` others."""
        if key not in self.compiled:
            if len(self.compiled) >= MOST_COMPILED:
                self.compiled.pop(next(iter(self.compiled)))
            self.compiled[key] = make()
        return self.compiled[key]

    @functools.cached_property
    def _forward(self):
        @tf.function(input_signature=[self.spec], autograph=False)
        def scores(x):
            return self.model(x, training=False)

        return scores.get_concrete_function()  # also spares later calls a false warning of retracing

    @functools.cached_property
    def _backward(self):
        @tf.function(input_signature=[self.spec, tf.TensorSpec([None], "int64")], autograph=False)
        def gradient(x, target):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(x)
                outputs = self.model(x, training=False)
                score = tf.gather(outputs, target, axis=1, batch_dims=1)
            gradient = tape.gradient(score, x)
            if gradient is None:
                raise ValueError(
                    f"No gradient flows from the output of {self.name!r} to its input: an operation on the way "
                    "(argmax, rounding, a cast to whole numbers) has none."
                )
            return gradient, outputs

        return gradient.get_concrete_function()

    @property
    def spec(self):
        specs = [tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype) for tensor in self.model.inputs]
        return specs if len(specs) > 1 else specs[0]

    def check_outputs(self, x, outputs):
        """Look at the first outputs: are they scores, and does each belong to its own image?"""
        if not self._unchecked:
            return
        outputs = np.asarray(outputs)
        total = outputs.sum(-1, dtype="float64")
        if self._no_head_found and self.classes > 1 and (outputs >= 0).all() and np.allclose(total, 1, atol=1e-2):
            raise ValueError(
                f"The outputs of {self.name!r} are positive and sum to 1, so they look like probabilities, but no "
                "softmax was found at its end. Expected: logits, or a softmax of Keras. Pass explain='output' to "
                "explain the probabilities themselves, or a model that ends at the logits."
            )
        if len(outputs) < 2:
            return  # it takes two to mix
        alone = self._forward(chunk(x, 0, 1)).numpy()
        if not np.allclose(alone, outputs[:1], rtol=1e-2, atol=1e-2 * np.abs(outputs).max()):
            raise ValueError(
                f"{self.name!r} mixes the images of a batch: the scores of the first differ by up to "
                f"{np.abs(alone - outputs[:1]).max():.3g} when alone. Expected: a model that reads each by itself."
            )
        self._unchecked = False  # once is enough

    def refuse_unless_finite(self, values, what):
        finite = np.isfinite(values)
        if not finite.all():
            image = int(np.argwhere(~finite)[0][0])
            raise ValueError(
                f"The {what} of {self.name!r} are not finite, first for point {image} of {len(values)}. Are there "
                "weights that are NaN, values that overflow, or an operation without a finite slope at the input "
                "(a root at 0)?"
            )


def warn_where_empty(maps, advice, name="", stacklevel=2):
    """Warn of maps `[n, ...]` that are zero everywhere, for whoever called the function `stacklevel` calls above."""
    empty = np.flatnonzero(~maps.any(tuple(range(1, maps.ndim))))
    if len(empty):
        warnings.warn(
            f"{name}{len(empty)} of {len(maps)} maps are zero everywhere, the first for image {empty[0]}. {advice}",
            stacklevel=stacklevel + 1,
        )


MOST_COMPILED = 32  # functions kept for a model, so that a loop over parameters does not fill the memory


def rows(x):
    """How many images: of an array, or of a list of arrays of one length."""
    return len(keras.tree.flatten(x)[0])


def chunk(x, start, size):
    """`size` images of an array, or of each array of a list, from `start` on."""
    return keras.tree.map_structure(lambda part: part[start : start + size], x)


def _type_of(tensor):
    try:
        return np.dtype(keras.backend.standardize_dtype(tensor.dtype))
    except TypeError:
        raise ValueError(
            f"The input {tensor.name!r} is of type {tensor.dtype}. Expected: numbers. Explain the model behind the "
            "layer that turns them into numbers."
        ) from None


def _as_array(values, name):
    """`values` as an array, or a ValueError."""
    if isinstance(values, np.ma.MaskedArray):
        raise ValueError(f"{name} is a masked array, whose mask would be lost. Expected: x.filled(0), say.")
    try:
        return np.asarray(values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be an array. Received: {type(values).__name__} ({error}).") from error


def whole_number(value, name, least=1):
    """Return `value` as an int, or raise a ValueError unless it is a whole number of at least `least`."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or number < least:
        raise ValueError(f"{name} must be a whole number of at least {least}. Received: {value!r}.")
    return number


def _shape_text(shape):
    return f"[n, {', '.join('any' if size is None else str(size) for size in shape)}]"
