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

# the docstrings are read without TensorFlow: stand-ins take its place while the modules are imported
with mock(["tensorflow", "keras"]):
    importlib.import_module("keras").backend = types.SimpleNamespace(backend=lambda: "tensorflow")
    for module in [*(ROOT / "utils").glob("*.py"), *(ROOT / "models").glob("*.py")]:
        importlib.import_module(f"{module.parent.name}.{module.stem}".removesuffix(".__init__"))

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
