"""`pangu-rl config`: look at a configuration before anything is started."""

from __future__ import annotations

import typer

from pangu_rl.cli.app import ConfigFile, Overrides, StageName, app, load_stage
from pangu_rl.config.load import dump_config

config_app = typer.Typer(no_args_is_help=True, help="Look at a configuration.")
app.add_typer(config_app, name="config")


@config_app.command("show")
def config_show(stage: StageName, config: ConfigFile, overrides: Overrides = None) -> None:
    """Print the resolved configuration: file, overrides and defaults."""
    typer.echo(dump_config(load_stage(stage, config, overrides)), nl=False)


@config_app.command("check")
def config_check(stage: StageName, config: ConfigFile, overrides: Overrides = None) -> None:
    """Check a configuration without starting anything."""
    load_stage(stage, config, overrides)
    typer.echo(f"{config}: a sound {stage} configuration")
