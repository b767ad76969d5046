"""Is this machine fit for a run?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pangu_rl.cli.app import STAGES, AsJson, Overrides, app, load_stage
from pangu_rl.cli.program import SET_UP
from pangu_rl.errors import ConfigError

if TYPE_CHECKING:
    from pydantic import BaseModel


@app.command(rich_help_panel=SET_UP)
def doctor(
    overrides: Overrides = None,
    config: Annotated[Path | None, typer.Option(help="YAML of a stage: look at its paths and sizes too.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say what is wrong with this machine, and the mend.

    Packages, devices, Ray and its token, shared memory, ports, disk and paths; exit code 1 on a failure.
    """
    from rich.console import Console

    from pangu_rl.doctor.examine import examine
    from pangu_rl.monitoring.findings import findings_json, findings_table, passed

    if overrides and config is None:
        raise ConfigError(f"doctor {overrides[0]}: overrides are those of a configuration: name it with --config FILE")
    findings = list(examine(_loaded(config, overrides) if config else None))
    if as_json:
        typer.echo(json.dumps(findings_json(findings)))
    else:
        Console().print(findings_table(findings))
    if not passed(findings):
        raise typer.Exit(1)


def _loaded(config: Path, overrides: list[str] | None) -> BaseModel:
    """As the stage that its name begins with, else as the first whose schema takes it.

    Raises:
        ConfigError: no stage takes it; what the likeliest one says.
    """
    problems = []
    for stage in sorted(STAGES, key=lambda stage: not config.name.startswith(stage)):
        try:
            return load_stage(stage, config, overrides)
        except ConfigError as error:
            problems.append(error)
    raise problems[0]
