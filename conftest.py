"""What nbval leaves out when it runs the notebooks again: figures, dead kernels, and data that are not there."""

import base64
import copy
import functools
import gc
import importlib
import io
import os
import pathlib
import re
import sys
import time
import types
from queue import Empty

import numpy as np
from nbval import kernel, plugin
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))
gc.set_threshold(100_000, 20, 100)  # TensorFlow and its graphs are many objects: looking through them costs a tenth
# one thread for each kernel: several run at once, and the last digits agree with what is stored
for variable in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
    os.environ[variable] = "1"

LIMIT = 0.05  # the largest difference between the mean colours of two blocks, from 0 to 1
GRID = 48  # blocks in a row and in a column
PICTURE = re.compile("data:image/png;base64,([A-Za-z0-9+/=]+)")


@functools.cache
def real():
    """Whether the real MNIST is here, with which the stored outputs were made.

    As `utils.data` says, which is loaded without `utils`: that starts TensorFlow, and the process that only hands out
    the tests to others needs none.
    """
    if "utils" in sys.modules:
        return importlib.import_module("utils.data").has_real_mnist()
    sys.modules["utils"] = types.ModuleType("utils")
    sys.modules["utils"].__path__ = [str(ROOT / "utils")]
    try:
        return importlib.import_module("utils.data").has_real_mnist()
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "utils"]:
            del sys.modules[name]


def pytest_report_header():
    if real():
        return "notebooks: MNIST is here, stored outputs and figures are compared"
    return "notebooks: MNIST is not here; they run with the embedded digits and stored outputs are not compared"


def _frames(png):
    """Size and block means `[GRID, GRID, 3]` of each frame of a PNG in base64."""
    image = Image.open(io.BytesIO(base64.b64decode(png)))
    for k in range(getattr(image, "n_frames", 1)):
        image.seek(k)
        rgba = image.convert("RGBA")
        flat = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
        yield (
            rgba.size,
            np.asarray(flat.resize((GRID, GRID), Image.Resampling.BOX), "float32") / 255,
        )


def figure_distance(one, other):
    """The largest difference between block means of two PNGs; infinite if sizes or numbers of frames differ."""
    one, other = list(_frames(one)), list(_frames(other))
    same_size = len(one) == len(other) and all(abs(a - b) <= 2 for a, b in zip(one[0][0], other[0][0]))
    if not same_size:
        return float("inf")
    return max(float(np.abs(a - b).max()) for (_, a), (_, b) in zip(one, other))


_compare_texts = plugin.IPyNbCell.compare_outputs


def without_pictures(outputs):
    """The outputs with a mark in place of each picture in their HTML, and all pictures, PNG in base64, in order."""
    outputs, pictures = copy.deepcopy(outputs), []
    for output in outputs:
        data = output.get("data", {})
        pictures += [data["image/png"]] if "image/png" in data else []
        if "text/html" in data:
            pictures += PICTURE.findall(data["text/html"])
            data["text/html"] = PICTURE.sub("(picture)", data["text/html"])
    return outputs, pictures


def compare_outputs(cell, new, stored, skip_compare=None):
    """As nbval's, and figures too; nothing if the data are not those that the stored outputs were made with."""
    if not real():
        return True
    (new, now), (stored, before) = without_pictures(new), without_pictures(stored)
    same = _compare_texts(cell, new, stored, skip_compare)
    if "figure-varies" in cell.cell.metadata.get("tags", []):  # a figure of round-off, which asserts check instead
        return same
    if len(before) != len(now):
        cell.comparison_traceback.append(f"{len(before)} stored figures, {len(now)} now")
        return False
    for k, pair in enumerate(zip(before, now)):
        distance = figure_distance(*pair)
        if distance > LIMIT:
            folder = pathlib.Path(str(cell.config.rootpath), "build", "figures")
            folder.mkdir(parents=True, exist_ok=True)
            stem = f"{cell.path.stem}-cell{cell.cell_num}-{k}"
            for when, png in zip(("stored", "now"), pair):
                (folder / f"{stem}-{when}.png").write_bytes(base64.b64decode(png))
            cell.comparison_traceback.append(
                f"figure {k} differs from the stored one: {distance:.3f} > {LIMIT} (see build/figures/{stem}-*.png)"
            )
            same = False
    return same


plugin.IPyNbCell.compare_outputs = compare_outputs

_await_reply = kernel.RunningKernel.await_reply


def await_reply(running, msg_id, timeout=None):
    """As nbval's, but a kernel that died fails at once, not when the time for the cell is up."""
    end = None if timeout is None else time.monotonic() + timeout
    while True:
        try:
            return _await_reply(running, msg_id, timeout=1)
        except Empty:
            if not running.is_alive():
                raise RuntimeError("the kernel died while it ran this cell (crash, or out of memory?)") from None
            if end is not None and time.monotonic() > end:
                raise


kernel.RunningKernel.await_reply = await_reply
