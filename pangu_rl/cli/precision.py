"""`pangu-rl align-precision`: do two implementations, or two devices, compute the same?"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

from pangu_rl.cli.app import AsJson, app
from pangu_rl.cli.program import LOOK
from pangu_rl.errors import RunError


@app.command("align-precision", rich_help_panel=LOOK)
def align_precision(
    one: Annotated[str, typer.Argument(help="Model folder, transformers:FOLDER, a trace, or a run directory.")],
    other: Annotated[str | None, typer.Argument(help="The other side, alike.")] = None,
    tokens: Annotated[int, typer.Option(min=2, help="Length of the fixed sequence that both sides are given.")] = 256,
    limit: Annotated[float, typer.Option(min=0.0, help="Of mean absolute and mean relative error.")] = 5e-3,
    save: Annotated[Path | None, typer.Option(help="Only write the trace of ONE, for another machine.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare two implementations layer by layer, or two runs.

    Forward and backward passes, or the losses of two runs; exit code 1 if they differ.
    A model folder runs as the learner runs it, transformers:FOLDER by the model's own code. The first layer beyond the
    limit is named; the losses of two run directories may be 1 % apart.
    """
    from rich.console import Console

    from pangu_rl.loops.align_precision import METRICS, align_traces, keep_trace, precision_table

    if (save is None) == (other is None):
        raise typer.BadParameter("give the other side, or --save FILE")
    if save is not None:
        keep_trace(one, save, tokens)
        return
    if (Path(one) / METRICS).is_file():
        _curves(Path(one), Path(str(other)), as_json)
        return
    found, first = align_traces(one, str(other), tokens=tokens, limit=limit)
    if as_json:
        typer.echo(json.dumps({"differences": [dataclasses.asdict(each) for each in found]}))
    else:
        Console().print(precision_table(found, limit))
    if first is not None:
        count = sum(each.beyond(limit) for each in found)
        raise RunError(
            f"{first.name} differs: MAE {first.mae:.2e}, MRE {first.mre:.2e}, the limit is {limit:g}; it is the first "
            f"of {count} that do"
        )


def _curves(one: Path, other: Path, as_json: bool) -> None:
    from pangu_rl.loops.align_precision import CURVE_LIMIT, align_curves

    apart = align_curves(one, other)
    typer.echo(json.dumps({"apart": apart}) if as_json else f"losses are at most {100 * apart:.3f} % apart")
    if apart > CURVE_LIMIT:
        raise RunError(f"the losses of {one} and {other} are {100 * apart:.2f} % apart, above {100 * CURVE_LIMIT:g} %")
