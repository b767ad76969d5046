"""The quickstart's notebook, its cells run one after the other on the two-layer model in place of SmolLM2."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e import runs

pytestmark = pytest.mark.slow


def test_the_notebook_runs_in_miniature(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the configuration's name and overrides are others; cells share one namespace, as in a notebook."""
    config = runs.write_config(tmp_path, tiny_model, monitoring={"tensorboard": False, "live": False})
    monkeypatch.chdir(tmp_path)
    cells = json.loads((runs.REPO / "examples/notebooks/quickstart.ipynb").read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    names: dict = {}
    for cell in code:
        cell = cell.replace('"quickstart/grpo_text"', repr(str(config)))
        cell = cell.replace('"trainer.steps=3", "data.heldout_limit=16"', '"trainer.steps=2"')
        exec(compile(cell, "quickstart.ipynb", "exec"), names)
    assert names["config"].trainer.steps == 2
    assert list(names["metrics"].index) == [1, 2]
    assert len(names["answers"]) == 2 * 2 * 4
    assert (tmp_path / "runs/notebook/latest/hf/config.json").is_file()
