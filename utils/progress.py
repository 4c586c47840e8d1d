"""Long calls: in pieces that fit into the memory, and with a progress bar where one is asked for."""

import keras


def progress_bar(shown, total, unit):
    """A function of how much more has been done, out of `total`; it draws Keras's progress bar if `shown`."""
    if not shown or not total:
        return lambda more: None
    return keras.utils.Progbar(total, unit_name=unit).add


def chunks(images, steps, batch_size):
    """Pairs of slices of images and of steps, about `batch_size` points each; an image's steps in order."""
    parts = -(-steps // batch_size)  # one image at a time if its steps do not fit into a batch
    group = max(1, batch_size // steps)
    length = -(-steps // parts)
    for first in range(0, images, group):
        for start in range(0, steps, length):
            yield slice(first, min(first + group, images)), slice(start, min(start + length, steps))
