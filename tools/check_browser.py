"""Look at the notebooks as a reader does, in headless Chromium: `python tools/check_browser.py [--all]`.

- As nbviewer shows them: nbconvert's lab template, MathJax 2.7 served from here, at 1,200 and 420 pixels. Fails on a
  mathematics error, a missing picture, an output that shows only its repr, a page wider than its window, text cut off,
  a formula wider than its place, a slider that does not move its picture, or moves another's.
- In JupyterLab, on a copy: Run > Run All Cells, on three notebooks (`--all`: on all). Fails on an error, on output to
  stderr, and where no figure shows.
- The pages of the site, if it has been built (`nox -s docs`).

Screenshots go to build/screenshots. Needs chromium, node and npm (Debian's packages); packages of npm are installed
into build/browser at the first run. What is not there is said, and the check is skipped.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGES = ["playwright-core@1", "mathjax2@npm:mathjax@2.7.9", "requirejs@2.3.7"]
PACKAGES += ["mathjax4@npm:mathjax@4", "@mathjax/mathjax-newcm-font@4"]
THREE = ("0_0_start_here", "2_3_layerwise_relevance_propagation_2", "6_3_interior_gradients")  # with a slider
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True},
    "notebook-extension/tracker": {"windowingMode": "none"},  # or else cells out of sight are not drawn
}


def browser_environment(build):
    """The variables that browser.js needs, or None with a word about what is missing."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    missing = [name for name, found in (("chromium", chromium), ("node", shutil.which("node"))) if not found]
    modules = build / "browser" / "node_modules"
    if not missing and not (modules / "requirejs").exists():
        build.joinpath("browser").mkdir(parents=True, exist_ok=True)
        install = ["npm", "install", "--no-audit", "--no-fund", "--silent", "--prefix", build / "browser", *PACKAGES]
        if not shutil.which("npm") or subprocess.run(install).returncode:
            missing.append("npm, or a network to install " + " ".join(PACKAGES))
    if missing:
        print(f"SKIPPED, the browser checks: there is no {', no '.join(missing)}.")
        return None
    return os.environ | {"CHROMIUM": chromium, "NODE_PATH": str(modules)}


def run(env, *arguments):
    """Run browser.js and return the number of pages with problems, each printed."""
    command = ["node", ROOT / "tools" / "browser.js", *map(str, arguments)]
    bad = 0
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            page = json.loads(line)
            problems = page.pop("problems")
            bad += bool(problems)
            print(
                " ".join(f"{key} {value}" if key != "page" else value for key, value in page.items() if value),
                flush=True,
            )
            for problem in problems:
                print("    " + problem, flush=True)
    return bad + bool(process.returncode)


BAD_PAGE = """<body><div class="jp-OutputArea-output">&lt;IPython.core.display.Image object&gt;</div>
<span class="MathJax_Error">Undefined control sequence</span><img src="missing.png" width="9">
<pre style="width: 2000px">too wide</pre><p>$$ not set $$</p>
<div class="MathJax_Display" style="width: 9px; overflow: auto"><p style="width: 99px">x</p></div>
<div><span>0</span><input type="range" max="2">
<img src="data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAAC" width="9"></div></body>"""
FAULTS = ("repr", "mathematics:", "no picture", "page is", "cut off", "not set", "a formula is", "does not change")


def refuse_blindness(env, shots):
    """Raise unless the check sees all that is wrong with a bad page."""
    page = shots / "bad_page.html"
    page.write_text(BAD_PAGE)
    command = ["node", ROOT / "tools" / "browser.js", "pages", shots, "420", page]
    said = subprocess.run(command, env=env, capture_output=True, text=True).stdout
    if not all(fault in said for fault in FAULTS):
        raise SystemExit(f"The check is blind: of the faults {FAULTS} it says only: {said}")


def as_nbviewer(env, notebooks, shots):
    """Each notebook with nbconvert's lab template, as nbviewer has it."""
    html = ROOT / "build" / "html"
    shutil.rmtree(html, ignore_errors=True)
    command = [sys.executable, "-m", "jupyter", "nbconvert", "--to", "html", "--template", "lab", "--log-level=ERROR"]
    subprocess.run([*command, "--output-dir", html, *notebooks], check=True)
    for page in html.glob("*.html"):  # nbviewer's MathJax; nbconvert's latest.js looks for its root on the network
        text = re.sub(r"2\.7\.7/latest\.js\?config=[^\"&]*", "2.7.7/MathJax.js?config=TeX-AMS_HTML", page.read_text())
        page.write_text(text)
    shutil.copytree(ROOT / "assets", ROOT / "build" / "assets", dirs_exist_ok=True)  # ../assets, as from notebooks/
    return run(env, "pages", shots, "1200,420", *sorted(html.glob("*.html")))


def in_jupyterlab(env, notebooks, shots):
    """Each notebook in JupyterLab, on a copy of the repository, with Run All Cells."""
    copy, own = ROOT / "build" / "copy", ROOT / "build" / "jupyter"
    for folder in (copy, own):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns("build", ".git", "docs", ".nox", "__pycache__", ".venv"))
    for path in (copy / "notebooks").glob("*.ipynb"):  # without outputs: what is seen then comes from this run
        notebook = json.loads(path.read_text())
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                cell |= {"outputs": [], "execution_count": None}
        path.write_text(json.dumps(notebook))
    for name, settings in SETTINGS.items():
        path = own / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(settings))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folders = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_RUNTIME_DIR": "runtime", "JUPYTERLAB_SETTINGS_DIR": "settings"}
    folders |= {"JUPYTERLAB_WORKSPACES_DIR": "workspaces", "IPYTHONDIR": "ipython"}
    flags = ["--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0"]
    flags += [f"--ServerApp.root_dir={copy}", "--IdentityProvider.token=series", "--LabApp.extension_manager=readonly"]
    flags += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    with open(ROOT / "build" / "jupyterlab.log", "w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *flags],
            env=os.environ | {name: str(own / folder) for name, folder in folders.items()},
            stdout=log,
            stderr=log,
        )
    try:
        base = f"http://127.0.0.1:{port}"
        for _ in range(120):
            try:
                urllib.request.urlopen(f"{base}/api?token=series", timeout=2).close()
                break
            except OSError:
                time.sleep(0.5)
        return run(env, "lab", shots, base, "series", *[f"notebooks/{path.name}" for path in notebooks])
    finally:
        server.terminate()
        server.wait(30)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="all notebooks in JupyterLab, not three")
    parser.add_argument("--only", choices=("nbviewer", "jupyterlab", "site"), help="one of the three checks")
    arguments = parser.parse_args()
    env = browser_environment(ROOT / "build")
    if env is None:
        return
    shots = ROOT / "build" / "screenshots"
    shots.mkdir(parents=True, exist_ok=True)
    refuse_blindness(env, shots)
    notebooks = sorted((ROOT / "notebooks").glob("*.ipynb"))
    bad = 0
    if arguments.only in (None, "nbviewer"):
        bad += as_nbviewer(env, notebooks, shots)
    if arguments.only in (None, "jupyterlab"):
        some = [path for path in notebooks if arguments.all or path.stem in THREE]
        bad += in_jupyterlab(env, some, shots)
    site = sorted((ROOT / "build" / "site").rglob("*.html"))
    if arguments.only in (None, "site") and site:
        pages = [path for path in site if "_static" not in path.parts and "_modules" not in path.parts]
        bad += run(env, "pages", shots, "1200,420", *pages)
    raise SystemExit(f"{bad} pages have problems." if bad else 0)


if __name__ == "__main__":
    main()
