"""`pangu-rl config`: look at a configuration before anything is started."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from pangu_rl.cli.app import ConfigFile, Overrides, StageName, app, load_stage
from pangu_rl.cli.program import SET_UP
from pangu_rl.errors import ConfigError

if TYPE_CHECKING:
    from pangu_rl.records import Prompt

config_app = typer.Typer(no_args_is_help=True, help="Show a configuration whole, or check it.")
app.add_typer(config_app, name="config", rich_help_panel=SET_UP)


@config_app.command("show")
def config_show(stage: StageName, config: ConfigFile, overrides: Overrides = None) -> None:
    """Print every setting, with what it means.

    File, overrides and defaults, as YAML that can be used in place of the file.
    """
    from pangu_rl.config.pages.commented import commented

    typer.echo(commented(load_stage(stage, config, overrides)), nl=False)


@config_app.command("check")
def config_check(stage: StageName, config: ConfigFile, overrides: Overrides = None) -> None:
    """Check a configuration, its files, rewards and first rows.

    Nothing is started: files must be there, reward functions must import, and the first rows of each file must be what
    the stage reads, their golds right by the first reward.
    """
    from pangu_rl.config.names.named_files import missing_files

    found = load_stage(stage, config, overrides)
    if missing := missing_files(found):
        raise ConfigError(
            f"{config}: its keys and values are those of a sound {stage} configuration, and here are missing: "
            f"{', '.join(missing)} (paths are relative to the working directory {Path.cwd()}, or to the file's folder)"
        )
    from pangu_rl.data.first_rows import first_rows

    for line in first_rows(stage, found, _grader(found)):
        typer.echo(line)
    typer.echo(f"{config}: a sound {stage} configuration")


def _grader(config: Any) -> Callable[[Prompt], str | None] | None:
    """Says of a prompt why its gold is not right by the first reward; None of a stage without rewards of its own."""
    rewards = getattr(config, "rewards", None)
    if rewards is None:
        return None
    from rewards.audit import gold_problem
    from rewards.rubric import Rubric

    functions = Rubric.from_config(rewards).functions
    typer.echo(f"rewards: {', '.join(function.name for function in functions)}")
    if functions[0].name == "llm_score":
        return None  # its models would be asked, and those of a configuration's own are not started yet
    return lambda prompt: gold_problem(prompt, functions[0].call)
