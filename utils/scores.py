"""A model as the methods see it, f: checked inputs in, scores and their gradients out, compiled once."""

import functools
import math

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from .changes import State
from .checks import (
    check_model,
    checked_array,
    checked_baseline,
    checked_target,
    integer,
    one_of,
    refuse_unless_finite,
    rows,
    type_of,
)
from .graph import BUILDING, is_leaky, walk, whole_layer
from .logits import logits_of
from .outputs import (
    advice_behind_the_input,
    chunk,
    refuse_hidden_head,
    refuse_lost_masks,
    refuse_other_compilation,
    refuse_other_graph,
)
from .parts import inherits_call

MOST_COMPILED = 32  # functions kept for a model, so that a loop over parameters does not fill the memory


def scores_of(model, explain="logit", several_inputs=False):
    """Return the `Scores` of `model`, made at its first use and kept with the model for as long as that lives.

    They are made anew when a layer was exchanged or has got other attributes since (an activation, a slope, LoRA,
    the statistics of a `Normalization`). New values of the weights need nothing. Threads may share a model.

    Args:
        model: a built functional or Sequential Keras model.
        explain: "logit" for the score before a softmax head, "output" for the model's own output.
        several_inputs: whether a model with more than one input will do.

    Raises:
        ValueError: `model` or `explain` is not one of these.
    """
    check_model(model, several_inputs)
    one_of(explain, "score to explain", ("logit", "output"))
    # in its dictionary, so that Keras neither tracks nor saves it, and both are forgotten together
    kept = vars(model).get("_scores") or vars(model).setdefault("_scores", _Kept())
    found = kept.scores.get(explain)
    if found is None or not found.state.is_current():
        with BUILDING:
            found = kept.scores.get(explain)
            if found is None or not found.state.is_current():
                found = kept.scores[explain] = Scores(model, explain)
    return found


def checked(model, x, target, explain, batch_size):
    """What every method begins with: the scores f of `model`, its checked images, and a class index for each."""
    f = scores_of(model, explain)
    x = f.images(x)
    return f, x, f.targets(x, target, batch_size)


class _Kept:
    """The scores of a model; no dictionary, for Keras would look into one when it saves the model."""

    def __init__(self):
        self.scores = {}


class Scores:
    """The scores of a model, `f(x)`, and their input gradients, batch by batch, for input that has been checked.

    Attributes:
        model: the model up to these scores: the same layers, not the same object.
        name: that of the model.
        shape, dtype: of its (first) input, without the batch.
        classes: how many scores.
    """

    def __init__(self, model, explain):
        logits = logits_of(model, verbose=False) if explain == "logit" else model
        inputs = logits.inputs if len(logits.inputs) > 1 else logits.inputs[0]
        self.model = keras.Model(inputs, logits.outputs[0])
        self.state = State(model)
        # a class with a __call__ of its own (those of keras-hub have one): its graph is used, and compared with it
        self._own_call = None if type(model).__call__ is keras.Model.__call__ else model
        self._no_head_found = explain == "logit" and logits is model
        self._seen = 0  # the most images of a batch whose outputs have been looked at, up to 2
        self._compiled = {}
        self.name = model.name
        self.shape = tuple(self.model.inputs[0].shape[1:])
        self.dtype = type_of(self.model.inputs[0])
        self.is_half = any(getattr(one, "compute_dtype", "") in ("float16", "bfloat16") for one in self.state.layers)
        embeddings = [layer for layer in self.state.layers if inherits_call(layer, (layers.Embedding,))]
        self.embedding = embeddings[0] if embeddings else None
        self._rescales = _begins_with_rescaling(self.model)
        if len(self.model.outputs[0].shape) != 2:
            raise ValueError(
                f"Expected a model with one score per class, [n, classes]. Received: {self.name!r} with output "
                f"{self.model.outputs[0].shape}. Reduce it to the score you mean, for example with "
                "GlobalAveragePooling2D, as a new keras.Model; a single score [n] with keras.layers.Reshape((1,))."
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
        if self.dtype.kind != "f":
            raise ValueError(
                f"The input of {self.name!r} is {self.dtype}. Expected: float16, float32 or float64, for there is no "
                "gradient with respect to integers, and NumPy has no bfloat16. "
                f"{advice_behind_the_input(self.embedding)}"
            )
        if self.embedding and getattr(x, "dtype", np.dtype(float)) != self.dtype:
            raise ValueError(
                f"{name} holds tokens, and there is no gradient with respect to these. "
                f"{advice_behind_the_input(self.embedding)}"
            )
        return checked_array(x, name, self.shape, self.dtype, self.name, self._rescales)

    def inputs(self, x):
        """Check what goes into a model of one input or several: an array, or a list of arrays in the model's order."""
        tensors = self.model.inputs
        if len(tensors) == 1:
            return checked_array(x, "x", self.shape, self.dtype, self.name, self._rescales)
        names = [tensor.name for tensor in tensors]
        if isinstance(x, dict) and set(x) == set(names):
            x = [x[name] for name in names]
        if not isinstance(x, (list, tuple)) or len(x) != len(names):
            raise ValueError(
                f"{self.name!r} has {len(names)} inputs. Received: {type(x).__name__}. Expected: a list of arrays for "
                f"{names}, or a dictionary with these names."
            )
        arrays = [
            checked_array(values, f"x, {tensor.name!r},", tuple(tensor.shape[1:]), type_of(tensor), self.name)
            for values, tensor in zip(x, tensors)
        ]
        if len({len(values) for values in arrays}) > 1:
            raise ValueError(f"The inputs differ in length. Received: {[len(values) for values in arrays]}.")
        return arrays

    def targets(self, x, target, batch_size=None):
        """Check `target` and return class indices `[n]`; the predicted classes where it is None."""
        if target is None:
            return self(x, batch_size=batch_size).argmax(-1)
        return checked_target(target, rows(x), self.classes, self.name)

    def baselines(self, baseline, x):
        """Check `baseline` (None, a number, one a channel, one image `[...]` or `[n, ...]`), in the shape of `x`."""
        return checked_baseline(baseline, x, self.images)

    # --- what goes out

    def __call__(self, x, target=None, batch_size=None):
        """Scores `[n, classes]` of checked images; with `target` `[n]`, only each image's own, `[n]`."""

        def run(x):
            scores = self._forward(x)
            self.check_outputs(x, scores)
            return scores

        scores = self.in_batches(run, x, batch_size=batch_size)
        refuse_unless_finite(scores, "scores", self.name)
        return scores if target is None else scores[np.arange(len(scores)), target]

    def gradient(self, x, target, batch_size=None):
        """The gradient of each image's score for its `target`, in the shape of `x`."""

        def run(x, target):
            gradient, scores = self._backward(x, target)
            self.check_outputs(x, scores)
            return gradient

        gradient = self.in_batches(run, x, target, batch_size=batch_size)
        refuse_unless_finite(gradient, "gradients", self.name)
        return gradient

    def completeness_error(self, R, x, baseline, target, batch_size=None):
        """The sum of each map of `R` minus f_c(x) - f_c(x'), `[n]`."""
        gain = self(x, target, batch_size) - self(baseline, target, batch_size)
        return R.sum(tuple(range(1, R.ndim))) - gain

    def batch_size(self, batch_size, x):
        """Check `batch_size`; for None, return about as many images as make 200,000 pixels, at most 256."""
        if batch_size is None:
            arrays = [x] if isinstance(x, np.ndarray) else keras.tree.flatten(x)
            pixels = max(1, *(math.prod(array.shape[1:-1]) for array in arrays))
            return max(1 if pixels > 200_704 else 4, min(200_704 // pixels, 256))
        return integer(batch_size, "batch_size")

    def in_batches(self, run, x, *others, batch_size=None):
        """What `run(x, *others)` returns, an array or several, computed for so many images at a time."""
        size, n = self.batch_size(batch_size, x), rows(x)
        if not n:  # operations on nothing fail; the shape of what comes out is that of one
            one = [keras.tree.map_structure(lambda a: np.zeros((1, *a.shape[1:]), a.dtype), a) for a in (x, *others)]
            return keras.tree.map_structure(lambda made: np.asarray(made)[:0], run(*one))
        if n <= size:
            made = run(x, *others)
            return tuple(map(np.asarray, made)) if isinstance(made, (tuple, list)) else np.asarray(made)
        made = [
            keras.tree.map_structure(np.asarray, run(*(chunk(a, k, size) for a in (x, *others))))
            for k in range(0, n, size)
        ]
        return keras.tree.map_structure(lambda *parts: np.concatenate(parts), *made)

    def compiled(self, key, make):
        """What `make()` returns, made at the first call with `key` and kept, with the last `MOST_COMPILED` others."""
        found = self._compiled.get(key)
        if found is None:
            with BUILDING:
                found = self._compiled.get(key)
                if found is None:
                    if len(self._compiled) >= MOST_COMPILED:
                        self._compiled.pop(next(iter(self._compiled)))
                    found = self._compiled[key] = make()
        return found

    def concrete(self, function, *more):
        """`function` of (images, ...) compiled, for any number of images; `more` are specifications of the rest."""
        # a concrete function also spares later calls a false warning of retracing
        return tf.function(function, input_signature=[self.spec, *more], autograph=False).get_concrete_function()

    @property
    def _forward(self):
        return self.compiled("scores", lambda: self.concrete(lambda x: self.compute(x)))

    def compute(self, x):
        """The scores, as a graph to be compiled: `self.model`, but for a LeakyReLU (see `kept_apart`)."""
        if any(is_leaky(one) for one in (*self.state.layers, *getattr(self.model, "operations", ()))):
            return walk(self.model, keras.tree.flatten(x), whole_layer)[0]
        return self.model(x, training=False)

    @property
    def _backward(self):
        def gradient(x, target):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(x)
                outputs = self.compute(x)
                score = tf.gather(outputs, target, axis=1, batch_dims=1)
            gradient = tape.gradient(score, x)
            if gradient is None:
                raise ValueError(
                    f"No gradient flows from the output of {self.name!r} to its input: an operation on the way "
                    f"(argmax, rounding, a cast to integers) has none. {advice_behind_the_input(self.embedding)}"
                )
            return gradient, outputs

        return self.compiled("gradient", lambda: self.concrete(gradient, LABELS))

    @functools.cached_property
    def spec(self):
        specs = [tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype) for tensor in self.model.inputs]
        return specs if len(specs) > 1 else specs[0]

    def check_outputs(self, x, outputs, compiled=True):
        """Look at the first outputs, and at the first compiled ones: are they scores, the model's own, unmixed?"""
        # in two steps: whether images are mixed cannot be seen on one
        if self._seen > min(rows(x), 1):
            return
        outputs = np.asarray(outputs)
        if not np.isfinite(outputs).all():
            return  # refused for that
        if len(outputs) and not self._seen:
            if self._no_head_found:
                refuse_hidden_head(self, x, outputs)
            refuse_lost_masks(self)
            if self._own_call is not None:
                refuse_other_graph(self._own_call, x)
        if len(outputs) > self._seen:
            refuse_other_compilation(self, x, outputs)
            self._seen = min(len(outputs), 2) if compiled else self._seen

    def compiled_scores(self, x):
        """The scores of one batch, unchecked."""
        return self._forward(x).numpy()


LABELS = tf.TensorSpec([None], "int64")


def _begins_with_rescaling(model):
    first = [layer for layer in model.layers if not isinstance(layer, layers.InputLayer)][:2]
    return any(inherits_call(layer, (layers.Rescaling, layers.Normalization)) for layer in first)
