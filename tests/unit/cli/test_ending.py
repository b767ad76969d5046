"""The last lines of a stage: warnings of what only looks like success, figures, the model, the next commands."""

from __future__ import annotations

import json
from pathlib import Path

from pangu_rl.cli.ending import last_lines, run_stage, sampled
from pangu_rl.config.stages import SftConfig
from pangu_rl.loops.online.warnings import end_warnings

STEP = {"step": 1, "reward/mean": 0.5, "groups/zero_variance": 0.25, "response/truncated": 0.1}


def test_a_sound_run_is_told_with_what_comes_next(tmp_path: Path) -> None:
    (tmp_path / "checkpoints/step_000002/hf").mkdir(parents=True)
    (tmp_path / "metrics.jsonl").write_text(json.dumps(STEP) + "\n")
    lines = list(last_lines("grpo", tmp_path, {"heldout/start": 0.25, "heldout/step 2": 0.5}))
    assert lines[0] == "result: held-out accuracy start 25.0%, step 2 50.0%"
    assert lines[1] == f"model:  {tmp_path}/checkpoints/step_000002/hf"
    assert lines[2].startswith(f"next:   pangu-rl chat {tmp_path}\n        pangu-rl report {tmp_path}")


def test_figures_of_a_supervised_stage(tmp_path: Path) -> None:
    assert next(last_lines("dpo", tmp_path, {"train/loss": 0.69312, "train/accuracy": 0.5})) == (
        "result: loss 0.6931, preferred 0.5"
    )


def test_a_stage_that_samples_names_the_stage_that_goes_on(capsys) -> None:
    sampled("pairs", "runs/p", "3 pairs of 9 queries", {"queries": {}}, as_json=False)
    said = capsys.readouterr()
    assert said.out == "3 pairs of 9 queries\n"
    assert said.err == "next: pangu-rl dpo --config FILE data.train=runs/p/pairs.jsonl\n"


def test_what_looks_like_success_is_warned_of() -> None:
    assert not list(end_warnings([STEP]))
    flat = STEP | {"groups/zero_variance": 1.0, "reward/mean": 0.0}
    nothing, zero = end_warnings([flat, flat | {"step": 2}])
    assert nothing.startswith("in none of the 2 steps was anything learned")
    assert zero.startswith("the reward was 0 in all 2 steps")
    assert not list(end_warnings([flat, STEP]))
    [cut] = end_warnings([STEP, *[STEP | {"step": step, "response/truncated": 0.97} for step in range(2, 7)]])
    assert "cut at rollout.max_new_tokens (in step 6 97%)" in cut


def test_a_finished_run_is_told_without_running(tmp_path: Path, monkeypatch, capsys) -> None:
    config = SftConfig.model_validate(
        {"model": {"path": "m"}, "data": {"train": "t"}, "trainer": {"run_dir": str(tmp_path), "steps": 3}}
    )
    monkeypatch.setattr("pangu_rl.checkpoint.finished.finished", lambda config: {"train/loss": 1.0})
    run_stage("sft", config, lambda config: 1 / 0, as_json=True)
    said = capsys.readouterr()
    assert "is finished, nothing to do" in said.err
    assert json.loads(said.out) == {"train/loss": 1.0}
