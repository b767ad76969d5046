"""A run to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pangu_rl.cli.app import app
from pangu_rl.cli.program import LOOK


@app.command(rich_help_panel=LOOK)
def report(
    run: Annotated[Path, typer.Argument(help="Run directory; the run may still be going on.")],
    output: Annotated[Path | None, typer.Option(help="HTML file; by default RUN/report.html.")] = None,
    rollouts: Annotated[int, typer.Option(min=0, help="Rollouts per sheet: best, worst, longest, no verdict.")] = 6,
) -> None:
    """Write one HTML page about a run.

    Curves, evaluations, rewards, time per phase, rollouts with pictures.
    """
    from pangu_rl.report.page import write_report

    typer.echo(write_report(run, output, rollouts))
