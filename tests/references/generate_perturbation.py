"""Write perturbation.npz: occlusion by captum and RISE by its authors' formula, in float64.

The networks and images are those of captum.npz. The tests compare utils/perturbation.py with these values and need
neither torch nor captum. To make them again, after generate.py, in its environment, to which this adds scikit-image:

    pip install scikit-image==0.26.0
    python tests/references/generate_perturbation.py

For RISE there is its authors' code (github.com/eclique/RISE), no package. Here masks and maps follow its formulas, but
the random numbers are such as the tests can draw again. Images and maps are stored channels last.
"""

import functools
import os
from pathlib import Path
from unittest import mock

import captum
import generate
import numpy as np
import skimage
import torch
from captum.attr import Occlusion
from skimage.transform import resize

HERE = Path(__file__).parent
# sides and steps (height, width); of 12 pixels, the last window of the third is cut off in both directions
WINDOWS = {"even": ((3, 3), (3, 3)), "overlap": ((4, 4), (2, 2)), "cut": ((5, 4), (4, 3)), "pixels": ((1, 1), (1, 1))}
MASKS, CELLS, P, SEED = 100, 5, 0.4, 0


def occluded(logits, x, target, baseline):
    """Name -> map by captum; a window covers all channels. Captum would round before it divides by their number."""
    for name, (window, stride) in WINDOWS.items():
        for start, point in {"zero": 0, "image": baseline[None]}.items():
            with mock.patch.object(torch.Tensor, "float", torch.Tensor.double):
                maps = Occlusion(logits).attribute(x, (*window, x.shape[-1]), (*stride, x.shape[-1]), point, target)
            yield f"occlusion/{name}/{start}", maps


def masks(size, mode):
    """[MASKS, size, size]: grids of zeros and ones, enlarged and cut out at random; `mode` says what is at the edge."""
    generator, cell = np.random.default_rng(SEED), -(-size // CELLS)
    for _ in range(MASKS):
        row, column = (generator.random(2) * cell).astype(int)
        grid = (generator.random((CELLS, CELLS)) < P).astype(float)
        large = resize(grid, [(CELLS + 1) * cell] * 2, order=1, mode=mode, anti_aliasing=False)
        yield large[row : row + size, column : column + size]


def randomized(logits, x, target, masks):
    """A map for each image, [n, height, width]."""
    probabilities = torch.softmax(logits((x[:, None] * masks[..., None]).flatten(0, 1)), -1)
    scores = probabilities.unflatten(0, (len(x), len(masks)))[range(len(x)), :, target]
    return torch.einsum("nk,khw->nhw", scores, masks) / len(masks) / P


def main():
    torch.set_num_threads(1)
    with np.load(HERE / "captum.npz") as file:
        captums = dict(file)
    x, target, baseline = (torch.from_numpy(captums[key]) for key in ("inputs", "targets", "baseline"))
    libraries = {"torch": torch, "captum": captum, "numpy": np, "scikit-image": skimage}
    arrays = {"versions": np.array([f"{name} {library.__version__}" for name, library in libraries.items()])}
    arrays |= {f"windows/{name}": np.array(both) for name, both in WINDOWS.items()}
    arrays |= {"masks": np.array(MASKS), "cells": np.array(CELLS), "p": np.array(P), "seed": np.array(SEED)}
    drawn = {edge: np.stack(list(masks(generate.SIZE, edge))) for edge in ("reflect", "edge")}
    arrays |= {f"masks/{edge}": values for edge, values in drawn.items()}

    for name in ("average", "maximum", "residual"):
        weights = {}
        for key, value in captums.items():
            if key.startswith(f"{name}/weights/"):
                layer, variable = key.split("/")[2:]
                weights.setdefault(layer, {})[variable] = torch.from_numpy(value)
        logits = functools.partial(getattr(generate, name), w=weights)
        found = dict(occluded(logits, x, target, baseline))
        for edge, values in drawn.items():
            found[f"rise/{edge}"] = randomized(logits, x, target, torch.from_numpy(values))
        for key, value in found.items():
            assert value.dtype == torch.float64, key
            arrays[f"{name}/{key}"] = value.numpy()

    path, part = HERE / "perturbation.npz", HERE / "perturbation.npz.tmp"
    with open(part, "wb") as file:
        np.savez_compressed(file, **arrays)
    os.replace(part, path)
    print(f"{path.name}: {len(arrays)} arrays, {path.stat().st_size / 1000:.0f} kB; {', '.join(arrays['versions'])}")


if __name__ == "__main__":
    main()
