import matplotlib.pyplot as plt
import pytest


@pytest.fixture(autouse=True)
def kept(monkeypatch):
    """Figures stay open after `show`, so that they can be looked at, and are closed after the test."""
    plt.switch_backend("agg")
    monkeypatch.setattr(plt, "show", lambda: None)
    yield
    plt.close("all")
