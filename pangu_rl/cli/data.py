"""Data before a run: grade it, index it, pack it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from pangu_rl.cli.app import AsJson, app
from pangu_rl.cli.program import DATA


@app.command(rich_help_panel=DATA)
def score(
    source: Annotated[
        Path, typer.Option("--input", help="JSONL, or - : prediction, gold, answer_type (auto), and more.")
    ],
    target: Annotated[Path, typer.Option("--output", help="JSONL, or - : each row with outcome, reward and seconds.")],
    on_bad_row: Annotated[
        Literal["report", "fail"], typer.Option(help="A row that cannot be graded: outcome error, or exit code 2.")
    ] = "report",
    workers: Annotated[int | None, typer.Option(min=1, help="Child processes; default: one per core, up to 4.")] = None,
    deadline_s: Annotated[float, typer.Option(min=0.01, help="Seconds until a check is ended as timeout.")] = 2.0,
    as_json: AsJson = False,
) -> None:
    """Grade predictions against golds, line for line.

    The fields of a row pass through unchanged; `-` is standard input or output. Optional fields: choices, metric,
    coordinates (pixel, 0-999, 0-1), image_size. A row without a verdict has reward null and outcome timeout, killed or
    error.
    """
    from rewards.score_file import STANDARD, score_file_with_progress

    summary = score_file_with_progress(source, target, on_bad_row=on_bad_row, workers=workers, deadline_s=deadline_s)
    said = json.dumps(summary.as_dict()) if as_json else f"{target}: {summary}"
    typer.echo(said, err=target == STANDARD)


@app.command(rich_help_panel=DATA)
def index(
    files: Annotated[list[str], typer.Argument(help="JSONL, Parquet and tar files, or folders of one kind of them.")],
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Folder; by default the one beside the rows that stages find.")
    ] = None,
    media_root: Annotated[str | None, typer.Option(help="Folder in which rows' pictures must be.")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0: as many as there are CPUs.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Index large files of rows, once for all stages.

    Where rows lie: every stage that reads them opens the index instead.
    A stage makes a missing one by itself. A folder named here is given as `data.train` (or `data.sft`) in place of the
    files. Rows that cannot be used are named, and the exit code is 2 when there is no other.
    """
    from pangu_rl.config.paths import is_address, resolve_path
    from pangu_rl.data.index.command import write_index
    from pangu_rl.storage.copies import bring

    sources = [resolve_path(file) for file in files]
    bring([source for source, file in zip(sources, files, strict=True) if is_address(file)])
    root = resolve_path(media_root) if media_root else None
    summary = write_index(sources, resolve_path(output) if output else None, root, workers)
    typer.echo(json.dumps(summary.as_dict()) if as_json else str(summary))


@app.command(rich_help_panel=DATA)
def pack(
    metadata: Annotated[Path, typer.Option(help="Parquet: id, text_tokens, width, height, and more.")],
    context: Annotated[int, typer.Option(help="Tokens of a pack.")],
    ranks: Annotated[int, typer.Option(help="Data-parallel ranks; each gets the same number of packs.")],
    output: Annotated[Path, typer.Option(help="Folder of the plan, a new one.")],
    settings: Annotated[
        list[str] | None, typer.Argument(help="E.g. seed=1 visual_tokens=20000 shares.text=2 shares.vl=8.")
    ] = None,
    global_batch: Annotated[int | None, typer.Option(help="Packs of a step; default: one per rank.")] = None,
    as_json: AsJson = False,
) -> None:
    """Plan packed training batches from sizes alone.

    No picture is opened. The same input gives the same plan.
    Columns: width and height are numbers, or lists for several pictures (0 or empty for none); optional are source, and
    for videos frames, or duration with the fps to sample at. Settings: docs/settings.md has them.
    More than a million samples are planned in pieces, on the CPUs of this machine, or of the cluster of RAY_ADDRESS.
    """
    from pangu_rl.config.load import apply_override, checked
    from pangu_rl.config.sections.packing import PackingConfig
    from pretrain.packing.pack import pack_file

    tree = {"context": context, "ranks": ranks, "global_batch": global_batch}
    for setting in settings or ():
        apply_override(tree, setting)
    config = checked(PackingConfig, tree, "pack")
    if address := os.environ.get("RAY_ADDRESS"):
        from pangu_rl.cluster.mapping import cluster_map
        from pangu_rl.config.sections.trainer import ClusterConfig

        with cluster_map(ClusterConfig(address=address)) as run:
            summary = pack_file(metadata, output, config, run)
    else:
        summary = pack_file(metadata, output, config)
    typer.echo(json.dumps(summary.as_dict()) if as_json else str(summary))
