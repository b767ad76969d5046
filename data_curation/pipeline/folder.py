"""What lies where in a folder of output; each file appears whole, and `done` names the last of its block.

rows/00000.jsonl            what is left, a shard per block of input
dropped/00-00000.jsonl      what stage 0 put aside of block 0: operator, reason, the row
stages/00/rows, features, decisions, ids, done
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pangu_rl.whole_file import whole_file

PLAN = "stages/plan.json"
MANIFEST = "curation.json"
SCRATCH = ".scratch"
"""How the folder begins in which a set operator keeps what memory does not hold, in that of its stage."""


@dataclass(frozen=True, slots=True)
class Folder:
    root: Path

    def rows(self, stage: int, block: int, *, last: bool) -> Path:
        return (self.root / "rows" if last else self.stage(stage) / "rows") / f"{block:05d}.jsonl"

    def dropped(self, stage: int, block: int) -> Path:
        return self.root / "dropped" / f"{stage:02d}-{block:05d}.jsonl"

    def features(self, stage: int, block: int) -> Path:
        return self.stage(stage) / "features" / f"{block:05d}.parquet"

    def decisions(self, stage: int, block: int) -> Path:
        return self.stage(stage) / "decisions" / f"{block:05d}.jsonl"

    def ids(self, stage: int, block: int) -> Path:
        return self.stage(stage) / "ids" / f"{block:05d}.npy"

    def decided(self, stage: int) -> Path:
        return self.stage(stage) / "decided.json"

    def done(self, stage: int, block: int) -> Path:
        return self.stage(stage) / "done" / f"{block:05d}.json"

    def stage(self, stage: int) -> Path:
        return self.root / "stages" / f"{stage:02d}"

    def prepare(self, stage: int) -> None:
        for name in ("rows", "features", "decisions", "ids", "done"):
            (self.stage(stage) / name).mkdir(parents=True, exist_ok=True)
        for name in ("rows", "dropped"):
            (self.root / name).mkdir(exist_ok=True)
        self._clean(stage)

    def _clean(self, stage: int) -> None:
        """Take away what a run that was killed left."""
        for left in self.stage(stage).glob(f"{SCRATCH}*"):
            shutil.rmtree(left)
        for left in (*self.stage(stage).glob("*/.*.partial"), *self.root.glob("*/.*.partial")):
            left.unlink()

    def forget(self, stage: int, block: int) -> None:
        """Take away what this stage made of a block; later ones are forgotten before it."""
        self.done(stage, block).unlink(missing_ok=True)
        for left in (self.dropped(stage, block), self.rows(stage, block, last=True)):
            left.unlink(missing_ok=True)

    def forget_decided(self, stage: int) -> None:
        """Take away what the set operator behind this stage decided."""
        self.decided(stage).unlink(missing_ok=True)
        for left in self.decisions(stage, 0).parent.glob("*.jsonl"):
            left.unlink()

    def forget_from(self, stage: int) -> None:
        """Take away all that this stage and later ones made."""
        for folder in (self.root / "stages").glob("[0-9]*"):
            if int(folder.name) >= stage:
                shutil.rmtree(folder)
        for file in (self.root / "dropped").glob("*.jsonl"):
            if int(file.name.partition("-")[0]) >= stage:
                file.unlink()
        shutil.rmtree(self.root / "rows", ignore_errors=True)
        (self.root / MANIFEST).unlink(missing_ok=True)


def write_json(path: Path, tree: Any) -> None:
    with whole_file(path) as partial:
        partial.write_bytes(json.dumps(tree, ensure_ascii=False, indent=1, sort_keys=True).encode() + b"\n")


def read_json(path: Path) -> Any:
    """None where there is none."""
    return json.loads(path.read_bytes()) if path.is_file() else None


def write_lines(path: Path, trees: Iterable[Any]) -> None:
    lines = (json.dumps(tree, ensure_ascii=False) for tree in trees)
    # Half a surrogate pair, which JSON can spell, is no UTF-8: such a row is refused as it is read.
    with whole_file(path) as partial:
        partial.write_bytes("".join(f"{line}\n" for line in lines).encode())


def read_lines(path: Path) -> Iterator[Any]:
    with path.open("rb") as file:
        yield from map(json.loads, file)


def write_table(path: Path, table: pa.Table) -> None:
    with whole_file(path) as partial:
        pq.write_table(table, partial, compression="zstd")


def write_array(path: Path, array: np.ndarray) -> None:
    with whole_file(path) as partial, partial.open("wb") as file:
        np.save(file, array, allow_pickle=False)
