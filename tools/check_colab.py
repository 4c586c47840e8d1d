"""Run every notebook as Colab does: `python tools/check_colab.py [NOTEBOOK ...]`, in an environment with its versions.

A stand-in module google.colab is imported at the start of Python, as there, and the notebooks' set-up cell fetches
the repository to /content: from here, for git is told to. Checked are the set-up cell when nothing is there, when the
clone is there, after a restart, and twice in a row; then every notebook, and the outputs that are marked are compared.
`nox -s colab` makes the environment. What is not committed is not in the clone.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

from set_repository import repository

CONTENT = pathlib.Path("/content")


def environment(standin):
    """The variables of a process that takes itself for one of Colab's."""
    (standin / "google" / "colab").mkdir(parents=True)
    (standin / "google" / "colab" / "__init__.py").touch()
    (standin / "sitecustomize.py").write_text("import google.colab\n")
    return os.environ | {
        "PYTHONPATH": str(standin),
        "GIT_CONFIG_COUNT": "2",
        "GIT_CONFIG_KEY_0": f"url.file://{ROOT}.insteadOf",
        "GIT_CONFIG_VALUE_0": f"https://github.com/{repository()}",
        "GIT_CONFIG_KEY_1": "safe.directory",
        "GIT_CONFIG_VALUE_1": "*",
    }


def main():
    clone = CONTENT / repository().split("/")[1]
    if clone.exists():
        raise SystemExit(f"{clone} is there already. Remove it: the check begins with nothing cloned.")
    made = not CONTENT.exists()
    try:
        CONTENT.mkdir(exist_ok=True)
    except OSError as error:
        raise SystemExit(f"Colab's folder /content cannot be made here ({error}). Run this in a container.") from error
    cells = json.loads((ROOT / "notebooks" / "0_0_start_here.ipynb").read_text())["cells"]
    setup = "".join(next(cell["source"] for cell in cells if cell["cell_type"] == "code"))
    twice = f"import sys\nfor _ in range(2):\n    exec({setup!r}, {{}})\nimport utils\nprint(utils.__file__)"
    try:
        with tempfile.TemporaryDirectory() as standin:
            env = environment(pathlib.Path(standin))
            for state in ("nothing is cloned", "cloned, after a restart"):
                answer = subprocess.run(
                    [sys.executable, "-c", twice], cwd=CONTENT, env=env, capture_output=True, text=True
                )
                if answer.returncode or str(clone) not in answer.stdout:
                    raise SystemExit(f"The set-up cell failed when {state}:\n{answer.stdout}{answer.stderr}")
                print(f"set-up cell, {state}, twice in a row: as it should be", flush=True)
            names = sys.argv[1:] or sorted(path.name for path in (clone / "notebooks").glob("*.ipynb"))
            flags = ["--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=300", "-n2", "--dist=loadfile", "-q"]
            paths = [str(clone / "notebooks" / pathlib.Path(name).name) for name in names]
            command = [sys.executable, "-m", "pytest", "-o", "addopts=", "-p", "no:cacheprovider", *flags, *paths]
            raise SystemExit(subprocess.run(command, cwd=clone, env=env).returncode)
    finally:
        shutil.rmtree(clone, ignore_errors=True)
        if made:
            CONTENT.rmdir()


if __name__ == "__main__":
    main()
