"""The set-up cell of the notebooks: the same everywhere, in every folder and in Colab.

Two of the tests start TensorFlow in a process of its own, once each: only there nothing is importable beforehand.
"""

import re
import subprocess
import sys

from tests.helpers import NOTEBOOKS, ROOT, cells

SOURCE = cells(NOTEBOOKS[0], "code")[0].source
# what a restarted kernel does not have; TensorFlow stays, for starting it is what takes long
RESTART = """
import os, sys
before = list(sys.path)

def restart(folder="."):
    os.chdir(folder)
    sys.path[:] = before
    for name in [name for name in sys.modules if name.split(".")[0] in ("utils", "models")]:
        del sys.modules[name]
    return {}
"""


def run(script, folder):
    """In a process of its own, in which only the set-up cell makes `utils` and `models` importable."""
    subprocess.run([sys.executable, "-P", "-c", RESTART + script], cwd=folder, check=True)


def test_the_set_up_cell_is_short_and_the_same_everywhere():
    assert {cells(path, "code")[0].source for path in NOTEBOOKS} == {SOURCE}
    assert len([line for line in SOURCE.splitlines() if line.strip()]) <= 8


def test_the_next_cell_starts_tensorflow_quietly_and_sets_the_seed():
    for path in NOTEBOOKS:
        lines = cells(path, "code")[1].source.splitlines()
        assert lines[0].startswith("import utils ") and "keras.utils.set_random_seed(0)" in lines, path.name


def test_the_set_up_cell_finds_the_repository_from_every_folder():
    folders = [str(ROOT / folder) for folder in ("", "notebooks", "tests/references")]
    script = f"""
for folder in {folders!r}:
    exec({SOURCE!r}, restart(folder))
    import models, utils
    assert models.__file__.startswith({str(ROOT)!r}) and utils.__file__.startswith({str(ROOT)!r}), folder
"""
    run(script, ROOT.parent)


def test_the_set_up_cell_fetches_the_repository_in_colab(tmp_path):
    """With a stand-in for google.colab and a clone of this working tree as the origin; run twice in one kernel."""
    origin, content = tmp_path / "origin", tmp_path / "content"
    content.mkdir()
    (origin / "utils" / "cam").mkdir(parents=True)
    for name in ("__init__.py", "scores.py", "cam/__init__.py"):
        (origin / "utils" / name).write_bytes((ROOT / "utils" / name).read_bytes())
    git = ["git", "-c", "user.name=test", "-c", "user.email=test", "-C", str(origin)]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "test"]):
        subprocess.run(git + command, check=True)
    source = re.sub(r'url = "[^"]*"', f'url = "file://{origin}"', SOURCE)
    script = f"""
import types
sys.modules["google.colab"] = types.ModuleType("google.colab")
for _ in range(2):  # the second time as after a restart: it is there already
    namespace = restart()
    for _ in range(2):
        exec({source!r}, namespace)
        import utils
        assert utils.__file__.startswith({str(content)!r}), utils.__file__
"""
    run(script, content)  # the folder in which Colab starts its notebooks
    assert (content / "origin" / "utils" / "scores.py").is_file()
