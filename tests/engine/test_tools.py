"""The commands that keep the series in order, and what nbval is made to see."""

import base64
import io
import re
import shutil
import subprocess
import sys
from xml.etree import ElementTree

import nbformat
import numpy as np
import pytest
from PIL import Image

from tests.helpers import ROOT

sys.path.insert(0, str(ROOT / "tools"))

import run_notebooks  # noqa: E402
import set_repository  # noqa: E402


def write_notebook(path, *sources):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    nbformat.write(notebook, path)
    return path


def test_executed_notebooks_are_the_same_byte_for_byte(tmp_path):
    path = write_notebook(tmp_path / "a.ipynb", "print('one')\nprint('two')", "1 + 1")
    run_notebooks.execute(path)
    first = path.read_bytes()
    run_notebooks.execute(path)
    assert path.read_bytes() == first and b'"execution_count": 2' in first
    assert [file.name for file in tmp_path.iterdir()] == ["a.ipynb"]


def test_a_notebook_that_raises_is_left_as_it_was(tmp_path):
    path = write_notebook(tmp_path / "a.ipynb", "1 / 0")
    before = path.read_bytes()
    with pytest.raises(Exception, match="ZeroDivisionError"):
        run_notebooks.execute(path)
    assert path.read_bytes() == before


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def test_figures_are_compared(pytestconfig):
    conftest = pytestconfig.pluginmanager.get_plugin(str(ROOT / "conftest.py"))
    figure = np.full((200, 300, 3), 255, "uint8")
    figure[50:100, 50:100] = 30
    a_little_noise = figure - np.random.default_rng(0).integers(0, 3, figure.shape, "uint8")
    moved = np.roll(figure, 60, 1)
    assert conftest.figure_distance(png(figure), png(a_little_noise)) < conftest.LIMIT
    assert conftest.figure_distance(png(figure), png(moved)) > conftest.LIMIT
    assert conftest.figure_distance(png(figure), png(figure[:-5])) == float("inf")


FIGURE = "import matplotlib.pyplot as plt\nplt.bar([1, 2, 3], [1, 2, {}])\nplt.show()"
SLIDER = """import base64, io
import numpy as np
from IPython.display import display
from PIL import Image
page = ""
for label, place in {}:
    pixels = np.random.default_rng({}).integers(0, 2, (90, 90, 3), "uint8")  # from 0 to 1: a noise of 4e-3
    pixels[:, place : place + 30] += 200
    Image.fromarray(pixels).save(png := io.BytesIO(), "PNG")
    page += f'<i>{{label}}</i><img src="data:image/png;base64,{{base64.b64encode(png.getvalue()).decode()}}">'
display({{"text/html": page, "text/plain": "a slider"}}, raw=True)"""
STORED = SLIDER.format([("a", 0), ("b", 30)], 0)
COMPARED = {  # name -> the cell when it was stored, the cell as it is now, and what is said of it: nothing, or why not
    "same_text": ("print(1)", "print(1)", None),
    "other_text": ("print(1)", "print(2)", "mismatch"),
    "same_figure": (FIGURE.format(3), FIGURE.format(3), None),
    "other_figure": (FIGURE.format(3), FIGURE.format(6), "figure 0 differs from the stored one"),
    "same_frames": (STORED, SLIDER.format([("a", 0), ("b", 30)], 1), None),
    "other_frame": (STORED, SLIDER.format([("a", 0), ("b", 60)], 0), "figure 1 differs from the stored one"),
    "other_order": (STORED, SLIDER.format([("a", 30), ("b", 0)], 0), "figure 0 differs from the stored one"),
    "other_label": (STORED, SLIDER.format([("a", 0), ("c", 30)], 0), "mismatch 'text/html'"),
    "fewer_frames": (STORED, SLIDER.format([("a", 0)], 0), "2 stored figures, 1 now"),
    "dead_kernel": ("pass", "import os\nos._exit(1)", "the kernel died"),  # the last, for the kernel serves all
}


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """What pytest says of these cells of one notebook, with this project's conftest and data that count as real."""
    folder = tmp_path_factory.mktemp("compared")
    path = write_notebook(folder / "cells.ipynb", *(stored for stored, _, _ in COMPARED.values()))
    run_notebooks.execute(path)
    notebook = nbformat.read(path, as_version=4)
    for cell, (_, now, _) in zip(notebook.cells, COMPARED.values()):
        cell.source = now
    nbformat.write(notebook, path)
    shutil.copy(ROOT / "conftest.py", folder)
    shutil.copytree(ROOT / "utils", folder / "utils")
    (folder / "mnist.npz").touch()
    command = [sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env", "-p", "no:cacheprovider"]
    environment = {**run_notebooks.os.environ, "NN_DATA": str(folder)}
    answer = subprocess.run(
        [*command, "--junit-xml=answer.xml", path.name], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert (folder / "answer.xml").exists(), answer.stdout + answer.stderr
    cases = list(ElementTree.parse(folder / "answer.xml").iter("testcase"))
    assert len(cases) == len(COMPARED)
    return dict(zip(COMPARED, cases))


@pytest.mark.parametrize("name", COMPARED)
def test_stored_outputs_are_compared(name, compared):
    case, word = compared[name], COMPARED[name][-1]
    failures = [failure.text for failure in case.findall("failure")]
    assert len(failures) == (word is not None) and not case.findall("error")
    assert all(word in failure for failure in failures), failures


def test_a_dead_kernel_fails_at_once(compared):
    assert float(compared["dead_kernel"].get("time")) < 60


OTHERS = "jupyter/design jacobgil/pytorch-grad-cam frgfm/torch-cam keisen/tf-keras-vis adityac94/Grad_CAM_plus_plus"
OTHERS += " adebayoj/sanity_checks_saliency"


def test_the_repository_address_is_the_same_everywhere():
    address = set_repository.repository()
    found = 0
    for path in set_repository.files():
        links = r"(?:github\.com|/github|githubusercontent\.com)/([\w.-]+/[\w-]+)"
        named = set(re.findall(links, path.read_text())) - set(OTHERS.split())
        assert named <= {address}, f"{path.name}: {named}"
        found += bool(named)
    assert found >= 2 + len(list(ROOT.glob("notebooks/*.ipynb")))


def test_the_repository_address_is_set_everywhere(tmp_path):
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks", ignore=shutil.ignore_patterns(".*"))
    for name in ("pyproject.toml", "README.md", "CITATION.cff"):
        shutil.copy(ROOT / name, tmp_path)
    old = set_repository.repository()
    set_repository.set_repository("somebody/another-name", tmp_path)
    assert set_repository.repository(tmp_path) == "somebody/another-name"
    assert not any(old in path.read_text() for path in set_repository.files(tmp_path))
    set_repository.set_repository(old, tmp_path)
    for path in set_repository.files(tmp_path):
        assert path.read_bytes() == (ROOT / path.relative_to(tmp_path)).read_bytes()


def test_an_address_that_is_none_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="OWNER/NAME. Received: 'https://example.org'"):
        set_repository.set_repository("https://example.org", tmp_path)
