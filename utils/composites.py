"""Composites: tables that say which backward rule serves which part of a network.

A composite is a dictionary, test -> rule; for each part, the first test that fits decides. A test is

- FIRST: the first linear part of the network (of each of its branches), where inputs are pixels;
- the name of a layer, as a string;
- a class of Keras layers, or several of them (a tuple): the linear part of such a layer, CONVOLUTION for example, or a
  layer of your own, of which nothing else is known;
- a kind of part (see `parts`): Linear, Activation, ReLU, Routing, MaxPooling, Mixing, Through, Product, ...

A rule is one of `rules`, with parameters if you like, or None: the ordinary gradient. Where no test fits, the layer is
refused by name. Your own composite, in front of one from here; where both have a line for a test, yours counts:

    MINE = {FIRST: z_box(0, 1), CONVOLUTION: gamma(0.1)} | EPSILON
    R = lrp(model, x, target, composite=MINE)
"""

import keras

from . import rules
from .checks import one_of
from .parts import (
    CONVOLUTIONS,
    LINEAR,
    Activation,
    Affine,
    Linear,
    LinearThenActivation,
    MaxPooling,
    Mixing,
    Normalizing,
    Opaque,
    Part,
    Product,
    ReLU,
    Routing,
    Through,
)
from .rules import Rule, alpha_beta, as_rule, epsilon, flat, gamma, w_square, z_box, z_plus


class Composite(dict):
    """A table from tests to rules; in `special | general` the lines of `special` come first, and count."""

    def __or__(self, general):
        return Composite({**self, **{test: rule for test, rule in general.items() if test not in self}})

    def __ror__(self, special):
        return Composite(special) | self


FIRST = "first"
CONVOLUTION, DENSE = CONVOLUTIONS, (keras.layers.Dense,)

# what all relevance methods do beside linear parts; activations, normalizations and products are conventions
_REST = Composite(
    {
        (Activation, Through, Normalizing): rules.through,
        Product: rules.signal,
        (Mixing, Affine): epsilon(),
        Routing: None,  # max-pooling among them: the winner takes all
    }
)

EPSILON = {Linear: epsilon()} | _REST
EPSILON_PLUS = {CONVOLUTION: z_plus(), Linear: epsilon()} | _REST
EPSILON_ALPHA2_BETA1 = {CONVOLUTION: alpha_beta(2, 1), Linear: epsilon()} | _REST
EPSILON_GAMMA_BOX = {FIRST: z_box(0, 1), CONVOLUTION: gamma(0.25), Linear: epsilon()} | _REST
ALPHA1_BETA0 = {Linear: alpha_beta(1, 0)} | _REST
ALPHA2_BETA1 = {Linear: alpha_beta(2, 1)} | _REST
FLAT_PLUS = {FIRST: flat(), CONVOLUTION: z_plus(), Linear: epsilon()} | _REST
DEEP_TAYLOR = {FIRST: z_box(0, 1), Linear: z_plus()} | _REST
DEEP_TAYLOR_UNBOUNDED = {FIRST: w_square(), Linear: z_plus()} | _REST

GUIDED = {ReLU: rules.guided, Part: None}
DECONVOLUTION = {ReLU: rules.deconvolution, Part: None}


def deeplift_composite(rule):
    """The table of DeepLIFT: `rule` is "rescale" or "reveal_cancel"."""
    table = {LinearThenActivation: rules.reveal_cancel} if rule == "reveal_cancel" else {}
    return table | {
        Activation: rules.rescale,
        MaxPooling: rules.rescale_max,
        Product: rules.rescale_product,
        (Linear, Affine, Routing, Mixing, Through): None,
    }


NAMED = {
    name: table
    for name, table in globals().items()
    if isinstance(table, dict)
    and name.isupper()
    and not name.startswith("_")
    and name not in ("GUIDED", "DECONVOLUTION")
}


def kinds_of(test):
    """The classes that a test names, one or several, as a tuple."""
    return test if isinstance(test, tuple) else (test,)


def tests_for(part, is_first, composite):
    """The tests of `composite` that fit `part`, in their order; the first decides."""
    # a test for a layer with weights means these weights, not the activation that the layer may have
    of_weights = isinstance(part, Activation) and isinstance(part.layer, LINEAR)
    stands_for = (part.layer, *part.merged)
    names = {layer.name for layer in stands_for}

    def fits(test):
        if isinstance(test, str):
            return is_first and type(part) is Linear if test == FIRST else test in names and not of_weights
        of_part = tuple(kind for kind in kinds_of(test) if issubclass(kind, Part))
        of_layer = tuple(kind for kind in kinds_of(test) if not issubclass(kind, Part))
        if isinstance(part, of_part) and not isinstance(part, Opaque):
            return True
        if isinstance(part, Opaque):  # what a class of Keras computes is not what it inherits
            of_layer = tuple(kind for kind in of_layer if not kind.__module__.startswith("keras."))
        return any(isinstance(layer, of_layer) for layer in stands_for) and not of_weights

    return [test for test in composite if fits(test)]


def checked_composite(composite):
    """A composite, or the one of that name, with its rules as values; a ValueError unless it is such a table."""
    if isinstance(composite, str):
        composite = NAMED[one_of(composite, "composite", NAMED)]
    if not isinstance(composite, dict):
        raise ValueError(
            f"There is no such composite. Received: {composite!r}. Expected: a dictionary, test -> rule, or "
            f"one of: {', '.join(NAMED)}."
        )
    for test, rule in composite.items():
        if not isinstance(test, str) and not all(isinstance(kind, type) for kind in kinds_of(test)):
            raise ValueError(
                f"A test of a composite is FIRST, the name of a layer, a class of layers or a kind of part. Received: "
                f"{test!r}. Of a layer, pass its name."
            )
        if rule is not None and not callable(rule):
            raise ValueError(
                f"A rule of a composite is one of the module rules, such as epsilon(), or None for the gradient. "
                f"Received: {rule!r} for {test!r}."
            )
    if all(rule is None or isinstance(rule, Rule) for rule in composite.values()):
        return composite
    return Composite({test: as_rule(rule) for test, rule in composite.items()})


def key_of(composite):
    """A hashable key, the same for composites of the same content, so that an equal table is not compiled again."""
    return tuple(composite.items())


def refuse_lines_without_effect(trace):
    """Raise a ValueError if a line of the composite of `trace` serves no part of its model."""
    composite = trace.composite
    if trace.hidden:
        line, before = trace.hidden.popitem()
        raise ValueError(
            f"The line {line!r} of the composite is never reached: {before} stands before it. Put yours in front: "
            f"{{{line!r}: rule}} | composite."
        )
    of_pixels = {s.part.layer.name for s in trace.steps if s.part.reads_pixels and type(s.part) is Linear}
    if FIRST in composite and FIRST in trace.outputs and FIRST not in of_pixels:
        raise ValueError(
            f"{FIRST!r} in the composite means the first linear part, and a layer of {trace.name!r} that is not the "
            f"first has that name too. Rename the layer: model.get_layer({FIRST!r}).name = 'another'."
        )
    names = {FIRST, *trace.outputs} | {layer.name for step in trace.steps for layer in step.part.merged}
    unused = [test for test in composite if isinstance(test, str) and test not in names]
    if unused:
        raise ValueError(f"The composite names layers that {trace.name!r} does not have: {unused}.")
