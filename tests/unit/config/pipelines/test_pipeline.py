"""A pipeline's graph: its order, what each stage is run with, and one line for everything that cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pangu_rl.config.load import dump_config, load_config
from pangu_rl.config.pipelines.graph import dependents, read_graph, start_models
from pangu_rl.config.pipelines.node import Node, Source
from pangu_rl.config.pipelines.pipeline import PipelineConfig
from pangu_rl.errors import ConfigError

FILES: dict[str, dict[str, Any]] = {
    "sft": {"model": {"path": "m"}, "data": {"train": "t"}, "trainer": {"steps": 9}},
    "pairs": {"model": {"path": "m"}, "data": {"queries": "q"}},
    "dpo": {"model": {"path": "m"}, "data": {"train": "t"}, "trainer": {"steps": 9}},
    "grpo": {"model": {"path": "m"}, "data": {"train": "t"}, "trainer": {"steps": 9, "prompts_per_step": 2}},
    "eval": {"model": {"path": "m"}, "data": {"sets": {"all": "h"}}},
}
SHORT = {"max_prompt_tokens": 10}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, tree in FILES.items():
        tree = tree | {"trainer": {"run_dir": "anywhere"} | tree.get("trainer", {})}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(tree))
    return tmp_path


def stage(folder: Path, kind: str, takes: dict[str, str] | None = None, **change: Any) -> dict[str, Any]:
    return {"stage": kind, "config": str(folder / f"{kind}.yaml"), "takes": takes or {}, "set": change}


def write(folder: Path, stages: dict[str, Any], **sections: Any) -> Path:
    path = folder / "pipeline.yaml"
    path.write_text(yaml.safe_dump({"trainer": {"run_dir": "r"}, "stages": stages} | sections, sort_keys=False))
    return path


def graph(path: Path, *overrides: str) -> list[Node]:
    return read_graph(load_config(PipelineConfig, path, overrides))


def complaint(path: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        graph(path, *overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def recipe(folder: Path) -> dict[str, Any]:
    """The stages are listed backwards: what they take decides, not where they stand."""
    return {
        "mean": {"stage": "merge", "models": ["sft", "dpo"]},
        "dpo": stage(folder, "dpo", {"model.path": "sft.model", "data.train": "pairs.pairs"}),
        "pairs": stage(folder, "pairs", {"model.path": "sft.model"}),
        "sft": stage(folder, "sft"),
    }


def test_stages_run_when_what_they_take_is_there_else_in_the_order_of_the_file(folder):
    assert [node.name for node in graph(write(folder, recipe(folder)))] == ["sft", "pairs", "dpo", "mean"]
    branches = {name: stage(folder, "sft", {"model.path": "root.model"}) for name in ("b", "a", "c")}
    nodes = graph(write(folder, {**branches, "root": stage(folder, "sft")}))
    assert [node.name for node in nodes] == ["root", "b", "a", "c"]


def test_every_model_is_evaluated_after_its_stage_and_the_start_before_all(folder):
    nodes = graph(write(folder, recipe(folder), evaluate={"config": str(folder / "eval.yaml")}))
    assert [node.name for node in nodes] == [
        "evaluations/start",
        "sft",
        "evaluations/sft",
        "pairs",
        "dpo",
        "evaluations/dpo",
        "mean",
        "evaluations/mean",
    ]
    by_name = {node.name: node for node in nodes}
    assert by_name["evaluations/start"].draft().model.path == "m"
    assert by_name["evaluations/dpo"].takes == {"model.path": Source("dpo", "model")}


def test_a_stage_is_its_file_then_the_pipeline_then_what_it_sets_and_takes(folder):
    stages = {
        "sft": stage(folder, "sft", **{"learner.optimizer.lr": 2e-5, "trainer": {"seed": 8}, "data.shuffle": False}),
        "dpo": stage(folder, "dpo", {"model.path": "sft.model"}),
    }
    path = write(folder, stages, cluster={"address": "auto"}, trainer={"run_dir": "r", "seed": 5})
    sft, dpo = graph(path)
    config = sft.config({"trainer.run_dir": "here"})
    assert (config.learner.optimizer.lr, config.trainer.seed, config.data.shuffle) == (2e-5, 8, False)
    assert (config.trainer.steps, config.trainer.run_dir, config.cluster.address) == (9, "here", "auto")
    taken = dpo.config({"trainer.run_dir": "there", "model.path": "/made"})
    assert (taken.model.path, taken.trainer.seed, taken.data.train) == ("/made", 5, "t")
    assert sft.config({"trainer.run_dir": "here"}).model.path == "m", "a configuration of one node changed another"


def test_an_override_reaches_into_a_stage(folder):
    stages = recipe(folder)
    stages["sft"]["set"] = {"trainer.steps": 5, "trainer": {"seed": 1}}
    overrides = [
        "stages.sft.set.trainer.steps=4",
        "stages.pairs.set.data.limit=7",
        "stages.dpo.takes.data.train=a.pairs",
    ]
    nodes = graph(write(folder, {**stages, "a": stage(folder, "pairs")}), *overrides)
    by_name = {node.name: node for node in nodes}
    assert by_name["sft"].draft().trainer.steps == 4
    assert by_name["sft"].draft().trainer.seed == 1
    assert by_name["pairs"].draft().data.limit == 7
    assert by_name["dpo"].takes["data.train"] == Source("a", "pairs")


def test_steps_cap_every_stage_and_raise_none(folder):
    stages = {**recipe(folder), "one": stage(folder, "sft", **{"trainer.steps": 1})}
    nodes = graph(write(folder, stages), "trainer.steps=2")
    steps = {node.name: node.draft().trainer.steps for node in nodes if node.stage != "merge"}
    assert steps == {"sft": 2, "pairs": 2, "dpo": 2, "one": 1}


def test_the_pipeline_survives_a_round_trip(folder, tmp_path):
    config = load_config(PipelineConfig, write(folder, recipe(folder), evaluate={"config": str(folder / "eval.yaml")}))
    (tmp_path / "again.yaml").write_text(dump_config(config))
    again = load_config(PipelineConfig, tmp_path / "again.yaml")
    assert again == config
    assert read_graph(again) == read_graph(config)


def test_what_depends_on_a_stage(folder):
    nodes = graph(write(folder, recipe(folder), evaluate={"config": str(folder / "eval.yaml")}))
    assert [node.name for node in dependents(nodes, "pairs")] == ["pairs", "dpo", "evaluations/dpo", *MEAN]
    assert [node.name for node in dependents(nodes, "mean")] == MEAN
    assert all(node.stage == "eval" for node in dependents(nodes, "evaluate"))
    assert len(dependents(nodes, "evaluate")) == 4
    with pytest.raises(ConfigError, match="no stage 'pars' in the pipeline: did you mean pairs"):
        dependents(nodes, "pars")


MEAN = ["mean", "evaluations/mean"]


def test_starts_are_named_by_their_stages_where_there_are_several(folder):
    stages = {"a": stage(folder, "sft"), "b": stage(folder, "sft", **{"model.path": "other"})}
    assert start_models(graph(write(folder, {"a": stages["a"]}))) == {"start": "m"}
    assert start_models(graph(write(folder, stages))) == {"start_of_a": "m", "start_of_b": "other"}


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("pairs", {"takes": {"model.path": "stf.model"}}, "stages.pairs takes stf.model: no stage 'stf': did you mean"),
        ("pairs", {"takes": {"model.path": "dpo"}}, "no stage ''"),
        ("dpo", {"takes": {"data.train": "pairs.rows"}}, "stages.dpo takes pairs.rows: pairs makes pairs"),
        ("dpo", {"takes": {"data.train": "sft.model"}}, "a model goes to model.path"),
        ("dpo", {"takes": {"model.path": "pairs.pairs"}}, "model.path takes pairs.pairs (pairs), and reads model"),
        ("dpo", {"takes": {"trainer.run_dir": "sft.model"}}, "trainer.run_dir takes sft.model (model), and takes noth"),
        ("dpo", {"takes": {"data.trian": "pairs.pairs"}}, "dpo (dpo): unknown key data.trian: did you mean train?"),
        ("dpo", {"set": {"learner.optimiser.lr": 1}}, "dpo (dpo): unknown key learner.optimiser: did you mean"),
        ("dpo", {"set": {"trainer.steps": 0}}, "trainer.steps is 0"),
        ("dpo", {"config": "/nowhere.yaml"}, "/nowhere.yaml: no such configuration file"),
        ("dpo", {"config": None}, "a dpo stage needs config"),
        ("dpo", {"models": ["sft"]}, "models, steps and weights belong to a merge"),
        ("dpo", {"stage": "ppo"}, "stages.dpo.stage is 'ppo'"),
        ("dpo", {"tekes": {}}, "unknown key stages.dpo.tekes: did you mean takes?"),
        ("mean", {"models": ["sft"]}, "a merge needs two models or more"),
        ("mean", {"models": ["sft", "pairs"]}, "stages.mean takes pairs.model: pairs makes pairs"),
        ("mean", {"weights": [1, 2, 3]}, "3 weights for 2 models"),
        ("mean", {"set": {"a": 1}}, "remove config, set and takes"),
    ],
)
def test_a_stage_that_cannot_be_is_one_line(folder, name, change, says):
    stages = recipe(folder)
    stages[name] = stages[name] | change
    assert says in complaint(write(folder, stages))


def test_a_mean_over_steps_keeps_them(folder):
    """Two checkpoints of one run and two of another, in the order of models and then of steps."""
    stages = {
        "a": stage(folder, "sft", **{"trainer.keep_steps": [1]}),
        "b": stage(folder, "sft"),
        "mean": {"stage": "merge", "models": ["a", "b"], "steps": [3, 9], "weights": [1, 2, 3, 4]},
        "dpo": stage(folder, "dpo", {"model.path": "b.step_5"}),
    }
    by_name = {node.name: node for node in graph(write(folder, stages))}
    assert list(map(str, by_name["mean"].takes.values())) == ["a.step_3", "a.step_9", "b.step_3", "b.step_9"]
    assert (by_name["a"].steps, by_name["b"].steps) == ((3, 9), (3, 5, 9))
    assert by_name["a"].draft().trainer.keep_steps == (1, 3, 9)
    assert by_name["b"].draft().trainer.keep_steps == (3, 5, 9)
    assert by_name["mean"].parents == ["a", "b"]
    stages["mean"]["steps"] = [3, 10]
    assert "keep_steps has 10 and the stage ends after 9 steps" in complaint(write(folder, stages))
    stages["mean"] |= {"steps": [3], "models": ["a"], "weights": None}
    assert "a merge needs two models or more" in complaint(write(folder, stages))


def test_an_evaluation_as_a_stage_is_none_of_the_pipelines_own(folder):
    stages = {"sft": stage(folder, "sft"), "grid": stage(folder, "eval", {"model.path": "sft.model"})}
    nodes = graph(write(folder, stages, evaluate={"config": str(folder / "eval.yaml")}))
    assert [(node.name, node.is_evaluation) for node in nodes][1:] == [
        ("sft", False),
        ("evaluations/sft", True),
        ("grid", False),
    ]
    assert [node.name for node in dependents(nodes, "grid")] == ["grid"]
    assert "stages.dpo takes grid.model: grid makes nothing" in complaint(
        write(folder, {**stages, "dpo": stage(folder, "dpo", {"model.path": "grid.model"})})
    )


def test_parts_of_a_model_come_from_stages(folder):
    tree = {"shape": "s", "tokenizer": "t", "trainer": {"run_dir": "anywhere"}}
    (folder / "assemble.yaml").write_text(yaml.safe_dump(tree))
    stages = {
        "joined": stage(folder, "assemble", {"encoder": "sft.model"}),
        "sft": stage(folder, "sft"),
        "after": stage(folder, "sft", {"model.path": "joined.model"}),
    }
    nodes = graph(write(folder, stages, trainer={"run_dir": "r", "seed": 5}))
    assert [node.name for node in nodes] == ["sft", "joined", "after"]
    assert (nodes[1].draft().encoder, nodes[1].draft().trainer.seed) == ("sft.model", 5)
    assert start_models(nodes) == {"start": "m"}


def test_stages_that_wait_for_each_other(folder):
    stages = recipe(folder)
    stages["sft"]["takes"] = {"model.path": "mean.model"}
    assert "in a circle: " in complaint(write(folder, stages))
    stages["sft"]["takes"] = {"model.path": "sft.model"}
    assert "in a circle: sft -> sft" in complaint(write(folder, stages))


def test_a_stage_named_twice_is_refused_by_the_reader(folder):
    path = write(folder, {"sft": stage(folder, "sft")})
    path.write_text(path.read_text() + "  sft: {stage: merge}\n")
    assert "key sft stands twice" in complaint(path)


@pytest.mark.parametrize("name", ["start", "evaluations", "a/b", "..", ""])
def test_names_are_folders(folder, name):
    assert "cannot name a stage" in complaint(write(folder, {name: stage(folder, "sft")}))


def test_an_sft_start_inside_of_grpo_is_no_stage(folder):
    change = {"data": SHORT, "rollout": {"max_new_tokens": 5, "max_model_tokens": 20}}
    stages = {"grpo": stage(folder, "grpo", start={"sft_config": "s.yaml"}, **change)}
    assert "make it a stage, and set start: null" in complaint(write(folder, stages))
    stages["grpo"]["set"]["start"] = None
    assert [node.name for node in graph(write(folder, stages))] == ["grpo"]
