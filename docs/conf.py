"""The site: every notebook from its stored outputs, the README, and the docstrings. Built by `nox -s docs`."""

import importlib
import pathlib
import shutil
import sys
import tomllib
import types

from sphinx.ext.autodoc.mock import mock

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))
for folder in ("notebooks", "assets"):  # copies, which git ignores, so that relative links go on working
    shutil.rmtree(HERE / folder, ignore_errors=True)
    shutil.copytree(ROOT / folder, HERE / folder, ignore=shutil.ignore_patterns(".*", "*.toml", "*.json"))

# the docstrings are read without these packages: stand-ins take their place while the modules are imported
with mock(["tensorflow", "keras", "sklearn", "skimage", "cv2"]):
    importlib.import_module("keras").backend = types.SimpleNamespace(backend=lambda: "tensorflow")
    for path in sorted([*(ROOT / "utils").rglob("*.py"), *(ROOT / "models").glob("*.py")]):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        importlib.import_module(name.removesuffix(".__init__"))

# a rule is a value; what there is to read of it is its function
rules = sys.modules["utils.rules"]
for module in (rules.propagation, rules.deeplift):
    for name, value in list(vars(module).items()):
        if isinstance(value, rules.Rule):
            setattr(module, name, value.function)


def with_its_parameters_alone(app, what, name, obj, options, signature, returns):
    """The signature of a rule as it is called in a table: what the trace hands it is left out."""
    given = "(part, inputs, output, R"
    if name.startswith("utils.rules.") and (signature or "").startswith(given):
        return "(" + signature.removeprefix(given).removeprefix(", "), returns


def without_numbers_of_fields(app, what, name, obj, skip, options):
    """Of a named tuple, the signature says as much as "Alias for field number 0" does."""
    return True if str(getattr(obj, "__doc__", "")).startswith("Alias for field number") else None


def setup(app):
    app.connect("autodoc-process-signature", with_its_parameters_alone)
    app.connect("autodoc-skip-member", without_numbers_of_fields)


repository = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["series"]["repository"]
project = "Inside neural networks"
html_title = project
html_use_index = html_domain_indices = False
html_static_path, html_css_files = ["_static"], ["series.css"]
author = copyright = "the authors of Inside neural networks"
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "requirements.txt"]

nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "amsmath", "html_image"]
myst_heading_anchors = 3
suppress_warnings = ["mystnb.unknown_mime_type"]

autodoc_member_order = "bysource"
autodoc_typehints = "none"
add_module_names = False  # `from utils.rules import epsilon`, wherever in that folder it is written
copybutton_exclude = ".linenos, .gp, .go"

html_theme = "sphinx_book_theme"
html_theme_options = {
    "repository_url": f"https://github.com/{repository}",
    "repository_branch": "main",
    "path_to_docs": "",
    "use_repository_button": True,
    "launch_buttons": {"colab_url": "https://colab.research.google.com"},
    "home_page_in_toc": True,
    "show_toc_level": 2,
}
