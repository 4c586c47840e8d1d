"""What single units of a network respond to, and what can be read off a layer.

All take a model as the methods in `attributions` do, with images `[n, height, width, channels]`, and name a layer by
its name, or are given the layer itself (also one inside a nested model). A unit is one channel at one place of a
layer's output, behind the layer's own activation.

- `activations`: the outputs of layers.
- `receptive_field`, `top_patches`: the part of the image that a unit sees, and the photographs that excite it most.
- `colour_tuning`, `orientation_tuning`: the responses to plain colours and to gratings.
- `linear_probe`: how well a linear model reads a class, a number or an angle off a layer.
"""

from .fields import Field, Patches, receptive_field, top_patches
from .layers import activations
from .probes import Probe, linear_probe, wilson_interval
from .tuning import Tuning, circular_tuning, colour_tuning, gratings, hue_circle, orientation_tuning
