"""Write maps.npz: the maps of all methods on the networks of frozen.py, as they are when this runs.

    python tests/references/generate_maps.py

Unlike the other references here they come from this code itself: they do not say that a map is right, but that it has
not changed. Where a change is meant, run this again, and say so.
"""

import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from tests.references import frozen  # noqa: E402


def main():
    maps = {}
    for name in frozen.NETWORKS:
        model = frozen.network(name)
        for call, f in frozen.calls().items():
            maps[f"{name}/{call}"] = np.asarray(f(model), "float32")
    np.savez_compressed(HERE / "maps.npz", **maps)
    print(f"{len(maps)} maps, {(HERE / 'maps.npz').stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
