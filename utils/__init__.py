"""Helpers for looking inside neural networks; importing them starts TensorFlow without its log lines."""

import contextlib
import os


@contextlib.contextmanager
def _quiet_stderr():
    """Send file descriptor 2 to the null device: C++ log lines do not pass through `sys.stderr`."""
    try:
        saved, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    except OSError:  # stderr is closed: there is nothing to keep quiet
        yield
        return
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)


os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
_backend = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
if _backend == "tensorflow":
    with _quiet_stderr():
        import keras
        import tensorflow as tf

        tf.zeros(1)  # the first operation looks for a GPU, and says so
    _backend = keras.backend.backend()  # what it is if Keras was imported before
if _backend != "tensorflow":
    raise ImportError(
        f"utils needs Keras on TensorFlow. Received: Keras on {_backend!r}. "
        "Set the environment variable KERAS_BACKEND to 'tensorflow' before Keras is imported."
    )
