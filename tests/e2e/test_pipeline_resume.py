"""A pipeline that is killed in the middle of every stage ends with the manifest of one that was not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e import pipeline_runs, recipe_runs, runs
from tests.e2e.test_recipe_resume import logged

pytestmark = pytest.mark.slow


def moments(run_dir: Path) -> dict[str, Callable[[], bool]]:
    """Stage -> when it is in its middle: after its first step, shard, or sign of life."""
    samples = run_dir / "round" / "round_001" / "samples" / "rollouts" / "step_000001.parquet"
    return {
        "evaluations/start": (run_dir / "evaluations" / "start" / "rows.json").exists,
        "base": lambda: logged(run_dir / "base") >= 1,
        "branch": lambda: logged(run_dir / "branch") >= 1,
        "pairs": (run_dir / "pairs" / "rollouts" / "step_000001.parquet").exists,
        "dpo": lambda: logged(run_dir / "dpo") >= 1,
        "prompts": (run_dir / "prompts" / "rollouts" / "step_000001.parquet").exists,
        "grpo": lambda: logged(run_dir / "grpo") >= 1,
        "round": samples.exists,
        "round, fine-tuning": lambda: logged(run_dir / "round" / "round_001" / "sft") >= 1,
        "mean": (run_dir / "mean" / "pipeline_begun.json").exists,
        "evaluations/mean": (run_dir / "evaluations" / "mean" / "rows.json").exists,
    }


def test_killed_in_every_stage_equals_uninterrupted(tmp_path: Path) -> None:
    """kill -9 of the whole tree, once in each stage, each time followed by the same command."""
    model = recipe_runs.stopping_model(tmp_path / "model")
    config = pipeline_runs.write_pipeline(tmp_path, model, trainer={"run_dir": str(tmp_path / "whole"), "seed": 3})
    done = runs.run("pipeline", config, timeout=900)
    assert done.returncode == 0, done.stderr

    killed = tmp_path / "killed"
    config = pipeline_runs.write_pipeline(tmp_path, model, trainer={"run_dir": str(killed), "seed": 3})
    for moment, when in moments(killed).items():
        runs.run_until_killed("pipeline", config, when, timeout=600)
        stage = moment.partition(",")[0]
        # Between the last byte of a mean and its entry lies less time than a kill takes to arrive.
        assert stage == "mean" or not (killed / stage / "pipeline_done.json").exists(), f"{moment} was over already"
    done = runs.run("pipeline", config, timeout=900)
    assert done.returncode == 0, done.stderr
    whole = tmp_path / "whole"
    assert (killed / "manifest.json").read_bytes() == (whole / "manifest.json").read_bytes()
    assert (killed / "table.json").read_bytes() == (whole / "table.json").read_bytes()
    assert list(pipeline_runs.manifest(whole)["stages"]) == list(pipeline_runs.STAGES)
