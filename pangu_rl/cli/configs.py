"""`pangu-rl config`: look at a configuration before anything is started."""

from __future__ import annotations

from pathlib import Path

import typer

from pangu_rl.cli.app import ConfigFile, Overrides, StageName, app, load_stage
from pangu_rl.config.load import dump_config
from pangu_rl.config.named_files import missing_files
from pangu_rl.errors import ConfigError

config_app = typer.Typer(no_args_is_help=True, help="Look at a configuration.")
app.add_typer(config_app, name="config")


@config_app.command("show")
def config_show(stage: StageName, config: ConfigFile, overrides: Overrides = None) -> None:
    """Print the resolved configuration: file, overrides and defaults."""
    typer.echo(dump_config(load_stage(stage, config, overrides)), nl=False)


@config_app.command("check")
def config_check(stage: StageName, config: ConfigFile, overrides: Overrides = None) -> None:
    """Check a configuration, and that the files which it names are on this machine, without starting anything."""
    found = load_stage(stage, config, overrides)
    if missing := missing_files(found):
        raise ConfigError(
            f"{config}: its keys and values are those of a sound {stage} configuration, and here are missing: "
            f"{', '.join(missing)} (paths are relative to the working directory {Path.cwd()})"
        )
    typer.echo(f"{config}: a sound {stage} configuration")
