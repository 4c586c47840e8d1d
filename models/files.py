"""The files of a network: each is written beside its place, and all are then renamed."""

import json
import os
import pathlib
import platform
import tempfile

import keras
import numpy as np
import tensorflow as tf

import models
from models import photographs

VERSIONS = {"tensorflow": tf.__version__, "keras": keras.__version__, "python": platform.python_version()}


def write(card, folder, contents):
    """Write `NAME.END` for each content and then `NAME.json`, so that a run that is stopped leaves what was there.

    Args:
        card: what `NAME.json` holds; the sha256 of each file is added, that of the first as `sha256`.
        contents: end of the file's name -> content: `weights.h5`: a Keras model; `npz`, `codes.npz`: a dictionary of
            arrays; `log.csv`: columns and rows. The first holds the weights.
    """
    folder, name = pathlib.Path(folder), card["name"]
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        paths = []
        for end, content in contents.items():
            paths.append(pathlib.Path(scratch, f"{name}.{end}"))
            if end == "log.csv":
                photographs.write_log(paths[-1], content[1], content[0])
            elif end.endswith("npz"):
                np.savez(paths[-1], **content)
            else:
                save_weights(content, name, paths[-1])
            card["sha256" if len(paths) == 1 else f"{end.partition('.')[0]}_sha256"] = models.sha256(paths[-1])
        log = folder / f"{name}.log.csv"
        if "log.csv" not in contents and log.is_file():  # written epoch by epoch
            card["log_sha256"] = models.sha256(log)
        paths.append(pathlib.Path(scratch, f"{name}.json"))
        paths[-1].write_text(json.dumps(card, indent=2) + "\n")
        for path in paths:
            os.replace(path, folder / path.name)


def save_weights(model, name, path):
    """Save the weights without the optimizer, which a compiled model would save too, at twice their size."""
    plain = models.ARCHITECTURES[name]()
    plain.set_weights(model.get_weights())
    plain.save_weights(path)
