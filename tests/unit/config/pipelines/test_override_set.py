"""An override set over a pipeline: which layer wins, whole values, paths, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pangu_rl.config.load import checked
from pangu_rl.config.pipelines.graph import read_graph
from pangu_rl.config.pipelines.override_set import OverrideSet, load_pipeline, with_overrides
from pangu_rl.config.pipelines.pipeline import PipelineConfig
from pangu_rl.errors import ConfigError

TREE = {
    "trainer": {"run_dir": "r", "seed": 0},
    "external": {"/data/a": {"format": "conversations"}},
    "stages": {
        "a": {
            "stage": "sft",
            "config": "sft.yaml",
            "set": {"trainer": {"steps": 9}, "data": {"shares": {"x": 1, "y": 2}}},
        },
        "b": {"stage": "sft", "config": "sft.yaml"},
        "mean": {"stage": "merge", "models": ["a"], "steps": [8, 9]},
    },
    "evaluate": {"config": "eval.yaml"},
}


def laid(**overrides: Any) -> dict[str, Any]:
    return with_overrides(TREE, checked(OverrideSet, overrides, "test"))


def test_a_stage_goes_before_its_kind_and_a_kind_before_the_file() -> None:
    found = laid(
        kinds={"sft": {"trainer.steps": 3, "learner": {"ranks": 1}}}, stages={"b": {"set": {"learner.ranks": 2}}}
    )
    assert found["stages"]["a"]["set"] == {
        "data.shares.x": 1,
        "data.shares.y": 2,
        "trainer.steps": 3,
        "learner.ranks": 1,
    }
    assert found["stages"]["b"]["set"] == {"trainer.steps": 3, "learner.ranks": 2}
    assert TREE["stages"]["a"]["set"]["trainer"]["steps"] == 9, "the tree itself changed"


def test_entries_of_stages_and_sections_of_the_pipeline() -> None:
    found = laid(
        stages={"mean": {"steps": [1, 2]}, "b": {"takes": {"model.path": "a.model"}}},
        pipeline={"trainer": {"run_dir": "s"}, "external": {"/data/a": {"at": "here"}}, "evaluate": None},
    )
    assert found["stages"]["mean"] == {"stage": "merge", "models": ["a"], "steps": [1, 2]}
    assert found["stages"]["b"]["takes"] == {"model.path": "a.model"}
    assert found["trainer"] == {"run_dir": "s", "seed": 0}
    assert found["external"]["/data/a"] == {"format": "conversations", "at": "here"}
    assert found["evaluate"] is None


def test_the_evaluation_is_of_the_kind_eval() -> None:
    assert laid(kinds={"eval": {"data.limit": 4}})["evaluate"] == {"config": "eval.yaml", "set": {"data.limit": 4}}


def test_a_whole_mapping_is_replaced_by_an_empty_one_first() -> None:
    """What is said last is set last: the shares of the file go, then one comes."""
    found = laid(kinds={"sft": {"data.shares": {}, "data.shares.z": 5}})["stages"]["a"]["set"]
    assert list(found)[-2:] == ["data.shares", "data.shares.z"]


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"stages": {"c": {}}}, "the override set names the stage 'c', the pipeline has none: there are a, b, mean"),
        ({"stages": {"meen": {}}}, "did you mean mean"),
        ({"pipeline": {"stages": {"a": {}}}}, "write them under stages, by name"),
        ({"kinds": {"stf": {}}}, "kinds.stf"),
        ({"kind": {}}, "unknown key kind: did you mean kinds?"),
    ],
)
def test_what_it_refuses(overrides: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        laid(**overrides)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("tree", "says"),
    [
        ({"stages": {"a": None}}, "stages.a is empty: is to be a section"),
        ({"stages": {"a": "sft"}}, "stages.a is 'sft': is to be a section"),
        ({"stages": ["a"]}, "stages is ['a']"),
        ({"stages": {"a": {"stage": ["sft"]}}}, "stages.a.stage is ['sft']"),
        ({"stages": {"a": {"stage": "sft", "config": "x", "set": "lr"}}}, "stages.a.set is 'lr'"),
        ({"stages": {"a": {"stage": "sft", "config": "x"}}, "evaluate": 3}, "evaluate is 3"),
    ],
)
def test_a_pipeline_of_another_shape_is_left_to_the_schema(tree: dict[str, Any], says: str) -> None:
    overrides = {"kinds": {"sft": {"trainer.steps": 3}, "eval": {"stop": ["x"]}}}
    if isinstance(tree["stages"], dict):
        overrides["stages"] = {"a": {"set": {"trainer.seed": 1}}}
    with pytest.raises(ConfigError) as caught:
        checked(PipelineConfig, with_overrides(TREE | tree, checked(OverrideSet, overrides, "test")), "test")
    assert says in str(caught.value)


def test_the_command_line_goes_before_the_set_and_paths_lie_elsewhere(tmp_path: Path) -> None:
    sft = {
        "model": {"path": "/models/m"},
        "data": {"train": "/data/a/rows.jsonl"},
        "trainer": {"run_dir": "x", "steps": 1},
    }
    (tmp_path / "sft.yaml").write_text(yaml.safe_dump(sft))
    entry = {"stage": "sft", "config": str(tmp_path / "sft.yaml")}
    external = {"/data/a": {"format": "conversations"}, "/models/m": {"format": "model"}}
    tree = {"trainer": {"run_dir": "r"}, "external": external, "stages": {"a": entry}}
    (tmp_path / "pipeline.yaml").write_text(yaml.safe_dump(tree))
    over = {"pipeline": {"external": {"/data/a": {"at": "cache://few"}}}, "kinds": {"sft": {"trainer.steps": 3}}}
    (tmp_path / "over.yaml").write_text(yaml.safe_dump(over))
    config = load_pipeline(tmp_path / "pipeline.yaml", ["stages.a.set.trainer.steps=4"], tmp_path / "over.yaml")
    [node] = read_graph(config)
    draft = node.draft()
    assert (draft.data.train, draft.model.path, draft.trainer.steps) == ("cache://few/rows.jsonl", "/models/m", 4)
