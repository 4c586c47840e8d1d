"""The solutions of the exercises run, after the cells that are marked as what they use."""

import re

import matplotlib.pyplot as plt
import pytest

from tests.helpers import cells, each_notebook, prose


@pytest.fixture
def figures_closed():
    plt.switch_backend("agg")
    yield
    plt.close("all")


@each_notebook
@pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive")
def test_solutions(path, monkeypatch, figures_closed):
    """Each notebook in a namespace of its own; all in this process, so that TensorFlow starts once."""
    monkeypatch.chdir(path.parent)
    monkeypatch.syspath_prepend(path.parent)  # as in a notebook; what the set-up cell adds goes with it
    solutions = re.findall(r"<details>.*?</details>", prose(path), flags=re.S)
    snippets = [snippet for s in solutions for snippet in re.findall(r"```python\n(.*?)```", s, flags=re.S)]
    assert len(snippets) >= 2
    needed = [c.source for c in cells(path, "code") if "used-by-solutions" in c.metadata.get("tags", [])]
    namespace = {"__name__": "__main__"}
    for source in (*needed, *snippets):  # one after the other, as a reader would run them in the notebook
        exec(compile(source, path.name, "exec"), namespace)
