"""The command line: `pangu-rl STAGE --config FILE key=value ...` and the commands around a run.

Exit codes: 0 done, 1 the run failed, 2 something the user can mend, 143 preempted after a checkpoint (resume goes on).
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from pangu_rl.cluster import auth
from pangu_rl.config.load import apply_override, checked, dump_config, load_config
from pangu_rl.config.packing import PackingConfig
from pangu_rl.config.paths import resolve_path
from pangu_rl.config.stages import GrpoConfig, SftConfig
from pangu_rl.errors import ConfigError, Preempted, RunError, UserError

STAGES = {"grpo": GrpoConfig, "sft": SftConfig}

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
config_app = typer.Typer(no_args_is_help=True, help="Look at a configuration.")
app.add_typer(config_app, name="config")

ConfigFile = Annotated[Path, typer.Option("--config", help="YAML of the stage; configs/ has the shipped ones.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="Overrides, e.g. trainer.steps=10 run_dir=runs/x.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object for a machine to read.")]
Address = Annotated[str | None, typer.Option(help="Ray dashboard address, e.g. http://127.0.0.1:8265.")]
StageName = Annotated[str, typer.Argument(help="grpo or sft.")]
JobId = Annotated[str, typer.Argument(help="Identifier that `submit` printed.")]


def main() -> None:
    """Run the program; every expected failure is one line on stderr and an exit code, never a traceback."""
    # Ray reads its authentication mode when it is imported, which every stage does before it knows its cluster.
    auth.use_token_if_present()
    try:
        app()
    except (UserError, RunError) as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except Preempted as preemption:
        typer.echo(f"preempted: {preemption}", err=True)
        sys.exit(preemption.exit_code)


@app.command()
def grpo(config: ConfigFile, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Train by GRPO: vLLM rollouts, verifiable rewards, a DeepSpeed learner. Resumes by itself."""
    from pangu_rl.loops.run_grpo import run_grpo

    summary = run_grpo(_load("grpo", config, overrides))
    if as_json:
        typer.echo(json.dumps(summary))


@app.command()
def sft(config: ConfigFile, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Fine-tune on conversations: packed, the loss on the assistant's turns only. Resumes by itself."""
    from pangu_rl.loops.run_sft import run_sft

    summary = run_sft(_load("sft", config, overrides))
    if as_json:
        typer.echo(json.dumps(summary))


@app.command()
def curate(
    target: Annotated[str, typer.Argument(help="text-prompts, smollm2, easy-vqa or tiny-pangu-vl.")],
    output: Annotated[str | None, typer.Option(help="Folder; by default its place in the cache.")] = None,
) -> None:
    """Build a prompt set or a model folder from installed packages; kept if it is there already."""
    from data_curation.curate import curate as build

    typer.echo(build(target, resolve_path(output) if output else None))


@app.command()
def score(
    source: Annotated[Path, typer.Option("--input", help="JSONL: prediction, gold, answer_type (auto), and more.")],
    target: Annotated[Path, typer.Option("--output", help="JSONL: each row with outcome, reward and seconds.")],
    on_bad_row: Annotated[
        Literal["report", "fail"], typer.Option(help="A row that cannot be graded: outcome error, or exit code 2.")
    ] = "report",
    workers: Annotated[int | None, typer.Option(min=1, help="Child processes; default: one per core, up to 4.")] = None,
    deadline_s: Annotated[float, typer.Option(min=0.01, help="Seconds until a check is ended as timeout.")] = 2.0,
    as_json: AsJson = False,
) -> None:
    """Grade predictions against golds, line for line. The fields of a row pass through unchanged.

    Optional fields: choices, metric, coordinates (pixel, 0-999, 0-1), image_size. A row without a verdict has reward
    null and outcome timeout, killed or error.
    """
    from rewards.score_file import score_file_with_progress

    summary = score_file_with_progress(source, target, on_bad_row=on_bad_row, workers=workers, deadline_s=deadline_s)
    typer.echo(json.dumps(summary.as_dict()) if as_json else f"{target}: {summary}")


@app.command()
def pack(
    metadata: Annotated[Path, typer.Option(help="Parquet: id, text_tokens, width, height, and more.")],
    context: Annotated[int, typer.Option(help="Tokens of a pack.")],
    ranks: Annotated[int, typer.Option(help="Data-parallel ranks; each gets the same number of packs.")],
    output: Annotated[Path, typer.Option(help="Folder of the plan, a new one.")],
    settings: Annotated[
        list[str] | None, typer.Argument(help="E.g. seed=1 visual_tokens=20000 shares.text=2 shares.vl=8.")
    ] = None,
    global_batch: Annotated[int | None, typer.Option(help="Packs of a step; default: one per rank.")] = None,
    as_json: AsJson = False,
) -> None:
    """Plan packed training batches from sizes alone; no picture is opened. The same input gives the same plan.

    Columns: width and height are numbers, or lists for several pictures (0 or empty for none); optional are source, and
    for videos frames, or duration with the fps to sample at. Settings: those of pangu_rl/config/packing.py.
    """
    from pretrain.packing.pack import pack_file

    tree = {"context": context, "ranks": ranks, "global_batch": global_batch}
    for setting in settings or ():
        apply_override(tree, setting)
    summary = pack_file(metadata, output, checked(PackingConfig, tree, "pack"))
    typer.echo(json.dumps(summary.as_dict()) if as_json else str(summary))


@app.command()
def submit(stage: StageName, config: ConfigFile, overrides: Overrides = None, address: Address = None) -> None:
    """Send a stage to a Ray cluster as a job and print the job's identifier; the same run_dir resumes."""
    from pangu_rl.cluster import jobs

    _load(stage, config, overrides)
    typer.echo(jobs.submit(stage, config, tuple(overrides or ()), address=address))


@app.command()
def status(job: JobId, address: Address = None, as_json: AsJson = False) -> None:
    """State of a submitted job."""
    from pangu_rl.cluster import jobs

    state = jobs.status(job, address=address)
    typer.echo(json.dumps({"job": job, "status": state}) if as_json else state)


@app.command()
def logs(job: JobId, address: Address = None, follow: Annotated[bool, typer.Option("--follow", "-f")] = False) -> None:
    """Output of a submitted job."""
    from pangu_rl.cluster import jobs

    for line in jobs.logs(job, address=address, follow=follow):
        typer.echo(line, nl=False)


@app.command()
def stop(job: JobId, address: Address = None) -> None:
    """Ask a job to stop; it checkpoints first."""
    from pangu_rl.cluster import jobs

    typer.echo(jobs.stop(job, address=address))


@app.command("list")
def list_jobs(address: Address = None, as_json: AsJson = False) -> None:
    """Jobs of the cluster, newest first."""
    from pangu_rl.cluster import jobs

    rows = jobs.list_jobs(address=address)
    if as_json:
        typer.echo(json.dumps(rows))
        return
    for row in rows:
        typer.echo("  ".join(str(value) for value in row.values()))


@config_app.command("show")
def config_show(stage: StageName, config: ConfigFile, overrides: Overrides = None) -> None:
    """Print the resolved configuration: file, overrides and defaults."""
    typer.echo(dump_config(_load(stage, config, overrides)), nl=False)


@config_app.command("check")
def config_check(stage: StageName, config: ConfigFile, overrides: Overrides = None) -> None:
    """Check a configuration without starting anything."""
    _load(stage, config, overrides)
    typer.echo(f"{config}: a sound {stage} configuration")


def _load(stage: str, path: Path, overrides: list[str] | None) -> GrpoConfig | SftConfig:
    if stage not in STAGES:
        raise ConfigError(f"unknown stage {stage!r}: one of {', '.join(STAGES)}")
    expanded = [_expand(override) for override in overrides or ()]
    return load_config(STAGES[stage], path, expanded)


def _expand(override: str) -> str:
    """`run_dir=X` is short for `trainer.run_dir=X`: the one key that every stage has and every user sets."""
    return f"trainer.{override}" if override.startswith("run_dir=") else override


os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
