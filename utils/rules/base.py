"""What a rule is, and what rules are made of: vector-Jacobian products, stabilised divisions, shares."""

import dataclasses
import functools
import inspect
import operator
import typing

import numpy as np
import tensorflow as tf

from ..parts import Part

EPS = 1e-6


@dataclasses.dataclass(frozen=True, eq=False)
class Rule:
    """A backward rule as a value: two rules of one function with equal parameters are equal, and hash alike.

    Called as `rule(part, inputs, output, R)` it hands relevance down; called with parameters alone, `gamma(0.1)`, it
    returns the same rule with these parameters.

    Attributes:
        function: `function(part, inputs, output, R, **parameters)`, a list, what goes on to each input.
        parameters: name -> value, those that differ from the function's own.
        keeps_zeros: an input that is 0 gets nothing, whatever comes down.
    """

    function: typing.Callable
    parameters: dict = dataclasses.field(default_factory=dict)
    keeps_zeros: bool = False

    def __call__(self, *arguments, **parameters):
        if arguments and isinstance(arguments[0], Part):
            return self.function(*arguments, **self.parameters, **parameters)
        names = list(self._defaults)
        given = dict(zip(names, arguments)) | parameters
        unknown = sorted(set(given) - set(names))
        if unknown or len(arguments) > len(names):
            raise ValueError(f"{self.name} takes the parameters {names}. Received: {unknown or arguments}.")
        given = {name: _frozen(value) for name, value in given.items()}
        changed = {n: v for n, v in (self.parameters | given).items() if _key(v) != _key(self._defaults[n])}
        return dataclasses.replace(self, parameters=changed)

    @property
    def name(self):
        return getattr(self.function, "__name__", repr(self.function))

    @property
    def _defaults(self):
        parameters = list(inspect.signature(self.function).parameters.values())[4:]
        return {p.name: p.default for p in parameters if p.kind is not p.VAR_KEYWORD}

    def value(self, name):
        """The value of a parameter, given or the function's own."""
        return self.parameters.get(name, self._defaults[name])

    @functools.cached_property
    def key(self):
        """What tells rules apart; it can be hashed, for arrays stand there by their content."""
        return self.function, tuple(sorted((name, _key(value)) for name, value in self.parameters.items()))

    def __eq__(self, other):
        return isinstance(other, Rule) and self.key == other.key

    def __hash__(self):
        return hash(self.key)

    def __repr__(self):
        values = {name: self.value(name) for name in self._defaults}
        # eps of 1e-06 and the like are worth a look; a switch is, if it was turned
        shown = [f"{n}={_text(v)}" for n, v in values.items() if not isinstance(v, bool) or n in self.parameters]
        return f"{self.name}({', '.join(shown)})"


def rule(function=None, *, keeps_zeros=False):
    """Make `function(part, inputs, output, R, **parameters)` a `Rule`."""
    if function is None:
        return functools.partial(rule, keeps_zeros=keeps_zeros)
    made = Rule(function, keeps_zeros=keeps_zeros)
    object.__setattr__(made, "__doc__", function.__doc__)
    return made


def as_rule(value):
    """A rule, or the reader's own function as one; None, the ordinary gradient, stays None."""
    return value if value is None or isinstance(value, Rule) else Rule(value)


def _frozen(value):
    """A copy of an array that nobody can change, or its number; anything else as it is."""
    is_symbol = tf.is_tensor(value) and not hasattr(value, "numpy")
    if is_symbol or not (isinstance(value, (list, tuple)) or hasattr(value, "__array__")):
        return value
    array = np.array(value)
    if not array.ndim:
        return array.item()
    array.setflags(write=False)
    return array


def _key(value):
    if tf.is_tensor(value):
        return id(value)
    return (value.shape, value.dtype.str, value.tobytes()) if isinstance(value, np.ndarray) else value


def _text(value):
    if np.ndim(value):
        return f"array {list(value.shape)}"
    return f"{value:g}" if isinstance(value, float) else f"{value}"


# --- what the rules are made of


def vjp(function, inputs):
    """`function` at `inputs`: its output, and its vector-Jacobian product there, a function of what comes down.

    That returns a list, one for each input.
    """
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        if len(inputs) > 1:
            inputs = [tf.identity(x) for x in inputs]  # a tensor that comes in twice counts once each time
        tape.watch(inputs)
        output = function(*inputs)
    return output, lambda upper: tape.gradient(output, inputs, upper, unconnected_gradients="zero")


def pullback(function, inputs, upper):
    """The vector-Jacobian product: `upper` taken back through `function` at `inputs`; a list, one for each input."""
    return vjp(function, inputs)[1](upper)


def total(tensors):
    """The sum, without the operation 0 + x that Python's own begins with."""
    return functools.reduce(operator.add, tensors)


def positive(x):
    return None if x is None else tf.nn.relu(x)


def negative(x):
    return None if x is None else tf.minimum(x, tf.zeros((), x.dtype))


def divide(part, R, z, eps, relative=False, sign=None):
    """R / (z + eps sign(z)) with sign(0) = 1.

    Args:
        part: its list `absorbed`, if it has one, gets what the stabiliser takes, R - s z, and how much of that came to
            units with z = 0, of which nothing can be handed on.
        relative: eps times the root mean square of z over the part, image by image.
        sign: that of all z, where it is known that none is below 0, or none above.
    """
    tiny, eps = np.finfo(z.dtype.as_numpy_dtype).tiny, tf.constant(eps, z.dtype)
    if relative:
        mean = tf.reduce_mean(tf.square(z), list(range(1, z.shape.rank)), keepdims=True)
        eps = eps * tf.sqrt(mean) + tiny  # of z = 0 everywhere, nothing is left
    if sign is None:
        eps = eps * tf.sign(z + tiny)  # 1 at 0; tf.where takes twice the time
    elif sign < 0:
        eps = -eps
    s = R / (z + eps)
    if part.absorbed is not None:
        part.absorbed.append((R - s * z, tf.where(z == 0, R, tf.zeros_like(R))))
    return s


def where_positive(z, R):
    """R where z > 0, and 0 elsewhere."""
    return tf.raw_ops.ReluGrad(gradients=R, features=z)


def if_any(condition, then, otherwise):
    """`then()` if `condition` holds anywhere, or else `otherwise()`; only one of the two is computed."""
    return tf.cond(tf.reduce_any(condition), then, otherwise)


def shares(part, a, up, down, b, R, eps, relative=False, sign=None):
    """R in proportion to the terms (a)+ up + (a)- down (+ b): kernel `up` for positive inputs, `down` for negative.

    `sign`, where it is known, is that of all terms.
    """

    def of(terms):
        z, back = zip(*(vjp(lambda t, kernel=kernel: part.map(t, kernel), [x]) for x, kernel in terms))
        z = total(z) if b is None else total(z) + b
        s = divide(part, R, z, eps, relative, sign)
        return total([x * pull(s)[0] for (x, _), pull in zip(terms, back)])

    if part.inputs_are_positive:
        return of([(a, up)])

    def of_both_signs():
        return of([(positive(a), up), (negative(a), down)])

    # pixels are most often positive; elsewhere, the choice would take longer to compile than it saves
    return if_any(a < 0, of_both_signs, lambda: of([(a, up)])) if part.reads_pixels else of_both_signs()


def weights_of(part, bias=True):
    """The kernel of `part` and its bias, None if it has none or `bias` is not wanted."""
    if not hasattr(part, "weights"):
        raise ValueError(
            f"The rule needs a kernel, and {part.layer.name!r} is a part of kind {type(part).__name__}, without one. "
            "Expected there: epsilon, through, or None for the gradient."
        )
    w, b = part.weights()
    return w, b if bias else None


def bias_of(part):
    return part.weights()[1] if hasattr(part, "weights") else None
