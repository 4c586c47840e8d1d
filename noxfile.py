"""What there is to run, each in an environment of its own: `nox -l` lists it, `nox -s NAME` runs one."""

import os
import pathlib

import nox

nox.options.sessions = ["lint", "tests", "docs"]
ROOT = pathlib.Path(__file__).resolve().parent
# what Colab had in August 2026; compiled packages there are not to be replaced, so the series has to run with these
COLAB = """
    tensorflow-cpu==2.20.0 keras==3.13.2 numpy==2.1.3 matplotlib==3.10.0 pillow==11.3.0 scipy==1.16.3
    scikit-image==0.25.2 scikit-learn==1.6.1 h5py==3.16.0 ipykernel==6.17.1 ipython==7.34.0
    jupyter_client==7.4.9 opencv-python-headless==4.12.0.88 protobuf==5.29.6 ml_dtypes==0.6.0 setuptools==75.2.0
""".split()
SITE = "sphinx-build -W --keep-going -q -b html docs build/site".split()


@nox.session
def tests(session):
    """Unit tests and every notebook."""
    session.install("-r", "requirements.txt")
    session.run("pytest", *session.posargs)


@nox.session
def lint(session):
    """ruff, over modules and notebooks."""
    session.install("ruff==0.17.5")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def docs(session):
    """The site, into build/site; nothing is executed, TensorFlow is not needed, a warning is an error."""
    session.install("-r", "docs/requirements.txt")
    session.run(*SITE)


@nox.session(python=["3.13", "3.12"])
def colab(session):
    """Every notebook with Colab's versions, a stand-in for google.colab, and a clone of this repository."""
    session.install(*COLAB, "pytest==8.4.2", "pytest-xdist==3.8.0", "nbval==0.11.0")
    session.run("python", "tools/check_colab.py", *session.posargs)


@nox.session
def browser(session):
    """Every notebook as nbviewer renders it, in JupyterLab, and the site, in headless Chromium."""
    session.install("-r", "requirements.txt", "-r", "docs/requirements.txt")
    session.run(*SITE)
    session.run("python", "tools/check_browser.py", "--all", *session.posargs)


@nox.session
def benchmarks(session):
    """Speed and memory, beside captum, zennit and pytorch-grad-cam."""
    session.install("-r", "requirements.txt", "torch==2.13.0", "tqdm", "click")
    session.install("--no-deps", "captum==0.9.0", "zennit==0.5.1", "grad-cam==1.5.7", "ttach==0.0.3")
    for script in ("benchmark", "benchmark_calls", "benchmark_rules", "benchmark_cam"):
        session.run("python", f"tools/{script}.py", env={"PYTHONPATH": os.fspath(ROOT)})
