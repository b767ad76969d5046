"""The stages: a configuration -> a run in its run directory."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from pangu_rl.cli.app import AsJson, ConfigFile, DryRun, Overrides, app, load_run, load_stage
from pangu_rl.cli.program import LOOK, TRAIN, WHOLE

RUNS = {
    "grpo": ("pangu_rl.loops.online.run_grpo", "run_grpo"),
    "sft": ("pangu_rl.loops.supervised.run_sft", "run_sft"),
    "dpo": ("pangu_rl.loops.supervised.run_preference", "run_preference"),
    "vit": ("pretrain.train.vision.run", "run_vit"),
    "pretrain": ("pretrain.train.run", "run_pretrain"),
}
"""Stage that trains -> where its loop is, which takes seconds to import."""


@app.command(rich_help_panel=TRAIN)
def grpo(config: ConfigFile, overrides: Overrides = None, dry: DryRun = False, as_json: AsJson = False) -> None:
    """Train on rewards, by GRPO.

    Resumes by itself. Answers are drawn by vLLM, scored by reward functions, and learned from by DeepSpeed.
    """
    _train("grpo", load_run("grpo", config, overrides, not dry), dry, as_json)


@app.command(rich_help_panel=TRAIN)
def sft(config: ConfigFile, overrides: Overrides = None, dry: DryRun = False, as_json: AsJson = False) -> None:
    """Fine-tune on conversations.

    Resumes by itself. They are packed, and the loss is on the assistant's turns only.
    """
    _train("sft", load_run("sft", config, overrides, not dry), dry, as_json)


@app.command(rich_help_panel=TRAIN)
def dpo(config: ConfigFile, overrides: Overrides = None, dry: DryRun = False, as_json: AsJson = False) -> None:
    """Learn from pairs of a better and a worse answer.

    Resumes by itself. The loss is MPO, plain DPO among it; SFT rows can be mixed in.
    """
    _train("dpo", load_run("dpo", config, overrides, not dry), dry, as_json)


@app.command("eval", rich_help_panel=LOOK)
def evaluate(config: ConfigFile, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Measure a model on sets of prompts, or on benchmarks.

    Greedy answers, accuracy per set and source, 95 % intervals.
    Items that two sets share are compared one by one. Writes evaluations.json and answers.jsonl into the run directory.
    With a section `resolutions`, at every pair of picture sizes of a grid: resolutions.json, a table, resolutions.png.
    With `data.benchmarks`, on benchmarks as the hub has them, each with its metric: benchmarks.json and a table.
    """
    from pangu_rl.loops.evaluation.run_eval import run_eval

    summary = run_eval(load_run("eval", config, overrides))
    if as_json:
        typer.echo(json.dumps(summary))


@app.command("assemble", rich_help_panel=WHOLE)
def assemble(config: ConfigFile, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Join a vision tower and a language model into one.

    Encoder, connector and language model become one model folder; parts that are null start at random.
    """
    from pretrain.train.run_assemble import run_assemble

    summary = run_assemble(load_stage("assemble", config, overrides))
    if as_json:
        typer.echo(json.dumps(summary))


@app.command(rich_help_panel=TRAIN)
def vit(config: ConfigFile, overrides: Overrides = None, dry: DryRun = False, as_json: AsJson = False) -> None:
    """Train a vision tower alone, on clusters of pictures (MLCD).

    Resumes by itself. Its labels are the clusters of what a real encoder makes of the pictures.
    """
    _train("vit", load_run("vit", config, overrides, not dry), dry, as_json)


@app.command(rich_help_panel=TRAIN)
def pretrain(
    config: ConfigFile,
    overrides: Overrides = None,
    measure: Annotated[
        Path | None, typer.Option(help="Write the sizes of the rows here, for `pangu-rl pack`, and end.")
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, help="CPUs that measure: above 1, Ray Data on those of `cluster`.")
    ] = 1,
    dry: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Pre-train on packed documents and conversations.

    Resumes by itself. Parts of the model may be frozen; packs come from a plan or are made on the way.
    """
    stage = load_run("pretrain", config, overrides, not dry and measure is None)
    if measure is None:
        _train("pretrain", stage, dry, as_json)
        return
    from pretrain.train.measure import write_sizes

    rows = write_sizes(stage, measure, workers)
    typer.echo(f"{measure}: sizes of {rows} rows", err=True)
    if as_json:
        typer.echo(json.dumps({"rows": rows}))


def _train(stage: str, config: Any, dry: bool, as_json: bool) -> None:
    if dry:
        from pangu_rl.cli.dry_run import dry_run, shown

        found = dry_run(stage, config)
        typer.echo(json.dumps(found) if as_json else "\n".join(shown(found)))
        return
    from pangu_rl.cli.ending import run_stage

    def run(config: Any) -> dict[str, float]:
        module, function = RUNS[stage]
        return getattr(import_module(module), function)(config)

    run_stage(stage, config, run, as_json)
