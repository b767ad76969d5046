"""A pipeline by real engines and a real learner: two branches, pairs, DPO, their mean, every claim of it recomputed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pangu_rl.checkpoint.model_folder import model_checksum
from pangu_rl.cli.app import load_stage
from pangu_rl.loops.pipeline import run_pipeline as pipeline
from pangu_rl.loops.pipeline.run_pipeline import run_pipeline
from pangu_rl.loops.pipeline.stage_identity import file_sha256
from tests.e2e import pipeline_runs, recipe_runs
from tests.small_ray import small_ray

STAGES = ("base", "branch", "pairs", "dpo")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a pipeline that has run; its evaluations are by the fake engine, whose answers no model changes."""
    folder = tmp_path_factory.mktemp("pipeline")
    model = recipe_runs.stopping_model(folder / "model")
    stages = {name: stage for name, stage in pipeline_runs.stages(folder).items() if name in STAGES}
    stages["mean"] = {"stage": "merge", "models": ["dpo", "branch"], "weights": [3, 1]}
    pipeline_runs.write_pipeline(
        folder,
        model,
        stages=stages,
        evaluate={"config": str(folder / "eval.yaml"), "set": {"rollout.engine": "fake"}},
    )
    with small_ray():
        run_pipeline(load_stage("pipeline", folder / "pipeline.yaml", []))
        yield folder


def entries(folder: Path) -> dict:
    return pipeline_runs.manifest(folder / "run")["stages"]


def model(folder: Path, stage: str) -> Path:
    return folder / "run" / entries(folder)[stage]["outputs"]["model"]["path"]


def test_outputs_are_what_the_manifest_says(finished: Path) -> None:
    for stage in ("base", "branch", "dpo", "mean"):
        assert model_checksum(model(finished, stage)) == entries(finished)[stage]["outputs"]["model"]["checksum"]
    pairs = finished / "run" / entries(finished)["pairs"]["outputs"]["pairs"]["path"]
    assert file_sha256(pairs) == entries(finished)["pairs"]["outputs"]["pairs"]["checksum"]
    assert len({model_checksum(model(finished, stage)) for stage in ("base", "branch", "dpo", "mean")}) == 4


def test_stages_started_from_what_the_others_made(finished: Path) -> None:
    made = {stage: entry["outputs"] for stage, entry in entries(finished).items()}
    taken = entries(finished)["dpo"]["inputs"]
    assert taken["model.path"] == {"from": "base.model", "checksum": made["base"]["model"]["checksum"]}
    assert taken["data.train"] == {"from": "pairs.pairs", "checksum": made["pairs"]["pairs"]["checksum"]}
    stage = json.loads((finished / "run" / "pairs" / "manifest.json").read_text())
    assert stage["made_from"]["model"]["weights"] == made["base"]["model"]["checksum"], "drawn by the right model"
    reference = json.loads((finished / "run" / "dpo" / "reference.jsonl").read_text().splitlines()[0])
    assert made["base"]["model"]["checksum"] in json.dumps(reference), "measured against the right model"


def test_nothing_is_dropped_without_a_count(finished: Path) -> None:
    counts = {stage: entry["counts"] for stage, entry in entries(finished).items()}
    assert counts["base"] == {"steps": 2, "rows": {"train": recipe_runs.QUERIES, "left_out": 0}}
    assert sum(counts["pairs"]["queries"].values()) == recipe_runs.QUERIES
    assert counts["dpo"]["rows"]["pairs"] == counts["pairs"]["queries"]["selected"] > 0
    evaluated = entries(finished)["mean"]["evaluation"]
    assert evaluated["counts"] == {"rows": {"left_out": 0, "heldout": 4, "asked": 12}}
    assert {name: part["items"] for name, part in evaluated["sets"].items()} == {"heldout": 4, "asked": 12}


def test_the_mean_is_the_naive_one(finished: Path) -> None:
    three, one, mean = (load_file(model(finished, stage) / "model.safetensors") for stage in ("dpo", "branch", "mean"))
    for name, tensor in mean.items():
        expected = (0.75 * three[name].double() + 0.25 * one[name].double()).to(tensor.dtype)
        assert torch.equal(tensor, expected), name


def test_the_table_is_that_of_the_evaluations(finished: Path) -> None:
    rows = {row["stage"]: row for row in json.loads((finished / "run" / "table.json").read_text())}
    assert list(rows) == ["start", "base", "branch", "dpo", "mean"]
    for name, row in rows.items():
        found = json.loads((finished / "run" / "evaluations" / name / "evaluations.json").read_text())
        for evaluation in found:
            figures = row["columns"][evaluation["name"]]
            assert (figures["items"], figures["right"]) == (
                len(evaluation["correct"]),
                sum(evaluation["correct"].values()),
            )


def test_the_same_command_again_starts_nothing(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("a stage was started")

    monkeypatch.setattr(pipeline, "RUNS", dict.fromkeys(pipeline.RUNS, fail))
    before = (finished / "run" / "manifest.json").read_bytes()
    run_pipeline(load_stage("pipeline", finished / "pipeline.yaml", []))
    assert (finished / "run" / "manifest.json").read_bytes() == before
