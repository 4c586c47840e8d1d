"""Explanations, as a reader calls them: `R = method(model, x, target, ...)`.

Every method takes

- `model`: a built functional or Sequential Keras 3 model, nested or not, `[n, ...]` -> `[n, classes]`;
- `x`: images `[n, ...]`, floating point, in the range that the model was trained on;
- `target`: a class index, one index per image `[n]`, or None for the predicted class (a model with a single output
  has only that one: it is explained also where it says "no");
- `explain`: "logit" (the score before a softmax head, f_c in the equations) or "output" (the
  model's own output);
- `batch_size`: how many images go through the model at a time; None for a size that is fast.
  Results do not depend on it, beyond rounding;

returns a NumPy array of the shape of `x`, in the type of the model's input, and raises a ValueError
that says what came, what was expected and what to do when one of these does not fit.
"""

import functools
import numbers

import numpy as np
import scipy.special

from .checks import integer
from .perturbation import occlusion, rise
from .progress import chunks, progress_bar
from .relevance import deconvolution, deep_taylor, deeplift, guided_backprop, lrp
from .scores import checked


def gradient(model, x, target=None, *, explain="logit", batch_size=None):
    """The gradient of the score: how it changes with each input value.

        R_i = df_c / dx_i

    Its absolute value is the saliency map of Simonyan, Vedaldi and Zisserman (2014, arXiv:1312.6034, section 3).
    Unit: score per unit of x.
    """
    f, x, target = checked(model, x, target, explain, batch_size)
    return f.gradient(x, target, batch_size)


def sensitivity(model, x, target=None, *, explain="logit", batch_size=None):
    """Sensitivity analysis: the squared gradient, how much a small change of each input value matters.

        R_i = (df_c / dx_i)^2

    Montavon, Samek and Müller (2018, arXiv:1706.07979), equation 5. Its sum is the squared length of the gradient.
    """
    return np.square(gradient(model, x, target, explain=explain, batch_size=batch_size))


def gradient_x_input(model, x, target=None, *, explain="logit", batch_size=None):
    """Gradient times input (Shrikumar et al., 2016, arXiv:1605.01713): R_i = x_i df_c / dx_i, in the score's unit."""
    f, x, target = checked(model, x, target, explain, batch_size)
    return x * f.gradient(x, target, batch_size)


def simple_taylor(model, x, target=None, root_point=None, *, explain="logit", batch_size=None, return_remainder=False):
    """Simple Taylor decomposition: the first-order terms of the score around a root point.

        R_i = (x_i - x~_i) df_c / dx_i (x~)

    Montavon, Samek and Müller (2018, arXiv:1706.07979), equations 6 to 8.

    Args:
        root_point: x~, in any shape that `integrated_gradients` takes for its baseline. None for the
            root point at the end of the way from x to the black image, t x with t -> 0. In a network of
            ReLUs without biases f(t x) = t f(x) for t > 0, the gradient is the same all along that way, so
            R_i = x_i df_c / dx_i (x) and the decomposition is exact. In any other network that
            formula is still what is computed, and it leaves a remainder.
        return_remainder: also return `[n]`, f_c(x) - f_c(x~) minus the sum of R (x~ = 0 for None): what the
            first-order terms do not explain.
    """
    f, x, target = checked(model, x, target, explain, batch_size)
    root = f.baselines(root_point, x)
    point = x if root_point is None else root
    relevance = (x - root) * f.gradient(point, target, batch_size)
    if not return_remainder:
        return relevance
    return relevance, -f.completeness_error(relevance, x, root, target, batch_size)


def interior_gradients(model, x, target=None, baseline=None, alpha=0.5, *, explain="logit", batch_size=None):
    """Interior gradients: the gradient at a point of the way from the baseline x' to x.

        R_i = df_c / dx_i at x' + alpha (x - x')

    Sundararajan, Taly and Yan (2016, arXiv:1611.02639), section 2.

    Args:
        baseline: x': None for zeros, a number, one image, or one image for each of x.
        alpha: a number, mostly from 0 (the baseline) to 1 (x itself), or several of them.

    Returns:
        An array of the shape of `x`; for several alphas `[len(alpha), n, ...]`.
    """
    f, x, target = checked(model, x, target, explain, batch_size)
    baseline = f.baselines(baseline, x)
    alphas = np.asarray(alpha)
    if alphas.ndim > 1 or alphas.dtype.kind not in "iuf" or not alphas.size or not np.isfinite(alphas).all():
        raise ValueError(f"alpha must be a finite number or a list of them. Received: {alpha!r}.")
    maps = [f.gradient(baseline + a.astype(x.dtype) * (x - baseline), target, batch_size) for a in alphas.ravel()]
    return np.stack(maps) if alphas.ndim else maps[0]


def integrated_gradients(
    model,
    x,
    target=None,
    baseline=None,
    steps=50,
    rule="midpoint",
    batch_size=None,
    *,
    explain="logit",
    return_completeness_error=False,
    progress=False,
):
    """Integrated gradients: the average gradient on the way from the baseline x' to x, times the way.

        R_i = (x_i - x'_i) integral_0^1 df_c / dx_i (x' + alpha (x - x')) d alpha

    Sundararajan, Taly and Yan (2017, arXiv:1703.01365), equation 1. The R_i sum to f_c(x) - f_c(x')
    (completeness, proposition 1) up to the error of the quadrature, which falls about as 1 / steps
    because the gradient of a network of ReLUs jumps along the way.

    Args:
        baseline: x': None for zeros, a number, one image, or one image for each of x.
        steps: number of gradients per image. Memory does not depend on it.
        rule: "midpoint", "left", "right", "trapezoid" or "gauss" (Gauss-Legendre): see `quadrature`.
        return_completeness_error: also return `[n]`, the sum of R minus (f_c(x) - f_c(x')), in the score's unit.
        progress: show a progress bar.
    """
    alphas, weights = quadrature(rule, steps)
    f, x, target = checked(model, x, target, explain, batch_size)
    baseline = f.baselines(baseline, x)
    alphas, weights = alphas.astype(x.dtype), weights.astype(x.dtype)
    average = np.zeros_like(x)
    advance = progress_bar(progress, len(x) * steps, "gradient")
    for images, nodes in chunks(len(x), steps, f.batch_size(batch_size, x)):
        start, way = baseline[images, None], (x[images] - baseline[images])[:, None]
        points = start + alphas[nodes].reshape(-1, *[1] * (x.ndim - 1)) * way  # [images, nodes, ...]
        flat = points.reshape(-1, *x.shape[1:])
        gradients = f.gradient(flat, np.repeat(target[images], points.shape[1]), len(flat))
        sums = weights[nodes] @ gradients.reshape(*points.shape[:2], -1)
        average[images] += sums.reshape(average[images].shape)
        advance(len(flat))
    relevance = (x - baseline) * average
    if not return_completeness_error:
        return relevance
    return relevance, f.completeness_error(relevance, x, baseline, target, batch_size)


def quadrature(rule, steps):
    """Nodes and weights, both `[steps]`, of a rule that integrates over [0, 1]; the weights sum to 1.

    "left" and "right" take the left or right end of each of `steps` equal intervals, "midpoint" their
    middle, "trapezoid" `steps` points from 0 to 1 with half weight at both ends, "gauss" the nodes
    of Gauss and Legendre, which integrate polynomials up to degree 2 steps - 1 exactly.
    """
    steps = integer(steps, "steps", least=2 if rule == "trapezoid" else 1)
    k, even = np.arange(steps), np.full(steps, 1 / steps)
    shifts = {"left": 0, "midpoint": 0.5, "right": 1}
    if isinstance(rule, str) and rule in shifts:
        return (k + shifts[rule]) / steps, even
    if rule == "trapezoid":
        ends = np.where((k == 0) | (k == steps - 1), 0.5, 1.0)
        return k / (steps - 1), ends / (steps - 1)
    if rule == "gauss":
        nodes, weights = _gauss_legendre(steps)
        return (nodes + 1) / 2, weights / 2
    raise ValueError(
        f"There is no such quadrature rule. Received: {rule!r}. Expected: 'left', 'right', 'midpoint', "
        "'trapezoid' or 'gauss'."
    )


_gauss_legendre = functools.lru_cache(scipy.special.roots_legendre)  # 3,000 nodes take a quarter of a second


def smoothgrad(
    model,
    x,
    target=None,
    sigma=None,
    samples=50,
    method=gradient,
    variant="mean",
    seed=0,
    batch_size=None,
    *,
    explain="logit",
    return_standard_error=False,
    progress=False,
    **arguments,
):
    """SmoothGrad: the average of a method's maps over noisy copies of the image.

        R = 1/n sum_k M(x + e_k),  e_k ~ N(0, sigma^2)

    Smilkov et al. (2017, arXiv:1706.03825), section 3, where M is the gradient; here any method.

    Args:
        sigma: standard deviation of the noise, in the unit of x. None for 0.15 of the range
            max - min of each image (the paper advises 0.1 to 0.2 of it).
        samples: number of noisy copies n. All images meet the same n draws, so that the map of an
            image depends neither on the images beside it nor on the batch size.
        method: M: a method of this module, or its name in METHODS.
        variant: "mean"; "square" for the average of M^2 (SmoothGrad-squared, Hooker et al., 2019,
            arXiv:1806.10758); "variance" for that of (M - mean)^2 (VarGrad, Adebayo et al., 2018, arXiv:1810.03307).
        seed: an integer; the same seed gives the same noise.
        return_standard_error: also return the standard error of R, in its shape: the deviation
            between the samples divided by the square root of n. Not for the variance.
        progress: show a progress bar.
        **arguments: what else `method` takes; one that has the shape of x (a baseline for each image) goes
            with its image to all noisy copies.
    """
    samples = integer(samples, "samples", least=2 if return_standard_error else 1)
    seed = integer(seed, "seed", least=0)
    if sigma is not None and not (isinstance(sigma, numbers.Real) and np.isfinite(sigma) and sigma >= 0):
        raise ValueError(f"sigma must be a number of at least 0, the deviation of the noise. Received: {sigma!r}.")
    if variant not in ("mean", "square", "variance"):
        raise ValueError(f"There is no such variant. Received: {variant!r}. Expected: 'mean', 'square' or 'variance'.")
    if return_standard_error and variant == "variance":
        raise ValueError("return_standard_error goes with variant='mean' or 'square'. Received: variant='variance'.")
    method = _method(method)
    f, x, target = checked(model, x, target, explain, batch_size)
    axes = tuple(range(1, x.ndim))
    spread = 0.15 * np.ptp(x, axes, keepdims=True) if sigma is None else np.full([len(x)] + [1] * len(axes), sigma)
    spread = spread.astype(x.dtype)[:, None]

    size, drawn = f.batch_size(batch_size, x), np.promote_types(x.dtype, "float32")
    total, squares = np.zeros((2, *x.shape))  # in float64: their difference is small
    advance = progress_bar(progress, len(x) * samples, "map")
    for images, draws in chunks(len(x), samples, size):
        if draws.start == 0:
            generator = np.random.default_rng(seed)
        noise = generator.standard_normal((draws.stop - draws.start, *x.shape[1:]), drawn).astype(x.dtype)
        noisy = x[images, None] + spread[images] * noise
        flat = noisy.reshape(-1, *x.shape[1:])
        others = {
            name: np.repeat(np.asarray(value)[images], len(noise), 0) if np.shape(value) == x.shape else value
            for name, value in arguments.items()
        }
        labels = np.repeat(target[images], len(noise))
        maps = method(model, flat, labels, explain=explain, batch_size=size, **others)
        maps = _as_one_map_each(maps, flat.shape).reshape(noisy.shape)
        values = np.square(maps) if variant == "square" else maps
        total[images] += values.sum(1, dtype="float64")
        if variant == "variance" or return_standard_error:
            squares[images] += np.square(values, dtype="float64").sum(1)
        advance(len(flat))

    mean = total / samples
    variance = np.maximum(squares / samples - np.square(mean), 0)
    relevance = (variance if variant == "variance" else mean).astype(x.dtype)
    if not return_standard_error:
        return relevance
    return relevance, np.sqrt(variance / (samples - 1)).astype(x.dtype)


def _as_one_map_each(maps, shape):
    """Raise unless a method has returned an array of the shape of the images that it was given."""
    received = type(maps).__name__ if isinstance(maps, (tuple, list)) else f"shape {np.shape(maps)}"
    if received != f"shape {shape}":
        raise ValueError(
            f"The method to be smoothed must return one map for each image, shape {shape}. Received: {received}."
        )
    return np.asarray(maps)


def _method(method):
    if not callable(method) and method not in list(METHODS):
        raise ValueError(f"There is no such method. Received: {method!r}. Expected one of: {', '.join(METHODS)}.")
    return method if callable(method) else METHODS[method]


METHODS = {
    method.__name__: method
    for method in (
        gradient,
        sensitivity,
        gradient_x_input,
        simple_taylor,
        interior_gradients,
        integrated_gradients,
        smoothgrad,
        deconvolution,
        guided_backprop,
        lrp,
        deep_taylor,
        deeplift,
        occlusion,
        rise,
    )
}
