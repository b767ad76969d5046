"""For authors of reward plugins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from pangu_rl.cli.app import AsJson, app
from pangu_rl.cli.program import REWARDS


@app.command("new-reward", rich_help_panel=REWARDS)
def new_reward(
    name: Annotated[str, typer.Argument(help="Of the function, the module and the plugin, e.g. short_answer.")],
    output: Annotated[Path | None, typer.Option(help="Folder of the package; by default NAME.")] = None,
) -> None:
    """Write a package to start a reward plugin from.

    A function, its test, and the entry point.
    """
    from rewards.plugins.new_package import new_package

    folder = output or Path(name)
    for file in new_package(name, folder):
        typer.echo(file)
    typer.echo(f"next: pip install -e {folder} && pangu-rl check-plugin {name}", err=True)


@app.command("check-plugin", rich_help_panel=REWARDS)
def check_plugin(
    plugin: Annotated[str, typer.Argument(help="Installed name, path/to/file.py:function, or a package's folder.")],
    args: Annotated[list[str] | None, typer.Argument(help="Arguments of the function, e.g. limit=48.")] = None,
    prompts: Annotated[Path | None, typer.Option(help="Prompts of the plugin's kind; 3 are used.")] = None,
    deadline_s: Annotated[float, typer.Option(min=0.01, help="Seconds that one call may take.")] = 10.0,
    as_json: AsJson = False,
) -> None:
    """Test a reward function against its contract.

    Each call runs in a child process; exit code 1 when it fails. A plugin must be importable and callable, give a
    number or a Part for right, wrong, empty, hostile and very long completions, be deterministic, end by its deadline
    and survive one, and leave its input alone.
    """
    from rich.console import Console

    from pangu_rl.config.load import apply_override
    from pangu_rl.monitoring.findings import findings_json, findings_table, passed
    from rewards.plugins.contract import check_plugin as check
    from rewards.plugins.contract import plugin_names

    tree: dict = {}
    for argument in args or ():
        apply_override(tree, argument)
    rows = _prompts(prompts) if prompts else ()
    found = {name: check(name, tree, rows, deadline_s) for name in plugin_names(plugin)}
    if as_json:
        typer.echo(json.dumps({name: findings_json(findings) for name, findings in found.items()}))
    else:
        for name, findings in found.items():
            typer.echo(name)
            Console().print(findings_table(findings))
    if not all(map(passed, found.values())):
        raise typer.Exit(1)


def _prompts(path: Path) -> list:
    from pangu_rl.data.prompts import load_prompts

    return load_prompts(path).records[:3]
