"""What the figures accept as images and maps. Everything else is refused: what came, what was expected, what to do."""

import numpy as np
import scipy.ndimage

MOST = 600  # frames in a figure


def checked_images(images, low=0, high=1, within=True):
    """Images as `[n, height, width, channels]` float64 in [0, 1].

    Args:
        images: bytes (0 to 255), or numbers in which `low` is black and `high` is white (of one channel: paper, ink).
        within: whether pixels beyond [low, high] are refused; they are cut off otherwise.

    Raises:
        ValueError: another shape, other numbers, or pixels beyond their range.
    """
    images = _numbers("images", images)
    _check_shape(images.shape)
    if not (np.isscalar(low) and np.isscalar(high) and low < high):
        raise ValueError(f"Expected two numbers low < high, black and white. Received: low={low!r}, high={high!r}.")
    is_bytes, images = images.dtype == np.uint8, images.astype("float64")
    if not np.isfinite(images).all():
        raise ValueError(
            f"The images hold numbers that are not finite. Received: {(~np.isfinite(images)).sum()} of {images.size}. "
            "Expected: finite pixels. np.nan_to_num(x) makes them so, if that is what you want to see."
        )
    if is_bytes and (low, high) == (0, 1):
        low, high = 0, 255
    least, most, slack = images.min(), images.max(), 0.01 * (high - low)
    if within and not (least >= low - slack and most <= high + slack):
        raise ValueError(
            f"Expected images in [{low:g}, {high:g}]. Received: from {least:.3g} to {most:.3g}. {_advice(least, most)}"
        )
    return np.clip((images - low) / (high - low), 0, 1)


def _advice(least, most):
    if least >= 0 and 2 < most <= 255:
        return "Of pixels from 0 to 255, pass x / 255 or high=255."
    if least >= -1.01 and most <= 1.01:
        return "Of pixels from -1 to 1, pass (x + 1) / 2 or low=-1, high=1."
    return (
        "Undo the preprocessing of the pixels (add the mean that was subtracted, and turn BGR round), or pass the "
        "values of black and white as low= and high=."
    )


def _check_shape(shape):
    if len(shape) == 4 and shape[-1] in (1, 3) and all(shape):
        return
    if 0 in shape:
        advice = "There is nothing to draw: were all images filtered out?"
    elif len(shape) == 3 and shape[-1] in (1, 3):
        advice = "Of one image x, pass x[None], and its map R as R[None]. A series is drawn by plot_curves."
    elif len(shape) == 3:
        advice = "Of grey images without channels, pass x[..., None]."
    elif len(shape) == 2:
        advice = "Of one grey image x, pass x[None, ..., None]. Tables and series are drawn by plot_curves."
    elif len(shape) == 5:
        advice = "Of volumes or films, pass a slice, x[:, 0] say, and the same slice of the maps."
    elif len(shape) == 4 and shape[1] in (1, 3):
        advice = "If the channels come first, pass np.moveaxis(x, 1, -1), and the maps likewise."
    elif len(shape) == 4:
        colours = "x[..., :3] in colours, " if shape[-1] > 3 else ""
        advice = f"Of {shape[-1]} channels, pass those to be seen: {colours}x[..., :1] or a mean in grey."
    else:
        advice = "Series and tables are drawn by plot_curves."
    raise ValueError(
        f"Expected images [n, height, width, channels] with 1 or 3 channels. Received: shape {shape}. {advice}"
    )


def _numbers(name, values):
    """An array of numbers, or a ValueError."""
    try:
        array = np.asarray(values)
        if array.dtype.kind in "cOSUmM":
            raise TypeError(f"{array.dtype} is no real number")
        return array if array.dtype == np.uint8 else array.astype("float64")
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name} must be an array of real numbers. Received: {type(values).__name__} ({error}). Expected: one "
            "NumPy array or tensor; pass np.stack of a list, np.abs of complex numbers."
        ) from error


def checked_maps(maps, images):
    """A dictionary, name -> maps `[n, height, width]`, of the images' height and width."""
    if isinstance(maps, (tuple, list)):
        is_pair = isinstance(maps, tuple) and len(maps) == 2
        advice = (
            "A method returned the map and something else (its error)? Pass the first of the two."
            if is_pair
            else "Give each a name: dict(zip(names, maps))."
        )
        raise ValueError(
            "maps must be a dictionary, name -> maps, or one array of maps. "
            f"Received: a {type(maps).__name__} of {len(maps)}. {advice}"
        )
    if not isinstance(maps, dict):
        maps = {"map": maps}
    if not maps:
        raise ValueError("maps must hold at least one method's maps. Received: none. show_images draws images alone.")
    return {str(name): flat(name, values, images) for name, values in maps.items()}


def flat(name, values, images):
    """Maps `[n, height, width]` of the images' size: channels are summed, the small maps of inner layers upsampled."""
    if isinstance(values, (tuple, list)) and not np.isscalar(values[0] if len(values) else 0):
        shapes = [getattr(value, "shape", type(value).__name__) for value in values]
        if isinstance(values, tuple) or len(set(map(str, shapes))) > 1:
            raise ValueError(
                f"The maps of {name!r} must be one array. Received: a {type(values).__name__} of {len(values)}, "
                f"{', '.join(map(str, shapes))}. Of what a method returned with its error, pass the first."
            )
    values = _numbers(f"The maps of {name!r}", values).astype("float64")
    expected = images.shape[:3]
    if values.ndim == 4 and (values.shape[-1] == 1 or values.shape[:3] == expected):
        values = values.sum(-1)
    if values.shape != expected and not _is_small(values.shape, expected):
        raise ValueError(
            f"The maps of {name!r} do not fit the images. Received: shape {values.shape}. "
            f"Expected: {expected}, with or without channels, or a smaller class activation map ({expected[0]}, h, w)."
            f"{' Of one map R, pass R[None].' if values.shape in (expected[1:], images.shape[1:]) else ''}"
        )
    if not np.isfinite(values).all():
        raise ValueError(
            f"The maps of {name!r} hold numbers that are not finite. Received: {(~np.isfinite(values)).sum()} of "
            f"{values.size}. Expected: finite numbers. Look for a division by zero in the method or a NaN in its input."
        )
    return values if values.shape == expected else upsampled(values, expected[1:])


def _is_small(shape, expected):
    """Whether these are smaller maps of the same images, of about the same proportions."""
    if len(shape) != 3 or shape[0] != expected[0] or not all(shape):
        return False
    down, across = expected[1] / shape[1], expected[2] / shape[2]
    return min(down, across) >= 1 and max(down, across) / min(down, across) < 2


def upsampled(maps, size):
    """Maps `[n, h, w]` at `size`, bilinear with half-pixel centres, as class activation maps are commonly shown."""
    factors = [1] + [new / old for new, old in zip(size, maps.shape[1:])]
    return scipy.ndimage.zoom(maps, factors, order=1, mode="nearest", grid_mode=True)


def checked_overlay(overlay, images, low=0, high=1):
    """What is seen through the maps of `images`, in their shape: themselves, nothing, or other images."""
    if isinstance(overlay, (bool, np.bool_)):
        return images if overlay else None
    under = checked_images(overlay, low, high)
    if under.shape != images.shape:
        raise ValueError(
            f"overlay does not fit the images. Received: shape {under.shape}. Expected: {images.shape}, True or False. "
            "np.repeat(x[None], n, 0) makes n copies of one image x."
        )
    return under


def checked_titles(titles, n):
    """`n` words as a list; empty ones for None."""
    if titles is None:
        return [""] * n
    if isinstance(titles, str) or not np.iterable(titles) or len(titles := list(titles)) != n:
        count = f"{len(titles)} titles" if isinstance(titles, list) else repr(titles)
        raise ValueError(f"titles does not fit. Received: {count}. Expected: a list of {n}, one for each image.")
    return [str(title) for title in titles]


def check_number_of_frames(frames):
    if frames > MOST:
        raise ValueError(
            f"One figure cannot show that much. Received: {frames} frames, of images and maps. Expected: at most "
            f"{MOST}. Pass a part: x[:10] and the maps of these."
        )


def one_of(name, value, choices):
    if value not in choices:
        words = " or ".join(map(repr, choices))
        raise ValueError(f"{name} must be {words}. Received: {value!r}.")
