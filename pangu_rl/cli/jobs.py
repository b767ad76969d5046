"""A stage as a job on a Ray cluster, and the questions one asks about it."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from pangu_rl.cli.app import AsJson, ConfigFile, Overrides, StageName, app, load_stage

Address = Annotated[str | None, typer.Option(help="Ray dashboard address, e.g. http://127.0.0.1:8265.")]
JobId = Annotated[str, typer.Argument(help="Identifier that `submit` printed.")]


@app.command()
def submit(stage: StageName, config: ConfigFile, overrides: Overrides = None, address: Address = None) -> None:
    """Send a stage to a Ray cluster as a job and print the job's identifier; the same run_dir resumes."""
    from pangu_rl.cluster import jobs

    load_stage(stage, config, overrides)
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
