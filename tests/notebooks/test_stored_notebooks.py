"""What can be seen of the notebooks without running them."""

import json
import re
import statistics

import nbformat

from tests.helpers import NOTEBOOKS, ROOT, cells, each_notebook, prose
from utils.plotting.slider import LARGEST

BUDGET = 1_000_000  # bytes
PICTURE = re.compile("data:image/png;base64,[A-Za-z0-9+/=]+")  # in the HTML of a slider; any word may be in it
HOUSE = [f"**You {verb}:**" for verb in ("will do", "will learn", "need")]
HOUSE += [f"## {heading}" for heading in ("The question", "The idea", "Put it together", "Check it", "See it")]
HOUSE += [f"## {heading}" for heading in ("Break it", "Compare", "Exercises", "Summary", "References")]


@each_notebook
def test_stored_state(path):
    assert path.stat().st_size <= BUDGET
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3" and set(notebook.metadata) == {"kernelspec", "language_info"}
    code = cells(path, "code")
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), "run tools/run_notebooks.py"
    assert [cell.id for cell in notebook.cells] == [f"cell-{k:02d}" for k in range(len(notebook.cells))]
    assert not any("execution" in cell.metadata for cell in notebook.cells)


@each_notebook
def test_outputs(path):
    for k, cell in enumerate(cells(path, "code")):
        for output in cell.outputs:
            where = f"code cell {k}"
            assert output.output_type != "error", where
            assert output.get("name") != "stderr", where
            data = output.get("data", {})
            assert not set(data) - {"image/png", "text/plain", "text/html"}, f"{where}: {set(data)}"
            page = data.get("text/html", "")
            assert len(page) <= LARGEST and page.count("<img") == len(re.findall(r'<img [^>]*alt="[^"]{10}', page)), (
                where
            )
            text = output.get("text", "") + data.get("text/plain", "") + PICTURE.sub("", page)
            assert not set("\r\b\x1b") & set(text), f"{where}: a progress bar or colours"
            assert "<script" not in text, where
            assert not re.search(r"/(home|root|Users|tmp|work|content|opt)/|0x[0-9a-f]{6}", text), f"{where}: {text}"
            assert len(re.sub(r"<input[^>]*>", "", text)) < 1500, f"{where}: a wall of print"  # a slider has handlers


def is_figure(output):
    data = output.get("data", {})
    return "image/png" in data or "<img" in data.get("text/html", "")


@each_notebook
def test_figures_have_captions(path):
    """Each figure is followed by a cell that describes it: its caption is its alternative text."""
    stored = nbformat.read(path, as_version=4).cells
    numbers = []
    for cell, after in zip(stored, stored[1:]):
        if cell.cell_type == "code" and any(map(is_figure, cell.outputs)):
            caption = re.match(r"\*\*Figure (\d+)\.\*\* \*[^*]+\*", after.source)
            assert caption, f"no caption after {cell.source[:60]!r}"
            assert len(after.source) > 120
            numbers.append(int(caption[1]))
    assert numbers == list(range(1, len(numbers) + 1)) and numbers


@each_notebook
def test_links(path):
    for alternative, target in re.findall(r"(!?\[[^\]]*\])\(([^)\s]+)\)", prose(path)):
        assert alternative.strip("![]"), f"no text for {target}"
        if not target.startswith("https://"):
            assert (path.parent / target).is_file(), target


@each_notebook
def test_mathematics_renders_everywhere(path):
    text = re.sub(r"```.*?```|`[^`\n]*`", "", prose(path), flags=re.S)
    for forbidden in (r"\begin{equation", r"\begin{align}", r"\begin{align*}", r"\(", r"\[", r"\operatorname", r"\ref{",
                      r"\eqref{", r"\label{", r"\color", "> [!", "[^", "attachment:"):  # fmt: skip
        assert forbidden not in text, forbidden
    assert text.count("$$") % 2 == 0
    displayed = re.findall(r"\$\$(.*?)\$\$", text, flags=re.S)
    for block in displayed:
        assert re.search(rf"\n\n\$\$ ?{re.escape(block.strip(' '))} ?\$\$(\n\n|$)", "\n\n" + text), (
            f"not alone: {block}"
        )
        assert block.count("{") - block.count(r"\{") == block.count("}") - block.count(r"\}"), block
    inline = re.sub(r"\$\$.*?\$\$", "", text, flags=re.S)
    assert inline.count("$") % 2 == 0
    tags = [int(tag) for tag in re.findall(r"\\tag\{(\d+)\}", text)]
    assert tags == list(range(1, len(tags) + 1))
    for line in inline.splitlines():
        if line.startswith("|"):
            for formula in re.findall(r"\$([^$]*)\$", line):
                assert "|" not in formula, f"use \\lvert in a table: {line}"


@each_notebook
def test_house_page(path):
    text, code = prose(path), cells(path, "code")
    found = [text.find(heading) for heading in HOUSE]
    assert -1 not in found and found == sorted(found), [h for h, k in zip(HOUSE, found) if k < 0]
    assert len(re.findall(r"^# ", re.sub(r"```.*?```", "", text, flags=re.S), flags=re.M)) == 1
    assert re.match(rf"# {path.stem[0]}\.{path.stem[2]} ", text), "the title has the notebook's number"
    asserts = sum(len(re.findall(r"^\s*assert ", cell.source, flags=re.M)) for cell in code)
    assert asserts >= 5
    assert text.count("<details><summary>Hint and solution</summary>\n\n") == text.count("</details>") == 3
    assert len(text.split()) >= sum(len(cell.source.split()) for cell in code), "more prose than code"


@each_notebook
def test_cells(path):
    everything = nbformat.read(path, as_version=4).cells
    lengths = []
    for k, cell in enumerate(everything):
        if cell.cell_type == "code" and k > 1:
            lines = [line for line in cell.source.splitlines() if line.strip() and not line.strip().startswith("#")]
            lengths.append(len(lines))
            assert len(lines) <= 25 and max(map(len, cell.source.splitlines())) <= 88, cell.source
            before = {other.cell_type for other in everything[k - 2 : k]}  # two code cells may follow one another
            assert "markdown" in before, f"no words before {cell.source[:60]!r}"
            assert not re.search(r"^[%!]", cell.source, flags=re.M)
            assert "NBVAL_" not in cell.source, "marks for the tests are tags: nbval-check-output"
    assert statistics.median(lengths) <= 6


@each_notebook
def test_exercises_come_with_stubs(path):
    names = {name for s in re.findall(r"<details>.*?</details>", prose(path), flags=re.S)
             for name in re.findall(r"^def (\w+)", s, flags=re.M)}  # fmt: skip
    stubs = {
        m for cell in cells(path, "code") for m in re.findall(r"def (\w+)\([^)]*\):\n    return None", cell.source)
    }
    assert stubs and stubs <= names


def test_the_series_is_listed():
    start = prose(ROOT / "notebooks" / "0_0_start_here.ipynb")
    readme = (ROOT / "README.md").read_text()
    for path in NOTEBOOKS:
        assert path.name in readme, f"{path.name} is not in the README"
        assert path.name in start or path.stem == "0_0_start_here"


def test_notebooks_are_json_as_jupyter_writes_it():
    for path in NOTEBOOKS:
        text = path.read_text()
        assert json.dumps(json.loads(text), indent=1, ensure_ascii=False, sort_keys=True) + "\n" == text
