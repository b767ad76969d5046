"""A stage as a job on a Ray cluster, and the questions one asks about it."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from pangu_rl.cli.app import AsJson, ConfigFile, Overrides, StageName, app, schema_of, stage_of
from pangu_rl.cli.program import CLUSTER
from pangu_rl.errors import ConfigError

Address = Annotated[str | None, typer.Option(help="Ray dashboard address, e.g. http://127.0.0.1:8265.")]
JobId = Annotated[str, typer.Argument(help="Identifier that `submit` printed.")]


@app.command(rich_help_panel=CLUSTER)
def submit(
    stage: StageName,
    config: ConfigFile,
    overrides: Overrides = None,
    address: Address = None,
    profile: Annotated[
        str | None, typer.Option(help="Name in configs/clusters/, or a .yaml file; by default cluster.profile.")
    ] = None,
    show_plan: Annotated[bool, typer.Option("--plan", help="Show where actors would go; send nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send a stage to a Ray cluster as a job.

    Prints the job's identifier; the same run_dir resumes.
    With a profile it is planned first: what would not fit is named, and nothing is sent (exit code 2).
    """
    from rich.console import Console

    from pangu_rl.checkpoint.run_model import known_model
    from pangu_rl.cluster import jobs
    from pangu_rl.cluster.plan import plan
    from pangu_rl.cluster.plan_table import plan_json, plan_table
    from pangu_rl.cluster.profile_checks import model_paths
    from pangu_rl.cluster.stage_file import StageFile
    from pangu_rl.config.names.named_files import travelling
    from pangu_rl.learner.measure.stage_memory import memory_of, weights_gib

    if "cluster" not in schema_of(stage).model_fields:
        raise ConfigError(
            f"submit {stage}: it needs no devices and is no job: run `pangu-rl {stage}` where the run directory is "
            "seen, or make it a stage of a pipeline"
        )
    file = StageFile.read(config, overrides or ())
    profile = profile or file.profile
    if show_plan and profile is None:
        raise ConfigError("--plan needs --profile, or cluster.profile: which nodes and devices there are")
    cluster = jobs.load_profile(profile) if profile else None
    resolved = stage_of(stage, file.tree_of_job(cluster), config)
    if cluster is not None:
        paths = [str(known_model(path)) for path in model_paths(resolved)]
        weights = [gib for path in paths if (gib := weights_gib(path)) is not None]
        on_devices = any(group.devices for group in cluster.nodes)
        planned = plan(stage, resolved, cluster, max(weights, default=None), memory_of(paths, on_devices))
        if show_plan:
            if as_json:
                typer.echo(json.dumps(plan_json(planned)))
            else:
                Console().print(plan_table(planned))
        if show_plan and not planned.fits:
            raise typer.Exit(2)
        if not planned.fits:
            raise ConfigError(f"{profile}: {'; '.join(planned.all_problems)}; --plan shows the whole")
    if not show_plan:
        files = travelling(resolved)
        job = jobs.submit(stage, file, address=address, profile=cluster, files=files)
        typer.echo(json.dumps({"job": job}) if as_json else job)


@app.command(rich_help_panel=CLUSTER)
def status(job: JobId, address: Address = None, as_json: AsJson = False) -> None:
    """Tell the state of a submitted job."""
    from pangu_rl.cluster import jobs

    state = jobs.status(job, address=address)
    typer.echo(json.dumps({"job": job, "status": state}) if as_json else state)


@app.command(rich_help_panel=CLUSTER)
def logs(job: JobId, address: Address = None, follow: Annotated[bool, typer.Option("--follow", "-f")] = False) -> None:
    """Print the output of a submitted job."""
    from pangu_rl.cluster import jobs

    for line in jobs.logs(job, address=address, follow=follow):
        typer.echo(line, nl=False)


@app.command(rich_help_panel=CLUSTER)
def stop(job: JobId, address: Address = None) -> None:
    """Ask a job to stop, after a checkpoint."""
    from pangu_rl.cluster import jobs

    typer.echo(jobs.stop(job, address=address))


@app.command("list", rich_help_panel=CLUSTER)
def list_jobs(address: Address = None, as_json: AsJson = False) -> None:
    """List the jobs of the cluster, newest first."""
    from pangu_rl.cluster import jobs

    rows = jobs.list_jobs(address=address)
    if as_json:
        typer.echo(json.dumps(rows))
        return
    for row in rows:
        typer.echo("  ".join(str(value) for value in row.values()))
