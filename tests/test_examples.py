"""The example notebook: its cells run, and in full they reach the Dice that the text promises."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install ndvol[torch]")

NOTEBOOK = Path(__file__).parents[1] / "docs" / "examples" / "train_unet.ipynb"
CELLS = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


def run_notebook(**changed):
    """The names that the notebook's cells leave, run in order with other values of some constants."""
    names: dict[str, object] = {}
    try:
        for cell in CELLS:
            if cell["cell_type"] == "code":
                exec("".join(cell["source"]), names)
                names |= {name: value for name, value in changed.items() if name in names}
    finally:
        if "scratch" in names:
            names["scratch"].cleanup()
    return names


@pytest.fixture
def one_thread(monkeypatch):
    """Threads of torch that wait for each other are slow where other tests run beside them."""
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "set_num_threads", lambda count: None)
        yield
    torch.set_num_threads(count)


@pytest.mark.usefixtures("one_thread")
def test_the_notebook_runs():
    names = run_notebook(CASES=3, STEPS=2, SHAPE=(16, 40, 40), WINDOW=(8, 16, 16))
    assert len(names["losses"]) == 2
    assert [*names["train"], *names["held_out"]] == ["toy-0", "toy-1", "toy-2"]
    assert names["found"].shape == names["wanted"].shape == names["grid"].shape
    assert set(names["dice"]) == {(case, name) for case in ("toy-1", "toy-2") for name in ("liver", "lesion")}
    assert all(volume.grid.matches(names["grid"]) for volume in names["predicted"].values())


@pytest.mark.slow
def test_the_notebook_reaches_its_dice():
    assert min(run_notebook()["dice"].values()) > 0.8


def test_the_notebook_shows_what_it_made():
    outputs = [output for cell in CELLS for output in cell.get("outputs", [])]
    texts = "".join("".join(output.get("text", ())) for output in outputs)
    shown = [float(line.split()[-1]) for line in texts.splitlines() if "Dice" in line]
    assert len(shown) == 4
    assert min(shown) > 0.8
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    assert NOTEBOOK.stat().st_size < 300_000
    assert not [path for path in ("/tmp", "/home", "/root", "/work") if path in NOTEBOOK.read_text(encoding="utf-8")]
