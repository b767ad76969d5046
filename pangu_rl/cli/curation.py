"""Data from its sources to a trainable set: targets that packages hold, and pipelines of operators."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pangu_rl.cli.app import AsJson, app, read_for
from pangu_rl.cli.program import DATA
from pangu_rl.config.curate import CurateConfig
from pangu_rl.config.load import apply_override, load_config
from pangu_rl.config.paths import resolve_path
from pangu_rl.errors import ConfigError


@app.command(rich_help_panel=DATA)
def curate(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            help="text-prompts, smollm2, easy-vqa, tiny-pangu-vl, mini-corpus, few-rows or mini-pangu-vl; with "
            "--config overrides, e.g. output=runs/x."
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", help="YAML of a pipeline of operators.")] = None,
    output: Annotated[str | None, typer.Option(help="Folder; of a target, by default its place in the cache.")] = None,
    dry_run: Annotated[
        int | None, typer.Option(min=1, help="Show what each operator does to so many rows, and write nothing.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Build data from packages, or put rows through operators.

    A pipeline that was interrupted goes on. Exit code 1 when more rows end in an error than `max_error_rate`.
    """
    if config is None:
        _build(words or [], output, dry_run)
        return
    overrides = [*(words or ()), *([f"output={output}"] if output else ())]
    with read_for("curate", config):
        loaded = load_config(CurateConfig, config, overrides)
    try:
        _run(loaded, dry_run, as_json)
    except ConfigError as error:  # of an operator, which is looked for where it is needed
        raise ConfigError(f"{config}: {error}") from error


@app.command("check-operator", rich_help_panel=DATA)
def check_operator(
    operator: Annotated[str, typer.Argument(help="Its name, or path/to/file.py:function.")],
    args: Annotated[list[str] | None, typer.Argument(help="Its settings, e.g. least_chars=20.")] = None,
    rows: Annotated[Path | None, typer.Option(help="JSONL of rows of its kind; 20 are used.")] = None,
    media_root: Annotated[Path | None, typer.Option(help="Folder that their pictures lie in.")] = None,
    as_json: AsJson = False,
) -> None:
    """Test an operator of curation against its contract.

    Exit code 1 when it fails. It must say one verdict of plain, empty, hostile and very long rows, the same each time
    and in a fresh process, and leave the row alone.
    """
    from data_curation.pipeline.contract import check_operator as check
    from pangu_rl.monitoring.findings import findings_json, findings_table, passed

    tree: dict = {}
    for argument in args or ():
        apply_override(tree, argument)
    found = check(operator, tree, rows, media_root)
    if as_json:
        typer.echo(json.dumps(findings_json(found)))
    else:
        Console().print(findings_table(found))
    if not passed(found):
        raise typer.Exit(1)


def _build(words: list[str], output: str | None, dry_run: int | None) -> None:
    from data_curation.curate import curate as build

    if words and words[0].endswith((".yaml", ".yml")):
        raise ConfigError(f"curate {words[0]}: a pipeline of operators is named by an option, --config {words[0]}")
    if len(words) != 1 or dry_run is not None:
        raise ConfigError("curate: name one target, or a pipeline with --config (and --dry-run N)")
    typer.echo(build(words[0], resolve_path(output) if output else None))


def _run(config: CurateConfig, dry_run: int | None, as_json: bool) -> None:
    from data_curation.pipeline.counted import counts_table

    console = Console(stderr=as_json, highlight=False, soft_wrap=True)
    if dry_run is None:
        from data_curation.pipeline.run import run_pipeline

        summary = run_pipeline(config, lambda line: typer.echo(line, err=True))
    else:
        from data_curation.pipeline.dry_run import dry_run as show

        summary, steps = show(config, dry_run)
        table = Table(box=None, pad_edge=False)
        for name in ("operator", "row", "what"):
            table.add_column(name, overflow="fold")
        for step in steps:
            table.add_row(step.operator, Text(step.uid), Text(step.what))
        console.print(table)
    console.print(counts_table(summary.tallies))
    if as_json:
        typer.echo(json.dumps(summary.as_dict()))
    elif summary.output:
        typer.echo(f"{summary.output}: {summary.rows} rows")
