"""The stages: a configuration -> a run in its run directory."""

from __future__ import annotations

import json

import typer

from pangu_rl.cli.app import AsJson, ConfigFile, Overrides, app, load_stage


@app.command()
def grpo(config: ConfigFile, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Train by GRPO: vLLM rollouts, verifiable rewards, a DeepSpeed learner. Resumes by itself."""
    from pangu_rl.loops.run_grpo import run_grpo

    summary = run_grpo(load_stage("grpo", config, overrides))
    if as_json:
        typer.echo(json.dumps(summary))


@app.command()
def sft(config: ConfigFile, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Fine-tune on conversations: packed, the loss on the assistant's turns only. Resumes by itself."""
    from pangu_rl.loops.run_sft import run_sft

    summary = run_sft(load_stage("sft", config, overrides))
    if as_json:
        typer.echo(json.dumps(summary))
