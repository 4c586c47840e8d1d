"""Which colour and which orientation a unit prefers: its responses to plain colours and to gratings.

What is measured is the mean response of a channel over all places of its layer, those at the border among them, which
see what the network pads the image with.
"""

import typing

import numpy as np
import tensorflow as tf

from ..cam.features import whole
from ..checks import black_and_white, integer, number, refuse_unless_finite
from ..scores import scores_of
from .layers import check_walk, place_of, reading

FREQUENCIES = (1 / 16, 1 / 8, 3 / 16, 1 / 4)
# what of a response may be round-off: float32 carries seven digits, and a network loses some
ROUND_OFF = 1e-5


class Tuning(typing.NamedTuple):
    """Tuning curves of channels.

    `angles` `[n]` in degrees, and the responses there, `[n, channels]`; what they are compared with, `baseline`
    `[channels]`; the preferred angle `[channels]`, NaN where there is none, and the selectivity `[channels]`, 0 to 1.
    """

    angles: np.ndarray
    responses: np.ndarray
    baseline: np.ndarray
    preferred: np.ndarray
    selectivity: np.ndarray


def hue_circle(n=36, saturation=1, value=1, size=32):
    """Plain images of n colours around the hue circle, `[n, height, width, 3]`, float32, from 0 to 1.

    The hue of image i is 360 i / n degrees: red is 0, green 120, blue 240. Smith (1978, doi:10.1145/965139.807361).

    Args:
        saturation, value: the other two numbers of the HSV model, 0 to 1.
        size: of the images, a number or (height, width).
    """
    hue = 6 * np.arange(integer(n, "n", 3)) / n
    saturation, value = number(saturation, "saturation", 0, 1), number(value, "value", 0, 1)
    k = (np.array([5, 3, 1]) + hue[:, None]) % 6
    colours = value - value * saturation * np.clip(np.minimum(k, 4 - k), 0, 1)
    return np.broadcast_to(colours[:, None, None], (n, *_height_and_width(size), 3)).astype("float32")


def gratings(orientations=12, frequencies=FREQUENCIES, phases=8, size=32, contrast=1, channels=3):
    """Sinusoidal gratings, `[orientations, frequencies, phases, height, width, channels]`, float32, around 0.5.

    Orientation i is 180 i / orientations degrees: that of the stripes, counter-clockwise, 0 for horizontal ones. At
    x pixels to the right of the middle of the image and y below, with theta the orientation, f the frequency, phi the
    phase and C the contrast,

        g = (1 + C cos(2 pi f (x sin theta + y cos theta) + phi)) / 2.

    The mean over the phases is 0.5 at each pixel.

    Args:
        frequencies: in cycles per pixel, above 0 and at most 0.5, a number or several.
        phases: how many, at equal distances.
        size: of the images, a number or (height, width).
        contrast: of the darkest and the brightest stripe (Michelson's), above 0 and at most 1.
    """
    return _gratings(_orientations(orientations), frequencies, phases, _height_and_width(size), contrast, channels)


def colour_tuning(model, layer, n=36, *, saturation=1, value=1, low=0, high=1, size=None, batch_size=None):
    """The responses of the channels of `layer` to plain colours around the hue circle, a `Tuning`.

    The preferred hue is the circular mean of the hues, each weighted by how much more the channel responds to it than
    to the hue it responds to least, and the selectivity is the length of that mean: see `circular_tuning`.

    Args:
        low, high: the values of black and of full colour in the images that the model was trained on.
        size: of the images; None for that of the model's input, 32 where it takes any.
    """
    f = scores_of(model, "output")
    place = place_of(f, layer)
    if len(f.shape) != 3 or f.shape[-1] != 3:
        raise ValueError(f"Colours need images [n, height, width, 3]. Received: a model of {[None, *f.shape]}.")
    images = hue_circle(n, saturation, value, _size_for(f, size))
    responses = _responses(f, place, images, low, high, batch_size)
    return _tuning(360 * np.arange(n) / n, responses, responses.min(0), 360)


def orientation_tuning(
    model,
    layer,
    orientations=12,
    frequencies=FREQUENCIES,
    phases=8,
    *,
    contrast=1,
    low=0,
    high=1,
    size=None,
    batch_size=None,
):
    """The responses of the channels of `layer` to gratings, a `Tuning`; orientations as in `gratings`.

    The response to an orientation is the mean over phases, at the frequency with the largest. It counts as far as it
    exceeds the response to plain grey, the mean of every grating; so the selectivity is

        1 - V = abs(sum_k r_k exp(2 i theta_k)) / sum_k r_k,  r_k = max(0, R_k - R_grey),

    V being the circular variance of Ringach, Shapley and Hawken (2002, doi:10.1523/JNEUROSCI.22-13-05639.2002), of
    firing rates there. Units that are linear in the image respond to gratings as to grey, on average, and have no
    preferred orientation: read them behind their activation.

    Args:
        contrast: as in `gratings`.
        low, high, size: as in `colour_tuning`.
    """
    f = scores_of(model, "output")
    place = place_of(f, layer)
    if len(f.shape) != 3:
        raise ValueError(f"Gratings are images [n, height, width, channels]. Received: a model of {[None, *f.shape]}.")
    angles, (height, width) = _orientations(orientations), _height_and_width(_size_for(f, size))
    responses = []
    for angle in angles:  # one at a time, for all together may be too many large images
        (images,) = _gratings([angle], frequencies, phases, (height, width), contrast, f.shape[-1])
        means = _responses(f, place, images.reshape(-1, *images.shape[2:]), low, high, batch_size)
        responses.append(means.reshape(*images.shape[:2], -1).mean(1).max(0))
    grey = _responses(f, place, np.full((1, height, width, f.shape[-1]), 0.5), low, high, batch_size)[0]
    return _tuning(angles, np.stack(responses), grey, 180)


def circular_tuning(strengths, angles, period):
    """The preferred angle and the selectivity, both `[channels]`, of strengths `[n, channels]` that are not negative.

        z = sum_k r_k exp(2 pi i theta_k / P) / sum_k r_k

    has the direction of the preferred angle, from 0 to the period P, and as its length the selectivity: 1 if there is a
    response to one angle alone, 0 if all are alike, or opposite ones. The preferred angle is NaN where z is 0, and so
    where there is no response at all. Mardia and Jupp (2000, Directional Statistics), chapter 2.
    """
    strengths, angles = np.asarray(strengths, float), np.asarray(angles, float)
    if strengths.ndim != 2 or angles.shape != strengths.shape[:1] or not (strengths >= 0).all():
        raise ValueError(
            f"Expected: strengths [n, channels] of at least 0, and an angle for each of the n. Received: shape "
            f"{strengths.shape}, {angles.shape} angles, the least strength {strengths.min(initial=np.inf)}."
        )
    total = strengths.sum(0)
    z = np.divide(
        np.exp(2j * np.pi * angles / period) @ strengths, total, out=np.zeros(len(total), complex), where=total > 0
    )
    length = np.abs(z)
    preferred = np.where(length > ROUND_OFF, np.angle(z) * period / (2 * np.pi) % period, np.nan)
    return preferred, np.minimum(length, 1)


def _tuning(angles, responses, baseline, period):
    above = responses - baseline
    # a difference that may be round-off is none
    above = np.where(above > ROUND_OFF * np.abs(responses).max(0), above, 0)
    return Tuning(angles, responses, baseline, *circular_tuning(above, angles, period))


def _responses(f, place, images, low, high, batch_size):
    """The mean output over all places, `[n, channels]`, for images from 0 to 1."""
    low, high = black_and_white(low, high)
    x = f.inputs(low + (high - low) * images)
    check_walk(f, x)
    (means,) = f.in_batches(reading(f, [place], _mean_over_places), x, batch_size=batch_size)
    refuse_unless_finite(means, f"outputs of {place.layer.name!r}", f.name)
    return means


def _mean_over_places(A):
    return tf.reduce_mean(whole(A), list(range(1, A.shape.rank - 1)))


def _orientations(n):
    return 180 * np.arange(integer(n, "orientations", 3)) / n


def _gratings(angles, frequencies, phases, size, contrast, channels):
    frequencies, contrast = np.atleast_1d(np.asarray(frequencies, float)), number(contrast, "contrast", 0, 1)
    if frequencies.ndim != 1 or not len(frequencies) or not ((frequencies > 0) & (frequencies <= 0.5)).all():
        raise ValueError(
            f"frequencies are cycles per pixel, above 0 and at most 0.5, where stripes are one pixel wide. Received: "
            f"{frequencies.tolist()}."
        )
    if contrast == 0:
        raise ValueError("A grating of contrast 0 has no orientation. Expected: a contrast above 0.")
    phase = 2 * np.pi * np.arange(integer(phases, "phases", 3)) / phases
    y, x = (np.arange(side) - (side - 1) / 2 for side in size)
    theta = np.radians(angles)[:, None, None]
    along = x * np.sin(theta) + y[:, None] * np.cos(theta)  # [orientations, height, width]
    waves = 2 * np.pi * frequencies[:, None, None, None] * along[:, None, None] + phase[:, None, None]
    images = ((1 + contrast * np.cos(waves)) / 2).astype("float32")
    return np.repeat(images[..., None], integer(channels, "channels"), -1)


def _size_for(f, size):
    return size if size is not None else tuple(side or 32 for side in f.shape[:2])


def _height_and_width(size):
    sides = size if isinstance(size, (tuple, list)) else (size, size)
    if len(sides) != 2:
        raise ValueError(f"size is a number of pixels, or (height, width). Received: {size!r}.")
    return tuple(integer(side, "size") for side in sides)
