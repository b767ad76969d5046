"""What decides a stage: every file that its configuration names, wherever it stands, by content."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from pangu_rl.config.load import load_config
from pangu_rl.config.pipelines.node import Node, Source
from pangu_rl.config.pretrain import PretrainConfig
from pangu_rl.config.sampling import PairsConfig
from pangu_rl.errors import DataError
from pangu_rl.loops.pipeline import stage_identity
from pangu_rl.loops.pipeline.stage_identity import identity, settings_hash
from tests.unit.data.vl_folder import draw


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"weights")
    draw(tmp_path / "media" / "a.png", 28, 28, seed=0)
    row = {"id": "q", "prompt": "What is it?", "answer": "1", "images": ["a.png"]}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "more.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "reward.py").write_text("def f(): ...")
    (tmp_path / "panel.yaml").write_text("scorers: []")
    return tmp_path


def pairs(folder: Path, **sections: Any) -> PairsConfig:
    tree = {
        "model": {"path": str(folder / "model")},
        "data": {"queries": str(folder / "rows.jsonl"), "media_root": str(folder / "media")},
        "rewards": {
            "functions": [
                {"name": f"{folder}/reward.py:f"},
                {"name": "llm_score", "args": {"config": str(folder / "panel.yaml")}},
            ]
        },
        "trainer": {"run_dir": "r"},
    }
    (folder / "pairs.yaml").write_text(yaml.safe_dump(tree | sections))
    return load_config(PairsConfig, folder / "pairs.yaml")


def of(config: Any, **takes: Source) -> dict[str, Any]:
    """The identity in a fresh process."""
    for kept in (stage_identity.folder_checksum, stage_identity.file_sha256, stage_identity._pictures_of):
        kept.cache_clear()
    return identity(Node(name="n", stage="pairs", takes=takes), config)


@pytest.mark.parametrize("file", ["rows.jsonl", "media/a.png", "reward.py", "panel.yaml", "model/model.safetensors"])
def test_every_named_file_counts_by_its_content(folder: Path, file: str) -> None:
    before = of(pairs(folder))
    assert of(pairs(folder)) == before
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content + b"\n")
    after = of(pairs(folder))
    assert after != before
    assert after["config"] == before["config"], "the settings are the same"
    (folder / file).write_bytes(content)
    assert of(pairs(folder)) == before


def test_files_stand_under_the_keys_that_name_them(folder: Path) -> None:
    found = of(pairs(folder))
    assert set(found["data"]) == {
        "data.queries",
        "pictures",
        "rewards.functions.0.name",
        "rewards.functions.1.args.config",
    }
    assert found["inputs"]["model.path"]["path"] == str(folder / "model")
    assert "path" not in found["config"]["model"], "its checksum stands for it"


def test_settings_that_only_say_where_and_how_fast_do_not_count(folder: Path) -> None:
    before = of(pairs(folder))
    same = pairs(
        folder,
        trainer={"run_dir": "elsewhere", "stall_s": 5},
        rollout={"actors": 2},
        monitoring={"live": False},
        cluster={"address": "auto"},
    )
    assert settings_hash(of(same)) == settings_hash(before)
    assert of(pairs(folder, trainer={"run_dir": "r", "seed": 1})) != before
    assert of(pairs(folder, rollout={"temperature": 0.5})) != before


def test_what_is_taken_counts_by_the_stage_it_comes_from(folder: Path) -> None:
    config = pairs(folder, data={"queries": "a.rows"})
    found = of(config, **{"data.queries": Source("a", "prompts")})
    assert found["inputs"]["data.queries"] == {"from": "a.prompts"}
    assert "queries" not in found["config"]["data"]


def test_every_file_of_a_list_counts_and_must_be_there(folder: Path) -> None:
    def stage(*names: str) -> PretrainConfig:
        tree = {
            "model": {"path": str(folder / "model")},
            "data": {"train": [str(folder / name) for name in names]},
            "trainer": {"run_dir": "r", "steps": 1, "packs_per_step": 1},
        }
        (folder / "pretrain.yaml").write_text(yaml.safe_dump(tree))
        return load_config(PretrainConfig, folder / "pretrain.yaml")

    assert set(of(stage("rows.jsonl", "more.jsonl"))["data"]) == {"data.train.0", "data.train.1"}
    with pytest.raises(DataError, match=r"n: data.train.1 .*gone.jsonl: no such file"):
        of(stage("rows.jsonl", "gone.jsonl"))


def test_a_missing_model_is_one_line(folder: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        of(pairs(folder, model={"path": str(folder / "none")}))


def test_other_texts_are_settings_whatever_they_look_like(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address of the web, a text too long for a name, and the working directory itself."""
    monkeypatch.chdir(folder)
    args = {"url": "http://judge:8000/score", "rubric": "Be fair. " * 99, "marks": [".", "/"], "near": "more.jsonl"}
    before = of(pairs(folder, rewards={"functions": [{"name": "graded", "args": args}]}))
    assert set(before["data"]) == {"data.queries", "pictures"}
    assert before["config"]["rewards"]["functions"][0]["args"] == args
    (folder / "more.jsonl").write_text("other")
    assert of(pairs(folder, rewards={"functions": [{"name": "graded", "args": args}]})) == before


def test_a_folder_without_a_dot_or_slash_counts_by_its_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (folder / "rows").mkdir()
    (folder / "rows.jsonl").rename(folder / "rows" / "a.jsonl")
    before = of(pairs(folder, data={"queries": "rows"}))
    (folder / "rows" / "b.jsonl").write_text("{}")
    assert of(pairs(folder, data={"queries": "rows"}))["data"] != before["data"]


def test_an_entry_of_a_dataset_info_counts_with_the_file_that_it_names(folder: Path) -> None:
    (folder / "dataset_info.json").write_text(json.dumps({"x": {"file_name": "rows.jsonl"}}))
    data = {"queries": f"{folder}/dataset_info.json#x", "media_root": str(folder / "media")}
    before = of(pairs(folder, data=data))
    assert before["data"]["pictures"] == of(pairs(folder))["data"]["pictures"]
    (folder / "rows.jsonl").write_text("{}\n")
    assert of(pairs(folder, data=data))["data"]["data.queries"] != before["data"]["data.queries"]
    (folder / "rows.jsonl").unlink()
    with pytest.raises(DataError, match=r"n: data.queries .*#x: no such file as .*rows.jsonl"):
        of(pairs(folder, data=data))
