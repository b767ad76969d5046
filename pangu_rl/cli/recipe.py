"""The recipe around the training stages: prompts by difficulty, pairs, iterative fine-tuning, merging, pipelines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from pangu_rl.cli.app import AsJson, ConfigFile, Overrides, app, expanded, load_run, read_for
from pangu_rl.cli.ending import sampled
from pangu_rl.cli.program import SAMPLE, WHOLE
from pangu_rl.errors import ConfigError

if TYPE_CHECKING:
    from pangu_rl.config.pipelines.pipeline import PipelineConfig

Number = TypeVar("Number", int, float)
WIDE = 200
"""Columns of a table that goes into a file."""


@app.command(rich_help_panel=SAMPLE)
def difficulty(config: ConfigFile, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Keep the prompts that a model does not find too easy.

    Samples answers to each, and keeps those that it does not answer too well, with their pass rates.

    Writes prompts.jsonl, left_out.jsonl and manifest.json into the run directory. Resumes by itself.
    """
    from pangu_rl.loops.sampling.run_difficulty import run_difficulty

    stage = load_run("difficulty", config, overrides)
    manifest = run_difficulty(stage)
    done = f"{manifest['queries']['selected']} of {sum(manifest['queries'].values())} prompts kept"
    sampled("difficulty", stage.trainer.run_dir, done, manifest, as_json)


@app.command(rich_help_panel=SAMPLE)
def pairs(config: ConfigFile, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Make preference pairs of a model's own answers, for `dpo`.

    Samples answers to SFT queries, scores them from 1 to 5, and pairs good ones with bad ones.

    Writes pairs.jsonl and manifest.json into the run directory; rollouts/ has all candidates and votes. Resumes by
    itself.
    """
    from pangu_rl.loops.sampling.run_pairs import run_pairs

    stage = load_run("pairs", config, overrides)
    manifest = run_pairs(stage)
    done = f"{manifest['queries']['selected']} pairs of {sum(manifest['queries'].values())} queries"
    sampled("pairs", stage.trainer.run_dir, done, manifest, as_json)


@app.command(rich_help_panel=SAMPLE)
def iterative(config: ConfigFile, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Fine-tune on a model's own right answers, in rounds.

    To queries that it often gets wrong. Resumes by itself.
    """
    from pangu_rl.loops.sampling.run_iterative import run_iterative

    stage = load_run("iterative", config, overrides)
    manifest = run_iterative(stage)
    rounds = ", ".join(str(turn["selected"]["rows"]) for turn in manifest["rounds"])
    done = f"rows selected by round: {rounds}; model: {manifest['model']}"
    sampled("iterative", stage.trainer.run_dir, done, manifest, as_json)


@app.command(rich_help_panel=WHOLE)
def pipeline(
    config: ConfigFile,
    overrides: Overrides = None,
    restart_from: Annotated[
        str | None, typer.Option(help="Set a stage (or `evaluate`) aside and run it and all that depends on it anew.")
    ] = None,
    override_set: Annotated[
        Path | None, typer.Option(help="YAML laid over the pipeline's and its stages' files; see configs/overrides/.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Look for what cannot run; start nothing.")] = False,
    profile: Annotated[
        str | None,
        typer.Option(help="With --check: a name in configs/clusters/, or a file, for cluster.profile."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a graph of stages and evaluate every model of it.

    configs/pipeline/ has the shipped ones.

    A folder for each stage, manifest.json and one table of all evaluations (.md, .json, .png) in the run directory. The
    same command again skips what is over and goes on. With --check every input is made by a stage or listed under
    external, and every stage is planned on its cluster, by shapes alone; exit code 2 where something cannot run.
    """
    from pangu_rl.config.pipelines.override_set import load_pipeline

    with read_for("pipeline", config):
        stage = load_pipeline(config, [expanded(override) for override in overrides or ()], override_set)
    if check:
        _check(stage, profile, as_json)
        return
    if profile is not None:
        raise ConfigError("--profile belongs to --check here; a run plans on the nodes that it finds")
    from pangu_rl.loops.pipeline.run_pipeline import run_pipeline

    manifest = run_pipeline(stage, restart_from)
    done = f"{len(manifest['stages'])} stages; manifest.json and table.md, .json, .png in {stage.trainer.run_dir}"
    typer.echo(json.dumps(manifest) if as_json else done)


def _check(config: PipelineConfig, profile: str | None, as_json: bool) -> None:
    from rich.console import Console

    from pangu_rl.loops.pipeline.check.chain import check_chain
    from pangu_rl.loops.pipeline.check.shown import chain_json, chain_table

    found = check_chain(config, profile)
    if as_json:
        typer.echo(json.dumps(chain_json(found)))
    else:
        console = Console()
        if not console.is_terminal:
            console.width = WIDE  # for whom rich would cut the table to 80
        console.print(chain_table(found))
        for fault in found.faults:
            console.print(f"fault: {fault}", markup=False, highlight=False, soft_wrap=True)
    if found.faults:
        raise typer.Exit(2)


@app.command(rich_help_panel=WHOLE)
def merge(
    models: Annotated[
        list[Path],
        typer.Argument(help="Folders of models or adapters; a run directory stands for the checkpoints that it keeps."),
    ],
    output: Annotated[Path, typer.Option(help="Folder of the mean, a new one.")],
    weights: Annotated[str | None, typer.Option(help="One per model, e.g. 1,1,2; equal by default.")] = None,
    steps: Annotated[str | None, typer.Option(help="Steps of the run directories, e.g. 20,40; default: all.")] = None,
    as_json: AsJson = False,
) -> None:
    """Average models of one architecture, or fold an adapter in.

    Tensor by tensor; merge.json in the folder says of what.
    An adapter (LoRA, as peft writes it) counts as its base model with the adapter folded in; one alone is folded.
    """
    from pangu_rl.config.paths import resolve_path
    from pangu_rl.loops.pipeline.run_merge import merge as run_merge
    from pangu_rl.loops.pipeline.run_merge import model_folders, provenance

    chosen = _numbers("--steps", steps, int) if steps else None
    folders = model_folders([resolve_path(str(model)) for model in models], chosen)
    summary = run_merge(folders, resolve_path(str(output)), _numbers("--weights", weights, float) if weights else None)
    for line in summary.differences:
        typer.echo(f"note: {line}", err=True)
    what = f"mean of {len(folders)} models" if len(folders) > 1 else f"{folders[0]} folded into its base model"
    text = f"{output}: {what}, {summary.tensors} tensors, {summary.parameters:,} parameters"
    typer.echo(json.dumps(json.loads(provenance(summary))) if as_json else text)


def _numbers(option: str, text: str, kind: type[Number]) -> list[Number]:
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        what = "whole numbers" if kind is int else "numbers"
        raise ConfigError(f"{option} {text}: expected {what} with commas between them, e.g. 1,1,2") from None
