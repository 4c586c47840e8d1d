"""Whether a model has been changed since it was compiled."""

import operator

import keras

# what changes when a model is called, compiled, trained, frozen or saved, and not in what it computes
BOOKKEEPING = ("_trainable", "_inbound", "_outbound", "_loss", "_metric", "_called", "_path", "_parent", "built")


class State:
    """All layers of a model and what hangs on them: a changed one is another object."""

    def __init__(self, model):
        self.layers_now = model._flatten_layers  # a method: the state is kept with the model, and goes with it
        self.layers = list(model._flatten_layers(include_self=False))
        # an inner model is left out, for its layers are in the list themselves
        self.attributes = [_Attributes(layer) for layer in self.layers if not isinstance(layer, keras.Model)]

    def is_current(self):
        """Whether all layers are those of the time when this was made, with the same attributes."""
        now = list(self.layers_now(include_self=False))
        same_layers = len(now) == len(self.layers) and all(map(operator.is_, now, self.layers))
        return same_layers and all(attributes.are_current() for attributes in self.attributes)


class _Attributes:
    """The attributes of a layer that decide what it computes. Looked at in every call, so it is quick."""

    def __init__(self, layer):
        self.now = vars(layer)
        self.known = set(self.now)
        self.names = [name for name in self.now if not name.startswith(BOOKKEEPING)]
        self.take = operator.itemgetter(*self.names, self.names[0])  # a tuple, also of a single name
        self.values = self.take(self.now)

    def are_current(self):
        try:
            values = self.take(self.now)
        except KeyError:
            return False
        if len(self.now) != len(self.known):
            new = self.now.keys() - self.known
            if any(not name.startswith(BOOKKEEPING) for name in new):
                return False
        return all(map(operator.is_, values, self.values))
