"""What `pip install .` installs: the modules of `utils` and nothing else, under the name `insidenets`.

The wheel is built from a copy, without a network, once for both tests; one process starts TensorFlow.
"""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pytest

from tests.helpers import ROOT

MODULES = {path.relative_to(ROOT / "utils").as_posix() for path in ROOT.glob("utils/**/*.py")}
# a project with a `utils` of its own, which comes first; then the repository's, in the same process
SCRIPT = """
import sys
import numpy as np
from insidenets.attributions import lrp

assert not [name for name in sys.modules if name.split(".")[0] == "utils"]  # so the order of imports is no matter
import utils

assert utils.WHOSE == "theirs"
from keras import Input, Sequential, layers, utils as keras_utils
from insidenets.composites import EPSILON_GAMMA_BOX

keras_utils.set_random_seed(0)
model = Sequential([Input((4, 4, 2)), layers.Conv2D(2, 3, activation="relu"), layers.Flatten(), layers.Dense(3)])
x = np.random.default_rng(0).random((2, 4, 4, 2), "float32")
installed = lrp(model, x, 1, EPSILON_GAMMA_BOX)

del sys.modules["utils"]
sys.path.insert(0, ROOT)
from utils import attributions, composites

assert attributions.lrp is not lrp and attributions.__file__.startswith(ROOT)
assert np.array_equal(installed, attributions.lrp(model, x, 1, composites.EPSILON_GAMMA_BOX))
assert installed.shape == x.shape and installed.any()
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy: a build leaves a folder behind, and the next one would take from it what has since gone."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "utils", source / "utils", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in ("models", "notebooks", "tests"):
        (source / folder).mkdir()
        (source / folder / "__init__.py").touch()
    for name in ("pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", ".", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*command, "--wheel-dir", out], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = out.glob("insidenets-*.whl")
    return zipfile.ZipFile(wheel)


def test_the_wheel_holds_all_modules_and_nothing_else(wheel):
    installed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert installed == {f"insidenets/{name}" for name in MODULES}, "is a folder missing in pyproject.toml?"


def test_what_the_modules_import_is_installed_with_them():
    imported = set()
    for path in ROOT.glob("utils/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(node.module.split(".")[0])
    installed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    installed = {re.match(r"[\w-]+", line)[0] for line in installed}
    called = {"PIL": "pillow", "skimage": "scikit-image", "sklearn": "scikit-learn", "IPython": "ipython"}
    called["cv2"] = "opencv-python"
    assert {called.get(name, name) for name in imported - sys.stdlib_module_names} == installed


def test_the_installed_package_stands_beside_a_utils_of_ones_own(wheel, tmp_path):
    project, site = tmp_path / "project", tmp_path / "site"
    (project / "utils").mkdir(parents=True)
    (project / "utils" / "__init__.py").write_text('WHOSE = "theirs"\n')
    wheel.extractall(site)
    start = f"import sys; ROOT = {str(ROOT)!r}; sys.path[:0] = [{str(project)!r}, {str(site)!r}]"
    subprocess.run([sys.executable, "-P", "-c", start + SCRIPT], cwd=tmp_path, check=True)
