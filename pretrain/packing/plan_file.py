"""A plan on disk: **written once, whole, and read a step at a time**.

    manifest.json       settings, figures, and SHA-256 of the metadata and of the files below
    packs.parquet       one row per pack in the order of training, the packs carried over last
    left_out.parquet    every sample that no step trains on, with the reason

A plan in pieces has numbered files of both, the steps of one before those of the next. The same metadata and settings
give the same bytes. Nothing in it is a path, a time or a host.
"""

from __future__ import annotations

import json
import os
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pangu_rl.config.sections.packing import PackingConfig
from pangu_rl.errors import DataError
from pangu_rl.whole_file import flush, whole_file
from pretrain.packing.metadata import Metadata, file_sha256
from pretrain.packing.plan import LEFT_OUT, Plan
from pretrain.packing.unfinished import PLAN, Tell, origin, unfinished

VERSION = 3
READ = (2, 3)
"""Version 2 has one part."""
MANIFEST, PACKS, REST = "manifest.json", "packs.parquet", "left_out.parquet"
CHECKED_FILES = 64
"""Of more files the others are checked when they are opened: at a billion rows there are two thousand."""
GROUP_PACKS = 1024
"""At least so many packs are read at once; a step never straddles two reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedPack:
    """What to lay end to end: samples in order, by id and by row of the metadata."""

    ids: tuple[str | int, ...]
    rows: tuple[int, ...]
    tokens: int
    token_pairs: float
    visual_tokens: int
    visual_flops: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Of the metadata."""

    name: str
    sha256: str
    samples: int
    video_seed: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Some steps of a plan: a file of packs, and one of samples that are left out."""

    packs_file: str = PACKS
    rest_file: str = REST
    packs: int
    """Those that are trained on; the file has those carried over behind them."""
    carried_over: int = 0
    samples: int
    """Of the packs that are trained on."""
    left_out: list[int]
    """Samples by number of the reason."""
    tokens: int
    """Of all packs."""
    visual_imbalance: float


def write_plan(directory: Path, plan: Plan, metadata: Metadata, config: PackingConfig) -> dict[str, Any]:
    """Write `plan` as the folder `directory`, which appears when it is complete; returns the manifest.

    Raises:
        DataError: the folder is there already and holds anything but this very plan, or cannot be written.
    """
    part = Part(
        packs=plan.packs,
        carried_over=plan.carried_over,
        samples=int(plan.starts[plan.packs]),
        left_out=np.bincount(plan.reasons, minlength=len(LEFT_OUT)).tolist(),
        tokens=int(plan.tokens.sum()),
        visual_imbalance=plan.visual_imbalance,
    )
    figures = Figures(name=metadata.name, sha256=metadata.sha256, samples=len(metadata), video_seed=metadata.video_seed)

    def write(folder: Path) -> tuple[list[Part], Figures]:
        packs = packs_table(plan, metadata, 0, len(plan.tokens))
        write_part(folder / PLAN, part, packs, rest_table(metadata, plan.left_out, plan.reasons), config.step_packs)
        return [part], figures

    # Nothing of a plan in one piece outlives a kill, so there is nothing to tell of.
    return write_parts(directory, write, config, origin(metadata.sha256, config, 1), tell=lambda note: None)


def write_parts(
    directory: Path,
    write: Callable[[Path], tuple[list[Part], Figures]],
    config: PackingConfig,
    made_from: Mapping[str, Any],
    tell: Tell,
) -> dict[str, Any]:
    """As `write_plan`, of the parts that `write` puts into `plan/` of an unfinished folder."""
    with unfinished(directory, made_from, tell) as folder:
        plan = folder / PLAN
        manifest = _manifest(plan, *write(folder), config)
        (plan / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        for path in (*plan.iterdir(), plan):
            flush(path)
        if directory.is_dir() and any(directory.iterdir()):
            _require_same(plan, directory)
        else:
            os.replace(plan, directory)
            flush(directory.absolute().parent)
    return manifest


def packs_table(plan: Plan, metadata: Metadata, first: int, last: int) -> pa.Table:
    """Packs `first` to `last` of a plan, in order: samples by id and by row of the metadata, and their sums."""
    starts = plan.starts[first : last + 1]
    samples = plan.rows[starts[0] : starts[-1]]
    offsets = pa.array(starts - starts[0])
    names = ("tokens", "token_pairs", "visual_tokens", "visual_flops")
    return pa.table(
        {
            "ids": pa.LargeListArray.from_arrays(offsets, metadata.ids.take(pa.array(samples))),
            "rows": pa.LargeListArray.from_arrays(offsets, pa.array(metadata.numbers[samples])),
            **{name: getattr(plan, name)[first:last] for name in names},
        }
    )


def rest_table(metadata: Metadata, samples: np.ndarray, reasons: np.ndarray) -> pa.Table:
    """Samples [L] that are left out, for `reasons` int8 [L]."""
    return pa.table(
        {
            "id": metadata.ids.take(pa.array(samples)),
            "row": metadata.numbers[samples],
            "tokens": metadata.tokens[samples],
            "reason": pa.DictionaryArray.from_arrays(pa.array(reasons), list(LEFT_OUT)),
        }
    )


def write_part(folder: Path, part: Part, packs: pa.Table, rest: pa.Table, step_packs: int) -> None:
    """The two files of a part, each of which appears when it is whole."""
    options = {"compression": "zstd", "write_statistics": False}
    schema = pa.schema([pa.field(f.name, _list_of(f.type) or f.type) for f in packs.schema])
    group = _packs_per_group(step_packs)
    with whole_file(folder / part.packs_file) as partial, pq.ParquetWriter(partial, schema, **options) as writer:
        for first in range(0, len(packs), group):
            writer.write_table(packs.slice(first, group).cast(schema), row_group_size=group)
    with whole_file(folder / part.rest_file) as partial:
        pq.write_table(rest, partial, **options)


def _list_of(kind: pa.DataType) -> pa.DataType | None:
    """Lists of a row group are small, those of all packs may not be."""
    return pa.list_(kind.value_type) if pa.types.is_large_list(kind) else None


class PlanReader:
    """A plan that a run trains on. Reading a step touches one part of the file."""

    def __init__(self, directory: Path) -> None:
        """Check the files of `directory`.

        Raises:
            DataError: no plan, or one that was changed; the message has both hashes.
        """
        self.directory = directory
        try:
            self.manifest: dict[str, Any] = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{directory / MANIFEST}: no plan that can be read ({error}); `pangu-rl pack`") from None
        if (version := self.manifest.get("version")) not in READ:
            read = " and ".join(map(str, READ))
            raise DataError(f"{directory}: a plan of version {version}, this program reads {read}: pack again")
        for name in list(self.manifest["files"])[:CHECKED_FILES]:
            self._require_whole(name)
        self.steps: int = self.manifest["steps"]
        self._step_packs: int = self.manifest["step_packs"]
        self._parts: dict[str, int] = self.manifest.get("parts", {PACKS: self.manifest["packs"]})
        """File -> its packs that are trained on."""
        self._ends = list(accumulate(-(-packs // self._step_packs) for packs in self._parts.values()))
        """Steps up to the end of each part."""
        self._file = lru_cache(maxsize=1)(self._opened)
        self._group = lru_cache(maxsize=1)(lambda name, group: self._file(name).read_row_group(group))

    def packs(self, step: int) -> list[PlannedPack]:
        """The global batch of `step`, from 0.

        Raises:
            DataError: the part that it stands in was changed.
        """
        if not 0 <= step < self.steps:
            raise IndexError(f"step {step} of a plan with {self.steps} steps")
        part = bisect_right(self._ends, step)
        name = list(self._parts)[part]
        first = (step - (self._ends[part - 1] if part else 0)) * self._step_packs
        group, offset = divmod(first, _packs_per_group(self._step_packs))
        count = min(self._step_packs, self._parts[name] - first)
        return [
            PlannedPack(**row | {"ids": tuple(row["ids"]), "rows": tuple(row["rows"])})
            for row in self._group(name, group).slice(offset, count).to_pylist()
        ]

    def some_ids(self, groups: int) -> Iterator[list[str]]:
        """The ids of about so many parts of the plan, a thousand packs each, spread evenly over it."""
        if not groups:
            return
        names = [name for name, packs in self._parts.items() if packs]
        for name in names[:: max(1, -(-len(names) // groups))]:
            file = self._file(name)
            for group in range(0, file.num_row_groups, -(-file.num_row_groups * len(names) // groups)):
                ids = file.read_row_group(group, columns=["ids"])["ids"].combine_chunks().flatten()
                yield ids.cast(pa.string()).to_pylist()

    def _opened(self, name: str) -> pq.ParquetFile:
        if name in list(self.manifest["files"])[CHECKED_FILES:]:
            self._require_whole(name)
        return pq.ParquetFile(self.directory / name, memory_map=True)

    def _require_whole(self, name: str) -> None:
        path, expected = self.directory / name, self.manifest["files"][name]
        reason = "the plan was changed or is incomplete: pack again"
        if not path.is_file():
            raise DataError(f"{path}: no such file: {reason}")
        if (found := file_sha256(path)) != expected:
            raise DataError(f"{path}: sha256 {found}, expected {expected}: {reason}")


def _packs_per_group(step_packs: int) -> int:
    return step_packs * -(-GROUP_PACKS // step_packs)


def _manifest(directory: Path, parts: Sequence[Part], figures: Figures, config: PackingConfig) -> dict[str, Any]:
    packs, carried = sum(part.packs for part in parts), sum(part.carried_over for part in parts)
    steps = [-(-part.packs // config.step_packs) for part in parts]
    uneven = sum(part.visual_imbalance * count for part, count in zip(parts, steps, strict=True))
    left_out = np.sum([part.left_out for part in parts], axis=0).tolist()
    files = [name for part in parts for name in (part.packs_file, part.rest_file)]
    return {
        "version": VERSION,
        "metadata": {
            "file": figures.name,
            "sha256": figures.sha256,
            "samples": figures.samples,
            "video_seed": figures.video_seed,
        },
        "settings": config.model_dump(mode="json"),
        "step_packs": config.step_packs,
        "steps": sum(steps),
        "packs": packs,
        "packs_carried_over": carried,
        "samples": sum(part.samples for part in parts),
        "samples_left_out": dict(zip(LEFT_OUT, left_out, strict=True)),
        "fill": sum(part.tokens for part in parts) / ((packs + carried) * config.context),
        "visual_imbalance": uneven / sum(steps) if sum(steps) else 1.0,
        "parts": {part.packs_file: part.packs for part in parts},
        "files": {name: file_sha256(directory / name) for name in files},
    }


def _require_same(new: Path, old: Path) -> None:
    names = {path.name for path in new.iterdir()}
    same = names == {path.name for path in old.iterdir()} and all(
        file_sha256(old / name) == file_sha256(new / name) for name in names
    )
    if not same:
        raise DataError(f"{old}: holds another plan or something else; --output is a new folder for each plan")
