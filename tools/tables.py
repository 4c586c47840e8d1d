"""What the scripts that make the tables in `assets/` have in common."""

import json
import os

import numpy as np

from utils.inside import wilson_interval
from utils.quality import mean_and_interval


def with_ends(values):
    """Mean and ends of its 95 % interval, in four digits: Wilson's for hits and misses `[n]`, else a bootstrap's."""
    if np.isin(values, (0, 1)).all():
        found = values.mean(), *wilson_interval(int(values.sum()), len(values))
    else:
        found = mean_and_interval(values)
    return [round(float(value), 4) for value in found]


def write_table(target, card, indent=1):
    """Write `card` as JSON to the path `target`, under a temporary name first."""
    beside = target.with_suffix(".new")
    beside.write_text(json.dumps(card, indent=indent) + "\n")
    os.replace(beside, target)
