"""`pangu-rl curate mini-corpus`: packages -> **sft, train and heldout.jsonl, metadata.parquet, media, report**.

    materials (PyPI, Debian) -> families x splits, on all cores -> rows -> files, whole or not at all

`heldout_blank.jsonl` has the held-out rows with blank pictures of the same sizes: what is left of the accuracy is
guessing. `heldout_shuffled.jsonl` has those with videos, their frames out of order: what is left is told without time.
`metadata.parquet` is what `pangu-rl pack` plans the SFT rows from. No two splits share a source item, and the same
packages give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from random import Random

from PIL import Image
from rich.console import Console
from rich.progress import Progress

from data_curation.corpus.families import FAMILIES
from data_curation.corpus.materials import Materials, gather
from data_curation.corpus.metadata import write_metadata
from data_curation.corpus.pictures.clips import FRAMES
from data_curation.corpus.report import write_report
from data_curation.corpus.sheet import draw_sheet
from data_curation.corpus.splits import SHARES
from data_curation.corpus.writing import MEDIA, Unit, Written, write_unit
from data_curation.schema import Row
from data_curation.sources.folders import whole_folder, write_rows
from data_curation.sources.items import Split

HOME = "cache://data/mini_corpus"
BLANK = (242, 242, 242)
MAX_WORKERS = 8

Sizes = dict[str, tuple[int, int]]


def prepare(directory: Path) -> Path:
    """The whole corpus in `directory`; kept if already there, with a word if another version of this code made it."""
    if not (directory / "report.json").is_file():
        return build(directory)
    if json.loads((directory / "report.json").read_text(encoding="utf-8")).get("generator") != generator():
        console = Console(stderr=True)
        console.print(
            f"{directory} was made by another version of the corpus: delete it to have it made anew", style="yellow"
        )
    return directory


def generator() -> str:
    """What the samples are a function of beside the packages: a hash of the code that makes them."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def build(directory: Path, *, scale: float = 1.0, with_debian: bool = True, workers: int | None = None) -> Path:
    """Build the corpus in `directory`, whole or not at all.

    Args:
        scale: Of the number of samples of each family.
        with_debian: Without it, the PyPI packages alone are used, as on a machine without apt.
        workers: Processes; by default one per core.
    """
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        fetching = progress.add_task("packages", total=None)
        materials = gather(
            with_debian=with_debian, on_package=lambda package: progress.update(fetching, description=package)
        )
        progress.remove_task(fetching)
        with whole_folder(directory) as folder:
            units = _units(scale)
            written: dict[tuple[str, Split], Written] = {}
            drawing = progress.add_task("samples", total=sum(unit.count for unit in units))
            for unit, result in _write_all(units, materials, folder, workers or min(MAX_WORKERS, os.cpu_count() or 1)):
                written[unit.family, unit.split] = result
                progress.update(drawing, advance=unit.count)
            _write_files(folder, written, materials)
    for package, reason in materials.missing.items():
        console.print(f"made without {package}: {reason}", style="yellow", highlight=False)
    return directory


def _units(scale: float) -> list[Unit]:
    return [
        Unit(name, split, round(family.count * scale * share))
        for name, family in FAMILIES.items()
        for split, share in SHARES.items()
    ]


def _write_files(folder: Path, written: dict[tuple[str, Split], Written], materials: Materials) -> None:
    """Everything but the pictures of the samples; the report comes last, since it says that all is there."""
    rows: dict[str, list[Row]] = {
        split: [row for name in FAMILIES for row in written[name, split].rows] for split in SHARES
    }
    # Without pattern, so that the first so many are a sample of all.
    rows["heldout"].sort(key=lambda row: hashlib.sha256(row["id"].encode()).hexdigest())
    _check_apart(rows)
    sizes: Sizes = {path: size for result in written.values() for path, size in result.sizes.items()}
    rows["heldout_blank"] = list(_blank_twins(rows["heldout"], sizes, folder))
    rows["heldout_shuffled"] = list(_shuffled_twins(rows["heldout"]))
    for name, some in rows.items():
        write_rows(folder / f"{name}.jsonl", some)
    tokens = write_metadata(folder / "metadata.parquet", rows["sft"], sizes)
    draw_sheet(folder, [row for split in SHARES for row in rows[split]], materials)
    left_out = {
        f"{name}/{split}": dict(result.left_out) for (name, split), result in written.items() if result.left_out
    }
    families = {name: {split: len(written[name, split].rows) for split in SHARES} for name in FAMILIES}
    splits = {split: rows[split] for split in SHARES}
    write_report(
        folder, splits, sizes, tokens, {"generator": generator(), "families": families, "left_out": left_out}, materials
    )


def _check_apart(rows: dict[str, list[Row]]) -> None:
    owner: dict[str, str] = {}
    for split, some in rows.items():
        for row in some:
            for item in row["items"]:
                assert owner.setdefault(item, split) == split, f"{row['id']}: {item} is in {owner[item]} too"


def _blank_twins(rows: Iterable[Row], sizes: Sizes, folder: Path) -> Iterator[Row]:
    """The rows with blank pictures of the same sizes, which are written as they are needed."""
    for row in rows:
        blanks = [f"{MEDIA}/blank/{'x'.join(map(str, sizes[path]))}.png" for path in row["images"]]
        for path, blank in zip(row["images"], blanks, strict=True):
            if not (folder / blank).is_file():
                (folder / blank).parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", sizes[path], BLANK).save(folder / blank)
        yield row | {"images": blanks}


def _shuffled_twins(rows: Iterable[Row]) -> Iterator[Row]:
    """The rows with whole videos, their frames in another order under the times of before."""
    for row in rows:
        if row["source"] == "video" and len(row["images"]) == FRAMES:
            yield row | {"images": Random(row["id"]).sample(row["images"], FRAMES)}


# Processes ------------------------------------------------------------------------------------------------------------

_here: tuple[Materials, Path] | None = None
"""In a child process: what it makes all its units from. Kept there, so that what it has read is read once."""


def _write_all(
    units: Sequence[Unit], materials: Materials, folder: Path, workers: int
) -> Iterator[tuple[Unit, Written]]:
    """Each unit with its outcome, in their order."""
    if workers == 1:
        yield from ((unit, write_unit(unit, materials, folder)) for unit in units)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_enter, initargs=(materials, folder)) as pool:
        yield from zip(units, pool.map(_write_here, units), strict=True)


def _enter(materials: Materials, folder: Path) -> None:
    global _here
    _here = (materials, folder)


def _write_here(unit: Unit) -> Written:
    assert _here is not None
    return write_unit(unit, *_here)
