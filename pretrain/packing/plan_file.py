"""A plan on disk: **written once, whole, and read a step at a time**.

    manifest.json       settings, figures, and SHA-256 of the metadata and of the files below
    packs.parquet       one row per pack in the order of training, the packs carried over last
    left_out.parquet    every sample that no step trains on, with the reason

The same metadata and settings give the same bytes. Nothing in it is a path, a time or a host.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pangu_rl.checkpoint.manifest import flush
from pangu_rl.config.sections.packing import PackingConfig
from pangu_rl.errors import ConfigError, DataError
from pretrain.packing.balance import deal
from pretrain.packing.metadata import Metadata, file_sha256
from pretrain.packing.plan import LEFT_OUT, Plan

VERSION = 2
MANIFEST, PACKS, REST = "manifest.json", "packs.parquet", "left_out.parquet"
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


def write_plan(directory: Path, plan: Plan, metadata: Metadata, config: PackingConfig) -> dict[str, Any]:
    """Write `plan` as the folder `directory`, which appears when it is complete; returns the manifest.

    Raises:
        DataError: the folder is there already and holds anything but this very plan, or cannot be written.
    """
    partial = directory.absolute().with_name(f".{directory.absolute().name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        _write_packs(partial / PACKS, plan, metadata, config)
        _write_left_out(partial / REST, plan, metadata)
        manifest = _manifest(partial, plan, metadata, config)
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        for path in (*partial.iterdir(), partial):
            flush(path)
        if directory.is_dir() and any(directory.iterdir()):
            _require_same(partial, directory)
        else:
            os.replace(partial, directory)
            flush(directory.absolute().parent)
    except OSError as error:
        raise DataError(f"{directory}: {error.strerror or error}; --output is a folder to write") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return manifest


class PlanReader:
    """A plan that a run trains on. Reading a step touches one part of the file."""

    def __init__(self, directory: Path, metadata: Path | None = None) -> None:
        """Check the files of `directory`, and with `metadata` that the plan was made from it.

        Raises:
            DataError: no plan, one that was changed, or one of other metadata; the message has both hashes.
        """
        self.directory = directory
        try:
            self.manifest: dict[str, Any] = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{directory / MANIFEST}: no plan that can be read ({error}); `pangu-rl pack`") from None
        if (version := self.manifest.get("version")) != VERSION:
            raise DataError(f"{directory}: a plan of version {version}, this program reads {VERSION}: pack again")
        for name, expected in self.manifest["files"].items():
            _require_hash(directory / name, expected, "the plan was changed or is incomplete: pack again")
        if metadata is not None:
            _require_hash(metadata, self.manifest["metadata"]["sha256"], f"{directory} was packed from other metadata")
        self.steps: int = self.manifest["steps"]
        self._step_packs: int = self.manifest["step_packs"]
        self._file = pq.ParquetFile(directory / PACKS, memory_map=True)
        self._group = lru_cache(maxsize=1)(self._file.read_row_group)

    def packs(self, step: int) -> list[PlannedPack]:
        """The global batch of `step`, from 0."""
        if not 0 <= step < self.steps:
            raise IndexError(f"step {step} of a plan with {self.steps} steps")
        first = step * self._step_packs
        group, offset = divmod(first, _packs_per_group(self._step_packs))
        count = min(self._step_packs, self.manifest["packs"] - first)
        return [
            PlannedPack(**row | {"ids": tuple(row["ids"]), "rows": tuple(row["rows"])})
            for row in self._group(group).slice(offset, count).to_pylist()
        ]

    def share(self, rank: int, step: int, ranks: int | None = None) -> list[PlannedPack]:
        """What `rank` trains on at `step`: as many packs as every other rank, heavy pictures first.

        `ranks` is another number of ranks than the plan was made for, if it divides the step's packs.

        Raises:
            ConfigError: it does not.
        """
        packs = self.packs(step)
        ranks = ranks or self.manifest["settings"]["ranks"]
        if len(packs) % ranks:
            raise ConfigError(
                f"{self.directory}: step {step} has {len(packs)} packs, which {ranks} ranks cannot share equally: "
                "use a number of ranks that divides them, or pack again"
            )
        return [packs[number] for number in deal(np.array([pack.visual_flops for pack in packs]), ranks)[rank]]


def _packs_per_group(step_packs: int) -> int:
    return step_packs * -(-GROUP_PACKS // step_packs)


def _write_packs(path: Path, plan: Plan, metadata: Metadata, config: PackingConfig) -> None:
    schema = pa.schema(
        [
            ("ids", pa.list_(metadata.ids.type)),
            ("rows", pa.list_(pa.int64())),
            ("tokens", pa.int64()),
            ("token_pairs", pa.float64()),
            ("visual_tokens", pa.int64()),
            ("visual_flops", pa.float64()),
        ]
    )
    group = _packs_per_group(config.step_packs)
    with pq.ParquetWriter(path, schema, compression="zstd", write_statistics=False) as writer:
        for first in range(0, len(plan.tokens), group):
            part = slice(first, first + group)
            starts = plan.starts[first : first + group + 1]
            rows = pa.array(plan.rows[starts[0] : starts[-1]])
            offsets = pa.array((starts - starts[0]).astype(np.int32))
            columns = [
                pa.ListArray.from_arrays(offsets, metadata.ids.take(rows)),
                pa.ListArray.from_arrays(offsets, rows),
                *(pa.array(getattr(plan, name)[part]) for name in schema.names[2:]),
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema), row_group_size=group)


def _write_left_out(path: Path, plan: Plan, metadata: Metadata) -> None:
    rows = pa.array(plan.left_out)
    reasons = pa.DictionaryArray.from_arrays(pa.array(plan.reasons), list(LEFT_OUT))
    tokens = pa.array(metadata.tokens[plan.left_out])
    table = pa.table({"id": metadata.ids.take(rows), "row": rows, "tokens": tokens, "reason": reasons})
    pq.write_table(table, path, compression="zstd", write_statistics=False)


def _manifest(directory: Path, plan: Plan, metadata: Metadata, config: PackingConfig) -> dict[str, Any]:
    left_out = Counter(LEFT_OUT[reason] for reason in plan.reasons.tolist())
    return {
        "version": VERSION,
        "metadata": {"file": metadata.name, "sha256": metadata.sha256, "samples": len(metadata)},
        "settings": config.model_dump(mode="json"),
        "step_packs": config.step_packs,
        "steps": -(-plan.packs // config.step_packs),
        "packs": plan.packs,
        "packs_carried_over": plan.carried_over,
        "samples": int(plan.starts[plan.packs]),
        "samples_left_out": {reason: left_out[reason] for reason in LEFT_OUT},
        "fill": plan.fill,
        "visual_imbalance": plan.visual_imbalance,
        "files": {name: file_sha256(directory / name) for name in (PACKS, REST)},
    }


def _require_same(new: Path, old: Path) -> None:
    for name in (MANIFEST, PACKS, REST):
        if not (old / name).is_file() or (old / name).read_bytes() != (new / name).read_bytes():
            raise DataError(f"{old}: holds another plan or something else; --output is a new folder for each plan")


def _require_hash(path: Path, expected: str, reason: str) -> None:
    if not path.is_file():
        raise DataError(f"{path}: no such file: {reason}")
    if (found := file_sha256(path)) != expected:
        raise DataError(f"{path}: sha256 {found}, expected {expected}: {reason}")
