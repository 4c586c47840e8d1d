"""Set the address of the repository everywhere: `python tools/set_repository.py OWNER/NAME`.

The address stands in pyproject.toml ([tool.series] repository). This command writes a new one there
and into every badge, set-up cell and link that holds the old one; without an argument it prints the present one.
"""

import os
import pathlib
import re
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[1]


def repository(root=ROOT):
    """The repository's address, OWNER/NAME, as pyproject.toml has it."""
    return tomllib.loads((root / "pyproject.toml").read_text())["tool"]["series"]["repository"]


def files(root=ROOT):
    """The files that may hold the address."""
    return [root / "pyproject.toml", root / "README.md", root / "CITATION.cff", *sorted(root.glob("notebooks/*.ipynb"))]


def set_repository(new, root=ROOT):
    """Replace the address in all `files`; return the names of those that changed."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", new):
        raise SystemExit(f"Expected an address such as OWNER/NAME. Received: {new!r}.")
    old, changed = repository(root), []
    for path in files(root):
        text = path.read_text()
        replaced = re.sub(rf"{re.escape(old)}(?![\w-])", new, text)
        if replaced != text:
            scratch = path.with_name(path.name + ".tmp")
            scratch.write_text(replaced)
            os.replace(scratch, path)
            changed.append(path.name)
    return changed


def main():
    if len(sys.argv) == 1:
        print(repository())
    else:
        print("changed:", ", ".join(set_repository(sys.argv[1])) or "nothing")


if __name__ == "__main__":
    main()
