"""`pangu-rl pack`: a file of sizes -> **the plan of a stage**, and what became of the samples."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console

from pangu_rl.config.sections.packing import PackingConfig
from pangu_rl.errors import DataError, RunError
from pretrain.packing.metadata import file_sha256, read_metadata
from pretrain.packing.pieces import Map, pieces_of, plan_pieces
from pretrain.packing.plan import make_plan
from pretrain.packing.plan_file import REST, Figures, Part, write_parts, write_plan
from pretrain.packing.unfinished import Tell, origin

NAMED = 3
"""Samples of each reason that the notes name; all are in the plan's list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What the command says at its end."""

    output: Path
    manifest: dict[str, Any]
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        per_rank = self.manifest["packs"] // self.manifest["settings"]["ranks"]
        figures = ("fill", "visual_imbalance", "steps", "packs", "packs_carried_over", "samples", "samples_left_out")
        return {
            **{name: self.manifest[name] for name in figures},
            "packs_per_rank_max": per_rank,
            "packs_per_rank_min": per_rank,
            "seconds": round(self.seconds, 3),
            "output": str(self.output),
        }

    def __str__(self) -> str:
        found = self.as_dict()
        return (
            f"{self.output}: {found['samples']} samples in {found['packs']} packs, {found['steps']} steps, in "
            f"{self.seconds:.1f} s; fill {found['fill']:.2%}, visual imbalance {found['visual_imbalance']:.4f}"
        )


def pack_file(metadata_path: Path, output: Path, config: PackingConfig, run: Map | None = None) -> Summary:
    """Plan `metadata_path` into the folder `output`; notes on stderr name what is left out.

    More than `PIECE_SAMPLES` are planned in pieces, by `run` or by as many processes as there are CPUs. A run that is
    interrupted is gone on with by the next one of the same metadata and settings: what is whole is kept.

    Raises:
        DataError, ConfigError: as `read_metadata`, `make_plan` and `write_plan` do. RunError: a process died.
    """
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    started = time.perf_counter()

    def tell(note: str) -> None:
        console.print(f"{output}: {note}", markup=False)

    with console.status("reading the metadata") as status:
        if (pieces := pieces_of(metadata_path)) > 1:
            status.update(f"packing {pieces} pieces")
            with nullcontext(run) if run else processes() as mapped:
                manifest = _in_pieces(metadata_path, output, config, mapped, tell)
        else:
            metadata = read_metadata(metadata_path, config)
            status.update(f"packing {len(metadata)} samples")
            plan = make_plan(metadata, config, workers=len(os.sched_getaffinity(0)))
            status.update("writing the plan")
            manifest = write_plan(output, plan, metadata, config)
    for note in _notes(output, manifest):
        console.print(note, markup=False)
    return Summary(output=output, manifest=manifest, seconds=time.perf_counter() - started)


def _in_pieces(path: Path, output: Path, config: PackingConfig, run: Map, tell: Tell) -> dict[str, Any]:
    before, sha256 = path.stat(), file_sha256(path)

    def plan(folder: Path) -> tuple[list[Part], Figures]:
        found = plan_pieces(path, sha256, folder, config, run, tell)
        if (path.stat().st_size, path.stat().st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise DataError(f"{path}: it was written to meanwhile, pack again when it is whole")
        return found

    return write_parts(output, plan, config, origin(sha256, config, pieces_of(path)), tell)


@contextmanager
def processes() -> Iterator[Map]:
    """Of this machine."""
    count = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_end_with_parent) as pool:
        try:
            yield pool.map
        except BrokenProcessPool:
            raise RunError(
                "a process that plans died, for want of memory perhaps: pack again with fewer CPUs, or on Ray; what is "
                "done is kept"
            ) from None


def _end_with_parent() -> None:
    """A worker whose parent was killed is told by nobody: it would wait for ever, or write into another run's."""
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def _notes(output: Path, manifest: dict[str, Any]) -> list[str]:
    counts = {reason: count for reason, count in manifest["samples_left_out"].items() if count}
    named: dict[str, list[str | int]] = {reason: [] for reason in counts}
    for name in manifest["files"]:
        wanted = [reason for reason, count in counts.items() if len(named[reason]) < min(count, NAMED)]
        if wanted and name.startswith(Path(REST).stem):
            rest = pq.read_table(output / name, columns=["id", "reason"])
            for reason in wanted:
                ids = rest.filter(pc.equal(rest["reason"].cast("string"), reason))["id"]
                named[reason] += ids.slice(0, NAMED - len(named[reason])).to_pylist()
    notes = []
    for reason, count in counts.items():
        listed = f", all in {REST}" if REST in manifest["files"] else ""
        more = f" and {count - len(named[reason])} more{listed}" if count > len(named[reason]) else ""
        notes.append(f"left out, {reason}: {', '.join(map(repr, named[reason]))}{more}")
    if not manifest["packs"]:
        ranks = manifest["settings"]["ranks"]
        notes.append(
            f"no step: {manifest['packs_carried_over']} packs for {ranks} ranks; use fewer ranks or a shorter context"
        )
    return notes
