"""A stage from its command to its last line: **what it is about to do, its run, what it made and what comes next**."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer

from pangu_rl.checkpoint.step_folders import step_folders
from pangu_rl.config.doubts import doubts
from pangu_rl.monitoring.milestones import milestone

NEXT_OF_SAMPLED = {
    "difficulty": "pangu-rl grpo --config FILE data.train={run_dir}/prompts.jsonl",
    "pairs": "pangu-rl dpo --config FILE data.train={run_dir}/pairs.jsonl",
    "iterative": "pangu-rl chat {run_dir}",
}
"""Stage that samples -> what goes on with what it made."""
SHOWN = {
    "train/loss": "loss",
    "train/nll": "nll",
    "train/accuracy": "preferred",
    "train/reward_margin": "margin",
}
"""Figure of a last step -> its label."""


def run_stage(stage: str, config: Any, run: Callable[[Any], dict[str, float]], as_json: bool) -> None:
    """Run what is not over yet, and tell what there is then."""
    from pangu_rl.checkpoint.finished import finished, write_finished

    figures = finished(config)
    if figures is None:
        milestone(f"{stage}: configuration accepted; reading rows and model folder")
        for doubt in doubts(config):
            milestone(f"warning: {doubt}")
        figures = run(config)
        write_finished(config, figures)
    else:
        milestone(f"{stage}: {config.trainer.run_dir} is finished, nothing to do (another trainer.run_dir starts anew)")
    for line in last_lines(stage, Path(config.trainer.run_dir), figures):
        typer.echo(line, err=True)
    if as_json:
        typer.echo(json.dumps(figures))


def last_lines(stage: str, run_dir: Path, figures: dict[str, float]) -> Iterator[str]:
    """Warnings, figures, the model's path, the next commands."""
    yield from (f"warning: {line}" for line in _warnings(run_dir))
    if text := _figures(stage, figures):
        yield f"result: {text}"
    if model := model_folder(run_dir):
        yield f"model:  {model}"
    yield "next:   " + "\n        ".join(_next(stage, run_dir))


def sampled(stage: str, run_dir: str, done: str, manifest: Any, as_json: bool) -> None:
    """Of a stage that samples: what it made, and which stage takes it."""
    typer.echo(json.dumps(manifest) if as_json else done)
    typer.echo(f"next: {NEXT_OF_SAMPLED[stage].format(run_dir=run_dir)}", err=True)


def model_folder(run_dir: Path) -> Path | None:
    """Of the newest checkpoint: a model, or the adapter that was trained."""
    found = (step / name for step in step_folders(run_dir)[-1:] for name in ("hf", "adapter"))
    return next((folder for folder in found if folder.is_dir()), None)


def _warnings(run_dir: Path) -> list[str]:
    from pangu_rl.loops.online.warnings import end_warnings
    from pangu_rl.monitoring.sinks import read_metrics

    metrics = run_dir / "metrics.jsonl"
    return list(end_warnings(read_metrics(metrics))) if metrics.is_file() else []


def _figures(stage: str, figures: dict[str, float]) -> str:
    if stage == "grpo":
        parts = [f"{name.removeprefix('heldout/')} {value:.1%}" for name, value in figures.items()]
        return f"held-out accuracy {', '.join(parts)}" if parts else ""
    return ", ".join(f"{label} {figures[name]:.4g}" for name, label in SHOWN.items() if name in figures)


def _next(stage: str, run_dir: Path) -> list[str]:
    commands = [f"pangu-rl report {run_dir}"]
    if stage in ("grpo", "sft", "dpo"):
        commands.insert(0, f"pangu-rl chat {run_dir}")
    if stage == "grpo":
        commands.append(f"pangu-rl export {run_dir} --to sft --output data")
    if stage == "sft":
        commands.append(f"pangu-rl grpo --config FILE model.path={run_dir}")
    return commands
