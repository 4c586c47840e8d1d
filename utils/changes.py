"""Whether a model has been changed since it was compiled."""

import keras


class State:
    """All layers of a model and what hangs on them, to see whether one has been changed since."""

    # what changes when a model is called, compiled, trained, frozen or saved, and not in what it computes
    BOOKKEEPING = ("_trainable", "_inbound", "_outbound", "_loss", "_metric", "_called", "_path", "_parent", "built")

    def __init__(self, model):
        self.model_layers = model._flatten_layers  # a method; the scores live in the model's own dictionary
        self.layers = list(model._flatten_layers(include_self=False))
        self.attributes = [
            (vars(layer), dict(vars(layer)), [n for n in vars(layer) if not n.startswith(self.BOOKKEEPING)])
            for layer in self.layers
            if not isinstance(layer, keras.Model)  # its layers are in the list themselves
        ]

    def is_current(self):
        now = list(self.model_layers(include_self=False))
        if len(now) != len(self.layers) or any(one is not other for one, other in zip(now, self.layers)):
            return False
        for present, before, names in self.attributes:
            for name in names:
                if present.get(name) is not before[name]:
                    return False
            if len(present) != len(before) and any(
                name not in before and not name.startswith(self.BOOKKEEPING) for name in present
            ):
                return False
        return True
