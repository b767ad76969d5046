"""The files that a configuration names: looked for by `config check`, and sent with a job."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pangu_rl.cluster.left_behind import left_behind
from pangu_rl.config.assemble import AssembleConfig
from pangu_rl.config.load import load_config
from pangu_rl.config.names.named_files import missing_files, named_files, travelling
from pangu_rl.config.stages import GrpoConfig
from pangu_rl.config.vision import VisionStageConfig
from pangu_rl.errors import ConfigError


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
    assert sorted(travelling(config())) == ["a/dataset_info.json#x", "my/r.py", "pics", "s.yaml", "t.jinja"]


def test_a_stage_of_the_tower_has_a_shape_that_is_no_folder() -> None:
    """And an assembly one that is; regions are a file."""
    tree = {"model": {"path": "m"}, "data": {"train": "r", "media_root": "p"}, "classes": 9, "labels": 2}
    tree |= {"cascade": [{"edge": 28, "epochs": 1}], "regions": {"file": "b.arrow"}, "trainer": {"run_dir": "out"}}
    found = named_files(VisionStageConfig.model_validate(tree))
    assert found == {"model.path": "m", "data.train": "r", "data.media_root": "p", "regions.file": "b.arrow"}
    parts = AssembleConfig.model_validate({"shape": "s", "tokenizer": "t", "trainer": {"run_dir": "out"}})
    assert named_files(parts) == {"shape": "s", "tokenizer": "t"}


def test_missing_ones_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "dataset_info.json").write_text("{}")
    (tmp_path / "t.jinja").write_text("")
    missing = missing_files(config())
    assert "data.heldout /abs/h.jsonl" in missing
    assert "start.sft_config s.yaml" in missing
    assert not [line for line in missing if line.startswith(("data.train", "model.chat_template"))]
    pasted = {"path": "m", "chat_template": "{{ messages }}" * 50}
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(config(model=pasted).model_dump(mode="json")))
    assert f"model.chat_template {pasted['chat_template']}" in missing_files(load_config(GrpoConfig, "x.yaml"))


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


def test_paths_lie_in_the_working_directory_or_beside_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`t.jinja` lies in both and is the working directory's, `a/` and the reward beside the configuration alone, the
    pictures nowhere."""
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there / "a", there / "my"):
        folder.mkdir(parents=True)
    for file in (here / "t.jinja", there / "t.jinja", there / "a" / "dataset_info.json", there / "my" / "r.py"):
        file.write_text("{}")
    (there / "x.yaml").write_text(yaml.safe_dump(config().model_dump(mode="json")))
    monkeypatch.chdir(here)
    found = load_config(GrpoConfig, "../there/x.yaml")
    assert found.model.chat_template == "t.jinja"
    assert found.data.train == "../there/a/dataset_info.json#x"
    assert found.rewards.functions[1].name == "../there/my/r.py:f"
    assert found.data.media_root == "pics"
    assert found.trainer.run_dir == "out"


@pytest.mark.parametrize("rewards", [3, {"functions": 3}, {"functions": [3, {"name": 3}]}])
def test_a_tree_of_another_shape_is_left_to_the_schema(tmp_path: Path, rewards: object) -> None:
    (tmp_path / "x.yaml").write_text(yaml.safe_dump({"model": 3, "data": {"also": [3], "sets": 3}, "rewards": rewards}))
    with pytest.raises(ConfigError, match=r"x\.yaml"):
        load_config(GrpoConfig, tmp_path / "x.yaml")
