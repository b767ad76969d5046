"""Stored rollouts: out of the store as training data, and the store made compact."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from pangu_rl.cli.app import AsJson, app
from pangu_rl.cli.program import DATA
from pangu_rl.config.export import ExportConfig, ExportFilters, Format, Target
from pangu_rl.config.load import checked
from pangu_rl.errors import ConfigError

Runs = Annotated[list[Path], typer.Argument(help="Run directories; a run may still be going on.")]
Output = Annotated[Path | None, typer.Option(help="A new folder, which appears when it is complete.")]
Stats = Annotated[bool, typer.Option("--stats", help="Print what the rows that pass are like, and write nothing.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print how many rows each filter leaves, and write nothing.")]


def _with_options(command: Callable[..., None]) -> Callable[..., None]:
    """`command` with one option for each field of `ExportConfig`, in place of its parameter `config`."""

    def run(**given: Any) -> None:
        named = {name: given.pop(name) for name in ExportConfig.model_fields}
        set_ones = {name: value for name, value in named.items() if value not in (None, [])}
        command(**given, config=checked(ExportConfig, set_ones, "export"))

    parameters = []
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        parameters += _options() if parameter.name == "config" else [parameter]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__doc__ = command.__doc__
    return run


def _options() -> Iterator[inspect.Parameter]:
    """Numbers and choices are typer's to read, texts are the schema's."""
    plain = {"to": Target, "format": Format, "min_tokens": int, "max_tokens": int, "near_duplicates": float}
    for name in ("to", "format", *ExportFilters.model_fields):
        field = ExportConfig.model_fields[name]
        annotation: Any = list[str] | None if field.default == () else plain.get(name, str) | None
        default = field.default if name in ("to", "format") else None
        option = typer.Option(f"--{name.replace('_', '-')}", help=field.description)
        yield inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[annotation, option]
        )


def export(
    runs: Runs,
    *,
    config: ExportConfig,
    output: Output = None,
    stats: Stats = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Turn stored rollouts into training data.

    SFT rows, preference pairs, RL prompts, sets for iterative fine-tuning, or raw rows. The same runs and options give
    the same bytes. manifest.json has counts per filter and hashes.
    """
    from rollout.export import export as exporting

    if stats or dry_run:
        found = exporting.stats(runs, config) if stats else exporting.preview(runs, config)
        typer.echo(json.dumps(found, ensure_ascii=False)) if as_json else _show(found)
        return
    if output is None:
        raise ConfigError("export: --output DIR is missing; --stats and --dry-run need none")
    made = exporting.export(runs, config, output)
    if as_json:
        typer.echo(json.dumps({**made, "output": str(output)}, ensure_ascii=False))
        return
    left_out = "".join(f"; {count} left out, {reason}" for reason, count in made["left_out"].items())
    typer.echo(
        f"{output}: {made['rows']} rows ({config.to}, {config.format}) of {made['counts']['stored']} rollouts, "
        f"{made['pictures']} pictures, in {made['seconds']:.1f} s{left_out}"
    )


def _show(found: dict[str, Any]) -> None:
    from rich.console import Console

    from rollout.export.stats import print_stats

    for name, count in found["counts"].items():
        typer.echo(f"{count:>10}  {name}")
    if "parts" in found:
        print_stats(found, Console())


app.command("export", rich_help_panel=DATA)(_with_options(export))


@app.command(rich_help_panel=DATA)
def compact(
    run: Annotated[Path, typer.Argument(help="Run directory; no run may be going on in it.")], as_json: AsJson = False
) -> None:
    """Merge the rollout shards of a finished run.

    Few large ones are left, and old ones are brought to the newest schema.
    """
    from rollout.compact import compact as merge

    summary = merge(run)
    typer.echo(json.dumps(summary.as_dict()) if as_json else str(summary))
