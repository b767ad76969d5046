"""Runs to look at while they go on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pangu_rl.cli.app import app
from pangu_rl.cli.program import LOOK


@app.command(rich_help_panel=LOOK)
def view(
    runs: Annotated[
        list[Path], typer.Argument(help="Run directories, also of pipelines and of curations; runs may be going on.")
    ],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of this machine alone; by default a free one.")] = 0,
) -> None:
    """Serve a page about runs that go on or are done.

    Curves side by side, rollouts with filters, groups with pictures and coloured tokens, pairs, pipelines, what was
    curated. It prints its address once; Ctrl-C ends it.
    """
    from pangu_rl.view.serve import serve

    serve(runs, port, typer.echo)
