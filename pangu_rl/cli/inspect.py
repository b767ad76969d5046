"""`pangu-rl inspect`: what a stage would train of a file, before anything is started."""

from __future__ import annotations

import json
from typing import Annotated, Literal

import typer

from pangu_rl.cli.app import AsJson, app
from pangu_rl.cli.program import DATA


@app.command(rich_help_panel=DATA)
def inspect(
    file: Annotated[str, typer.Argument(help="JSONL, JSON array, Parquet, tar, a saved `datasets` folder.")],
    model: Annotated[
        str, typer.Option(help="Model whose tokenizer and template read it: a folder, a hub id, or a run directory.")
    ],
    stage: Annotated[Literal["sft", "dpo", "grpo"], typer.Option(help="Who is to train on it.")] = "sft",
    template: Annotated[str | None, typer.Option(help="Jinja file instead of the model's own template.")] = None,
    rows: Annotated[int, typer.Option(min=0, help="Rows to show token by token.")] = 3,
    settings: Annotated[
        list[str] | None,
        typer.Option("--data", help="As under `data:`, e.g. media_root=pictures format=trl."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a stage would train of a file, token by token.

    The first rows with their trained tokens coloured and pictures at their places, lengths, what is refused and why,
    counted by reason.
    """
    from rich.console import Console

    from pangu_rl.checkpoint.model_folder import model_config
    from pangu_rl.checkpoint.run_model import named_model
    from pangu_rl.config.load import apply_override, checked
    from pangu_rl.config.paths import is_address, resolve_path
    from pangu_rl.config.sections.rows import InspectedRowsConfig
    from pangu_rl.data.encoding import Encoder
    from pangu_rl.data.pictures import PictureFolder
    from pangu_rl.loops.inspect_rows import inspect_rows
    from pangu_rl.storage.copies import bring

    tree: dict = {}
    for setting in settings or ():
        apply_override(tree, setting)
    rows_file = resolve_path(file)
    if is_address(file):
        bring([rows_file])
    folder = named_model(model, "--model")
    model_config(folder, "--model")
    encoder = Encoder(folder, template)
    data = checked(InspectedRowsConfig, tree, "--data")
    pictures = PictureFolder(data.media_root, folder, encoder.family, rows=[rows_file])
    found = inspect_rows(rows_file, stage, encoder, pictures, data=data, rows=rows)
    if as_json:
        typer.echo(json.dumps(found.as_dict()))
    else:
        Console().print(found.table())
