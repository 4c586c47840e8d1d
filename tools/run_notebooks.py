"""Execute notebooks in place, into files that are the same byte for byte each time.

    python tools/run_notebooks.py notebooks/3_4_integrated_gradients.ipynb ...   (none named: all)

Run it after every edit: it stores the outputs, numbers the cells and drops what only tells about the
machine. A notebook that raises is left as it was.
"""

import os
import pathlib
import sys
import time

import nbformat
from nbclient import NotebookClient

ROOT = pathlib.Path(__file__).resolve().parents[1]
# ipykernel stores what C++ code writes to the file descriptor of stderr, except under pytest: behave as there
os.environ["PYTEST_CURRENT_TEST"] = "run_notebooks"
# the number of threads changes the last digits; one, as in the tests
for variable in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
    os.environ[variable] = "1"


def execute(path):
    """Run all cells of the notebook at `path` in a new kernel and write it back, clean."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(path.parent)}},
    ).execute()
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for k, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{k:02d}"
        tags = cell.metadata.get("tags")
        cell.metadata = {"tags": tags} if tags else {}
    nbformat.validate(notebook)
    text = nbformat.writes(notebook).rstrip("\n") + "\n"
    scratch = path.with_suffix(".tmp")
    scratch.write_text(text)
    os.replace(scratch, path)
    return len(text)


def main():
    paths = [pathlib.Path(name).resolve() for name in sys.argv[1:]] or sorted((ROOT / "notebooks").glob("*.ipynb"))
    for path in paths:
        start = time.time()
        size = execute(path)
        print(f"{path.name}: {time.time() - start:.1f} s, {size / 1024:.0f} KiB", flush=True)


if __name__ == "__main__":
    main()
