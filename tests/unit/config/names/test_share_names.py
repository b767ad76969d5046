"""Shares of files keep naming them where a configuration's paths are written anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pangu_rl.config.load import load_config
from pangu_rl.config.pipelines.graph import read_graph
from pangu_rl.config.pipelines.override_set import load_pipeline
from pangu_rl.config.pretrain import PretrainConfig
from pangu_rl.errors import ConfigError


def stage(**data: Any) -> dict[str, Any]:
    trainer = {"run_dir": "out", "steps": 1, "packs_per_step": 1}
    return {"model": {"path": "/models/m"}, "data": data, "trainer": trainer}


def test_files_beside_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`b.jsonl` lies in the working directory."""
    (tmp_path / "conf").mkdir()
    for file in ("conf/a.jsonl", "b.jsonl"):
        (tmp_path / file).write_text("")
    monkeypatch.chdir(tmp_path)
    shares = {"a.jsonl": 8, "b.jsonl": 2}
    tree = stage(train=["a.jsonl", "b.jsonl"], shares=shares, end_shares={"b.jsonl": 1, "a.jsonl": 3})
    Path("conf/stage.yaml").write_text(yaml.safe_dump(tree))
    data = load_config(PretrainConfig, "conf/stage.yaml").data
    assert data.train == ("conf/a.jsonl", "b.jsonl")
    assert data.shares == {"conf/a.jsonl": 8, "b.jsonl": 2}
    assert data.end_shares == {"b.jsonl": 1, "conf/a.jsonl": 3}
    tree = stage(train=["a.jsonl", "b.jsonl"], shares={"web": 8, "b.jsonl": 2})
    Path("conf/stage.yaml").write_text(yaml.safe_dump(tree))
    assert load_config(PretrainConfig, "conf/stage.yaml").data.shares == {"web": 8, "b.jsonl": 2}  # sources


def test_files_that_a_pipeline_has_elsewhere(tmp_path: Path) -> None:
    named = ["/data/a/web.jsonl", "/data/b"]
    tree = stage(train=named, shares=dict(zip(named, (8, 2), strict=True)))
    (tmp_path / "stage.yaml").write_text(yaml.safe_dump(tree))
    external = {
        "/data/a": {"format": "conversations", "at": "cache://few"},
        "/data/b": {"format": "conversations"},
        "/models/m": {"format": "model"},
    }
    entry = {"stage": "pretrain", "config": str(tmp_path / "stage.yaml")}
    pipeline = {"trainer": {"run_dir": "r"}, "external": external, "stages": {"a": entry}}
    (tmp_path / "pipeline.yaml").write_text(yaml.safe_dump(pipeline))
    [node] = read_graph(load_pipeline(tmp_path / "pipeline.yaml", []))
    data = node.draft().data
    assert data.train == ("cache://few/web.jsonl", "/data/b")
    assert data.shares == {"cache://few/web.jsonl": 8, "/data/b": 2}


@pytest.mark.parametrize("data", [3, {"train": {"a": 1}}, {"train": [["a"]]}, {"train": ["a"], "shares": 3}])
def test_a_tree_of_another_shape_is_left_to_the_schema(tmp_path: Path, data: Any) -> None:
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(stage() | {"data": data}))
    with pytest.raises(ConfigError, match=r"x\.yaml: data"):
        load_config(PretrainConfig, tmp_path / "x.yaml")
