"""A model as the methods see it: checked inputs in, scores and their gradients out, compiled once."""

import functools
import operator
import weakref

import keras
import numpy as np
import tensorflow as tf

from utils.surgery import check_model, logits_of

# model -> {explain: Network}; an entry goes when its model does, so a Network never refers to the model itself
_NETWORKS = weakref.WeakKeyDictionary()


def network_of(model, explain="logit"):
    """Return the `Network` of `model`, compiled at its first use and kept for as long as the model lives.

    Args:
        model: a built functional or Sequential Keras model.
        explain: "logit" for the score before a softmax head, "output" for the model's own output.

    Raises:
        ValueError: `model` or `explain` is not one of these.
    """
    check_model(model)
    if explain not in ("logit", "output"):
        raise ValueError(f"explain names the score to explain. Received: {explain!r}. Expected: 'logit' or 'output'.")
    kept = _NETWORKS.setdefault(model, {})
    activations = _activations(model)
    if explain not in kept or kept[explain].activations != activations:
        kept[explain] = Network(model, explain, activations)
    return kept[explain]


def _activations(model):
    """The activations of all layers: whoever exchanges one (a common trick) gets a newly compiled network."""
    inner = (
        _activations(layer) if isinstance(layer, keras.Model) else getattr(layer, "activation", None)
        for layer in model.layers
    )
    return tuple(inner)


class Network:
    """The scores of a model and their input gradients, in chunks, for input that has been checked."""

    def __init__(self, model, explain, activations):
        logits = logits_of(model, verbose=False) if explain == "logit" else model
        self._model = keras.Model(logits.inputs[0], logits.outputs[0])  # the same layers, not the same object
        self._checks_for_probabilities = explain == "logit" and logits is model
        self.activations = activations
        self.name = model.name
        self.shape = tuple(self._model.inputs[0].shape[1:])
        self.dtype = np.dtype(keras.backend.standardize_dtype(self._model.inputs[0].dtype))
        if self.dtype.kind != "f":
            raise ValueError(
                f"The input of {self.name!r} is {self.dtype}: there is no gradient with respect to whole numbers. "
                "Expected: a model with a floating-point input, for example the part behind its first layer."
            )
        if len(self._model.outputs[0].shape) != 2:
            raise ValueError(
                f"Expected a model with one score per class, [n, classes]. Received: {self.name!r} with output "
                f"{self._model.outputs[0].shape}. Reduce it to the score you mean, for example with "
                "GlobalAveragePooling2D, as a new keras.Model."
            )
        self.classes = self._model.outputs[0].shape[1]

    # --- what came in

    def images(self, x, name="x"):
        """Check `x` and return it as an array `[n, ...]` in the type of the model's input."""
        x = np.asarray(x)
        if x.dtype.kind != "f" and x.dtype != "bfloat16":
            raise ValueError(
                f"{name} must hold floating-point numbers in the range the model was trained on. Received: {x.dtype}"
                f"{f' from {x.min()} to {x.max()}' if x.size and x.dtype.kind in 'iu' else ''}. The range is not "
                "guessed: convert as for training, for example x.astype('float32') / 255."
            )
        fits = x.ndim == len(self.shape) + 1 and all(size in (None, got) for size, got in zip(self.shape, x.shape[1:]))
        if not fits:
            one = x.ndim == len(self.shape) and all(size in (None, got) for size, got in zip(self.shape, x.shape))
            raise ValueError(
                f"{name} does not fit the input of {self.name!r}. Received: shape {x.shape}. Expected: "
                f"{_shape_text(self.shape)}. {f'For a single image, pass {name}[None].' if one else ''}".rstrip()
            )
        x = x.astype(self.dtype, copy=False)
        bad = ~np.isfinite(x)
        if bad.any():
            raise ValueError(
                f"{name} must hold finite numbers. Received: {bad.sum()} values that are NaN, infinite or too large "
                f"for {self.dtype}, the first at index {tuple(map(int, np.argwhere(bad)[0]))}."
            )
        return x

    def targets(self, x, target, batch_size=None):
        """Check `target` and return class indices `[n]`; the predicted classes where it is None."""
        if target is None:
            return self.scores(x, batch_size=batch_size).argmax(-1)
        target = np.asarray(target)
        expected = f"a class index from 0 to {self.classes - 1}, or one for each of the {len(x)} images"
        if target.dtype.kind not in "iu":
            raise ValueError(f"target must hold whole numbers. Received: {target.dtype}. Expected: {expected}.")
        if target.ndim > 1:
            raise ValueError(
                f"target has too many axes. Received: shape {target.shape}. Expected: {expected}. "
                "Of one-hot labels, pass labels.argmax(-1)."
            )
        if target.ndim == 1 and len(target) != len(x):
            raise ValueError(f"target does not fit x. Received: {len(target)} targets. Expected: {expected}.")
        if target.size and not (0 <= target.min() and target.max() < self.classes):
            raise ValueError(
                f"target names a class that {self.name!r} does not have. Received: {target.min()} to {target.max()}. "
                f"Expected: {expected}."
            )
        return np.broadcast_to(target, len(x)).astype("int64")

    def baselines(self, baseline, x):
        """Check `baseline` (None, a number, one image `[...]` or `[n, ...]`) and return it in the shape of `x`."""
        if baseline is None:
            return np.zeros_like(x)
        received = np.shape(baseline)
        if received == ():
            baseline = np.full(x.shape[1:], baseline)
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
            return int(np.clip(200_704 // max(1, np.prod(x.shape[1:3])), 4, 256))
        return whole_number(batch_size, "batch_size")

    def scores(self, x, target=None, batch_size=None):
        """Scores `[n, classes]` of checked images; with `target` `[n]`, only each image's own, `[n]`."""
        size = self.batch_size(batch_size, x)
        scores = np.zeros((len(x), self.classes), self.dtype)
        for k in range(0, len(x), size):
            scores[k : k + size] = self._forward(x[k : k + size])
        return scores if target is None else scores[np.arange(len(x)), target]

    def gradient(self, x, target, batch_size=None):
        """The gradient of each image's score for its `target`, in the shape of `x`."""
        size = self.batch_size(batch_size, x)
        gradient = np.empty_like(x)
        for k in range(0, len(x), size):
            gradient[k : k + size], outputs = self._backward(x[k : k + size], target[k : k + size])
            if self._checks_for_probabilities:
                self._refuse_probabilities(outputs.numpy())
        return gradient

    @functools.cached_property
    def _forward(self):
        @tf.function(input_signature=[self._spec], autograph=False)
        def scores(x):
            return self._model(x, training=False)

        return scores.get_concrete_function()  # also spares later calls a false warning of retracing

    @functools.cached_property
    def _backward(self):
        @tf.function(input_signature=[self._spec, tf.TensorSpec([None], "int64")], autograph=False)
        def gradient(x, target):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(x)
                outputs = self._model(x, training=False)
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
    def _spec(self):
        return tf.TensorSpec([None, *self.shape], self.dtype)

    def _refuse_probabilities(self, outputs):
        """Raise if `outputs` are probabilities: then there is a softmax that `logits_of` cannot see."""
        if self.classes > 1 and (outputs >= 0).all() and np.allclose(outputs.sum(-1), 1, atol=1e-3):
            raise ValueError(
                f"The outputs of {self.name!r} are positive and sum to 1, so they look like probabilities, but no "
                "softmax was found at its end. Expected: logits, or a softmax of Keras. Pass explain='output' to "
                "explain the probabilities themselves, or a model that ends at the logits."
            )
        self._checks_for_probabilities = False  # once is enough


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
