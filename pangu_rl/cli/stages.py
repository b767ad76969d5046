"""The stages: a configuration -> a run in its run directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from pangu_rl.cli.app import AsJson, ConfigFile, Overrides, app, load_run, load_stage


@app.command()
def grpo(config: ConfigFile, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Train by GRPO: vLLM rollouts, verifiable rewards, a DeepSpeed learner. Resumes by itself."""
    from pangu_rl.loops.online.run_grpo import run_grpo

    summary = run_grpo(load_run("grpo", config, overrides))
    if as_json:
        typer.echo(json.dumps(summary))


@app.command()
def sft(config: ConfigFile, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Fine-tune on conversations: packed, the loss on the assistant's turns only. Resumes by itself."""
    from pangu_rl.loops.supervised.run_sft import run_sft

    summary = run_sft(load_run("sft", config, overrides))
    if as_json:
        typer.echo(json.dumps(summary))


@app.command()
def dpo(config: ConfigFile, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Optimise preferences on pairs of responses: MPO, plain DPO among it, SFT rows mixed in. Resumes by itself."""
    from pangu_rl.loops.supervised.run_preference import run_preference

    summary = run_preference(load_run("dpo", config, overrides))
    if as_json:
        typer.echo(json.dumps(summary))


@app.command("eval")
def evaluate(config: ConfigFile, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Measure a model on sets of prompts: greedy answers, accuracy per set and source, 95 % intervals.

    Items that two sets share are compared one by one. Writes evaluations.json and answers.jsonl into the run directory.
    With a section `resolutions`, at every pair of picture sizes of a grid: resolutions.json, a table, resolutions.png.
    With `data.benchmarks`, on benchmarks as the hub has them, each with its metric: benchmarks.json and a table.
    """
    from pangu_rl.loops.evaluation.run_eval import run_eval

    summary = run_eval(load_run("eval", config, overrides))
    if as_json:
        typer.echo(json.dumps(summary))


@app.command("assemble")
def assemble(config: ConfigFile, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Join a vision tower, a connector and a language model into one model folder; null parts start at random."""
    from pretrain.train.run_assemble import run_assemble

    summary = run_assemble(load_stage("assemble", config, overrides))
    if as_json:
        typer.echo(json.dumps(summary))


@app.command()
def vit(config: ConfigFile, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Train a vision tower alone: pictures, labels by the clusters of a real encoder, MLCD. Resumes by itself."""
    from pretrain.train.vision.run import run_vit

    summary = run_vit(load_run("vit", config, overrides))
    if as_json:
        typer.echo(json.dumps(summary))


@app.command()
def pretrain(
    config: ConfigFile,
    overrides: Overrides = None,
    measure: Annotated[
        Path | None, typer.Option(help="Write the sizes of the rows here, for `pangu-rl pack`, and end.")
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, help="CPUs that measure: above 1, Ray Data on those of `cluster`.")
    ] = 1,
    as_json: AsJson = False,
) -> None:
    """Run a stage of pre-training: packs from a plan or made on the way, parts trained or frozen. Resumes by itself."""
    from pretrain.train.measure import write_sizes
    from pretrain.train.run import run_pretrain

    stage = load_run("pretrain", config, overrides)
    if measure is None:
        summary = run_pretrain(stage)
    else:
        summary = {"rows": write_sizes(stage, measure, workers)}
        typer.echo(f"{measure}: sizes of {summary['rows']} rows", err=True)
    if as_json:
        typer.echo(json.dumps(summary))
