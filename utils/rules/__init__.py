"""Backward rules: what a part hands down to each of its inputs, given what came from above.

Every rule is called as `rule(part, inputs, output, R)`: a part (see `parts`), its inputs a_j, its output z_k and
what has come down to the output, R_k (a relevance, a gradient or a multiplier, `[n, ...]`); it returns a list, what
goes on to each input, None for nothing. Called with parameters alone, `gamma(0.25)` or `z_box(low=0, high=1)`, a rule
returns itself with these parameters, for a table in `composites`.

Notation: w_jk a weight, b_k a bias, (x)+ = max(0, x), (x)- = min(0, x). The stabiliser of all rules moves the
denominator away from zero, z -> z + eps sign(z) with sign(0) = 1. It is absolute, as in most libraries, so it takes
much of a score that is small; with `relative=True`, eps is multiplied by the root mean square of z over the layer,
image by image.
"""

from .base import EPS, Rule, as_rule, divide, negative, positive, pullback, rule, shares, weights_of
from .deeplift import NEAR, rescale, rescale_max, rescale_product, reveal_cancel
from .propagation import (
    alpha_beta,
    deconvolution,
    epsilon,
    flat,
    gamma,
    guided,
    signal,
    through,
    w_square,
    z_box,
    z_plus,
)
