"""The program as a whole: **what `--help` shows**, and the options that stand before every command."""

from __future__ import annotations

import sys
from itertools import groupby
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

UsageError: Any = typer.BadParameter.__base__
"""Of click, which is typer's own in new versions of it."""
DEBUG = "--debug"
SET_UP, TRAIN, LOOK = "Set up", "Train", "Measure and look"
SAMPLE, WHOLE = "Sample and select", "Whole recipes"
DATA, REWARDS, CLUSTER = "Data", "Rewards of your own", "Clusters"
TITLES = (SET_UP, TRAIN, LOOK, SAMPLE, WHOLE, DATA, REWARDS, CLUSTER)
"""Under which `--help` shows the commands, in this order; those without one come last."""
UNTITLED = "More"


class Program(TyperGroup):
    """Commands stand under their titles, each with one whole line, and `--debug` may stand anywhere."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # typer's class of contexts is not public
        own, separator, passed = _split(args)
        ctx.obj = DEBUG in own
        return super().parse_args(ctx, [arg for arg in own if arg != DEBUG] + separator + passed)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        shown = [command for name in self.list_commands(ctx) if (command := self.get_command(ctx, name))]
        by_title = sorted(shown, key=lambda command: (*TITLES, UNTITLED).index(_title(command)))
        widest = max(len(command.name) for command in shown)
        for title, commands in groupby(by_title, key=_title):
            with formatter.section(title):
                formatter.write_dl([(command.name.ljust(widest), summary(command)) for command in commands])


def complain(error: Any) -> None:
    """Say on stderr, in one line, what is wrong with a command line, and where it is explained."""
    said = error.format_message()
    if error.ctx is None or "\n" in said:  # the help itself, of a command that was given nothing
        error.show()
        return
    if getattr(error, "option_name", None) and not error.possibilities and "overrides" in _names(error.ctx.command):
        said += ": settings have no dashes, write section.key=value"
    if "'--config'" in said and (files := [word for word in sys.argv[1:] if word.endswith((".yaml", ".yml"))]):
        said = f"{said.rstrip('.')}: write --config {files[0]}"
    said = said[:1].lower() + said[1:].rstrip(".").replace(": Value error, ", ": ")
    command = error.ctx.command_path
    typer.echo(f"error: {command}: {said}; see `{command} --help`", err=True)


def summary(command: TyperCommand) -> str:
    """The first paragraph of its documentation."""
    return " ".join((command.help or "").partition("\n\n")[0].split())


def _names(command: Any) -> set[str]:
    return {parameter.name for parameter in command.params}


def _title(command: Any) -> str:
    return command.rich_help_panel if command.rich_help_panel in TITLES else UNTITLED


def debugging() -> bool:
    """Whether the command line asks for whole tracebacks."""
    return DEBUG in _split(sys.argv[1:])[0]


def program_version() -> str:
    from importlib.metadata import version

    return f"pangu-rl {version('pangu-rl')}"


def _split(args: list[str]) -> tuple[list[str], list[str], list[str]]:
    """Before, at and behind `--`."""
    place = args.index("--") if "--" in args else len(args)
    return args[:place], args[place : place + 1], args[place + 1 :]
