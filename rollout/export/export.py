"""`pangu-rl export RUN...`: stored rollouts -> **a folder of training data**, or figures about what would be in it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pangu_rl.config.export import ExportConfig, Target
from pangu_rl.errors import DataError
from rollout.export.card import Facts, manifest, write_card, write_manifest
from rollout.export.catalogue import Catalogue, open_catalogue, scratch_catalogue
from rollout.export.filters import Kept, apply_filters
from rollout.export.folder import new_folder
from rollout.export.formats import open_files
from rollout.export.pictures import ExportedPictures
from rollout.export.records import Records
from rollout.export.selection import Selected, select
from rollout.export.stats import read_stats
from rollout.export.videos import ExportedVideos


def export(runs: Sequence[Path], config: ExportConfig, output: Path) -> dict[str, Any]:
    """Write the folder `output`; returns its manifest and the seconds it took.

    Raises:
        ConfigError: a filter that names no part or column. DataError: an unknown run, a store that cannot be read, no
            row that passes, an output that is there already, a full disk. Nothing half-written is left.
    """
    started = time.perf_counter()
    with new_folder(output) as folder, _progress() as progress:
        choosing = progress.add_task("choosing rows", total=None)
        scratch = folder / ".scratch"
        scratch.mkdir()
        with open_catalogue(runs, scratch) as catalogue:
            kept, selected = _selected(catalogue, config)
            progress.remove_task(choosing)
            made = _write(catalogue, config, kept, selected, folder, progress)
        scratch.rmdir()
        write_manifest(folder, made)
    return {**made, "seconds": round(time.perf_counter() - started, 3)}


def preview(runs: Sequence[Path], config: ExportConfig) -> dict[str, Any]:
    """What `export` would write, as counts; nothing is written.

    Raises:
        ConfigError, DataError: as `export`.
    """
    with scratch_catalogue(runs) as catalogue:
        _, selected = _selected(catalogue, config)
        return {"rows": selected.rows, "counts": selected.counts, "runs": _runs(catalogue)}


def stats(runs: Sequence[Path], config: ExportConfig) -> dict[str, Any]:
    """Figures of the rows that the filters keep, for `print_stats`.

    Raises:
        ConfigError, DataError: as `export`.
    """
    with scratch_catalogue(runs) as catalogue:
        kept = apply_filters(catalogue, config)
        return {"counts": kept.counts, **read_stats(catalogue)}


def _selected(catalogue: Catalogue, config: ExportConfig) -> tuple[Kept, Selected]:
    kept = apply_filters(catalogue, config)
    return kept, select(catalogue, kept, config)


def _write(
    catalogue: Catalogue, config: ExportConfig, kept: Kept, selected: Selected, folder: Path, progress: Progress
) -> dict[str, Any]:
    pictures = ExportedPictures(folder)
    shape: Target = "sft" if (config.to, config.format) == ("raw", "sharegpt") else config.to
    records = Records(catalogue, shape, pictures, ExportedVideos(folder))
    (folder / "data").mkdir()
    files = open_files(config.format, folder / "data", records.schema)
    task = progress.add_task(f"{config.to}, {config.format}", total=selected.rows)
    for rows in records:
        files.write(rows)
        progress.advance(task, len(rows))
    written = files.close()
    if not written:
        raise DataError(
            "nothing to export: " + ", ".join(f"{n} left out, {why}" for why, n in records.left_out.items())
        )
    facts = Facts(
        config=config,
        runs=_runs(catalogue),
        counts=selected.counts,
        rule=kept.grades.rule(config.to) if config.to in ("pairs", "iterative") else None,
        rows=sum(written.values()),
        left_out=records.left_out,
        pictures=pictures.files,
        columns={field.name: str(field.type) for field in records.schema},
    )
    if config.format == "hf":
        write_card(folder, replace(facts, columns={**facts.columns, "images": "list<image>"}))
    return manifest(facts, folder, written)


def _runs(catalogue: Catalogue) -> list[dict[str, Any]]:
    found = catalogue.all(
        "SELECT run, count(*), min(step), max(step) FROM rollouts GROUP BY run ORDER BY min(position)"
    )
    return [{"run": run, "rows": rows, "steps": [first, last]} for run, rows, first, last in found]


@contextmanager
def _progress() -> Iterator[Progress]:
    columns: Sequence[Any] = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield progress
