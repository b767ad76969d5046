"""`pangu-rl plan`: what a step of GRPO would take on a cluster, before anything is started."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from pangu_rl.cli.app import AsJson, ConfigFile, Overrides, app, load_stage
from pangu_rl.cli.program import CLUSTER


@app.command(rich_help_panel=CLUSTER)
def plan(
    config: ConfigFile,
    overrides: Overrides = None,
    profile: Annotated[str, typer.Option(help="Name in configs/clusters/, or a .yaml file.")] = "local",
    lengths: Annotated[
        Path | None, typer.Option(help="Lengths of answers: a run directory, or a YAML of median, sigma and prompt.")
    ] = None,
    measured: Annotated[
        list[Path] | None, typer.Option(help="Directory of a synchronous GRPO run on such devices; may be repeated.")
    ] = None,
    picture: Annotated[Path | None, typer.Option(help="Draw who does what when, as PNG.")] = None,
    as_json: AsJson = False,
) -> None:
    """Predict how long a step of GRPO takes on a cluster.

    Seconds by phase, idle shares and memory of split, stale and shared placements.
    Without measured runs the figures follow from data sheets and usual shares of them: compare placements by them.
    """
    from rich.console import Console

    from pangu_rl.checkpoint.run_model import with_start
    from pangu_rl.cluster.jobs import load_profile
    from pangu_rl.simulation.case import read_case
    from pangu_rl.simulation.search import predictions, recommended
    from pangu_rl.simulation.shown import draw, plan_json, plan_table, problems, recommendation

    grpo = with_start(load_stage("grpo", config, overrides))
    case = read_case(grpo, load_profile(profile), lengths, measured or [])
    found = predictions(case)
    staleness = grpo.trainer.max_staleness
    chosen = recommended(found, staleness)
    if picture is not None:
        draw(found, picture)
    if as_json:
        typer.echo(json.dumps(plan_json(found, chosen)))
        return
    console = Console()
    console.print(plan_table(found))
    for line in [*problems(found), recommendation(chosen, staleness)]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
