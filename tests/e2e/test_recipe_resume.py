"""Iterative fine-tuning that is killed in the middle of its parts ends with the manifest of a run that was not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e import recipe_runs as recipe
from tests.e2e import runs

pytestmark = pytest.mark.slow


def test_killed_while_sampling_and_while_training_equals_uninterrupted(tmp_path: Path) -> None:
    """kill -9 of the whole tree after the first shard of round 1, in its fine-tuning, and in sampling round 2."""
    model = recipe.stopping_model(tmp_path / "model")
    recipe.write_queries(tmp_path)
    trainer = {"steps": 2, "sequences_per_step": 1, "epochs": 2, "checkpoint_every": 2}
    whole = recipe.write_config(tmp_path, model, "iterative", trainer=trainer | {"run_dir": str(tmp_path / "whole")})
    done = runs.run("iterative", whole, timeout=400)
    assert done.returncode == 0, done.stderr

    killed = recipe.write_config(tmp_path, model, "iterative", trainer=trainer | {"run_dir": str(tmp_path / "killed")})
    first, second = (tmp_path / "killed" / f"round_{number:03d}" for number in (1, 2))
    runs.run_until_killed("iterative", killed, when=(first / "samples/rollouts/step_000001.parquet").exists)
    assert not (first / "selected.jsonl").exists(), "round 1 had been sampled already"
    runs.run_until_killed("iterative", killed, when=lambda: logged(first / "sft") >= 3)
    assert not (first / "manifest.json").exists(), "round 1 was over already"
    runs.run_until_killed("iterative", killed, when=(second / "samples/rollouts/step_000002.parquet").exists)
    done = runs.run("iterative", killed, timeout=400)
    assert done.returncode == 0, done.stderr
    assert manifest(tmp_path / "killed") == manifest(tmp_path / "whole")
    assert b'"round": 2' in manifest(tmp_path / "whole")


def test_pairs_killed_in_mid_draw_equal_uninterrupted(tmp_path: Path) -> None:
    model = recipe.stopping_model(tmp_path / "model")
    recipe.write_queries(tmp_path)
    small = {"prompts_per_step": 2}
    whole = recipe.write_config(tmp_path, model, "pairs", trainer=small | {"run_dir": str(tmp_path / "whole")})
    done = runs.run("pairs", whole)
    assert done.returncode == 0, done.stderr
    killed = recipe.write_config(tmp_path, model, "pairs", trainer=small | {"run_dir": str(tmp_path / "killed")})
    runs.run_until_killed("pairs", killed, when=(tmp_path / "killed/rollouts/step_000003.parquet").exists)
    assert not (tmp_path / "killed/rollouts/step_000006.parquet").exists(), "everything had been drawn already"
    done = runs.run("pairs", killed)
    assert done.returncode == 0, done.stderr
    for name in ("pairs.jsonl", "manifest.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def logged(run_dir: Path) -> int:
    file = run_dir / "metrics.jsonl"
    return file.read_text().count("\n") if file.exists() else 0


def manifest(run_dir: Path) -> bytes:
    return (run_dir / "manifest.json").read_bytes()
