"""The files that a configuration names: looked for by `config check`, and sent with a job."""

from __future__ import annotations

from pathlib import Path

import pytest

from pangu_rl.cluster.left_behind import left_behind
from pangu_rl.config.named_files import missing_files, named_files, travelling
from pangu_rl.config.stages import GrpoConfig


def config(**sections: dict) -> GrpoConfig:
    tree = {
        "model": {"path": "cache://models/m", "chat_template": "t.jinja"},
        "data": {"train": "a/dataset_info.json#x", "heldout": "/abs/h.jsonl", "media_root": "pics"},
        "rewards": {"functions": [{"name": "boxed_accuracy"}, {"name": "my/r.py:f"}]},
        "start": {"sft_config": "s.yaml"},
        "trainer": {"run_dir": "out", "steps": 1},
    }
    return GrpoConfig.model_validate(tree | sections)


def test_every_file_by_its_key_and_no_output() -> None:
    assert named_files(config()) == {
        "model.path": "cache://models/m",
        "model.chat_template": "t.jinja",
        "data.train": "a/dataset_info.json#x",
        "data.heldout": "/abs/h.jsonl",
        "data.media_root": "pics",
        "start.sft_config": "s.yaml",
        "rewards.functions.1.name": "my/r.py",
    }
    assert travelling(config()) == ["t.jinja", "a/dataset_info.json#x", "pics", "s.yaml", "my/r.py"]


def test_missing_ones_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "dataset_info.json").write_text("{}")
    (tmp_path / "t.jinja").write_text("")
    missing = missing_files(config())
    assert "data.heldout /abs/h.jsonl" in missing
    assert "start.sft_config s.yaml" in missing
    assert not [line for line in missing if line.startswith(("data.train", "model.chat_template"))]


def test_what_does_not_travel(tmp_path: Path) -> None:
    """Ignored at any depth, or excluded, by patterns of either kind."""
    for name in ("configs/runs/a.yaml", "runs/b.yaml", "secret/c.yaml", "data/d.jsonl", "e.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / ".gitignore").write_text("secret/\n*.jsonl\n")
    needed = ["configs/runs/a.yaml", "runs/b.yaml", "secret/c.yaml", "data/d.jsonl", "e.yaml", "gone.yaml"]
    assert left_behind(tmp_path, needed, ["/runs"]) == ["runs/b.yaml", "secret/c.yaml", "data/d.jsonl"]
    assert left_behind(tmp_path, needed[:2], ["runs"]) == needed[:2]
    assert left_behind(tmp_path, ["e.yaml"], []) == []
