"""Log-probs of the pairs under the start model: computed once -> **one file, beside the run or shared** -> every step.

A header says of which model and which pairs, then comes a line per pair, in the order of the pairs. Lines are added a
chunk at a time; one that a crash cut short is cut off, and computed again.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from pangu_rl.data.packs.batching import PairRow
from pangu_rl.errors import DataError
from pangu_rl.storage.file_lock import held


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceIdentity:
    """What log-probs are a function of."""

    model: str
    """sha256 of the start model, see `checkpoint.model_folder.model_checksum`."""
    dtype: str
    pairs: str
    """Fingerprint of the pairs' token ids and pictures, in order."""


@dataclass(frozen=True, slots=True)
class Reference:
    """Of one pair: summed log-probs of its responses in nats."""

    id: str
    chosen: float
    rejected: float

    def on(self, row: PairRow) -> PairRow:
        """`row` with its reference."""
        return dataclasses.replace(row, reference=(self.chosen, self.rejected))


class ReferenceStore:
    """The file of one start model and one list of pairs."""

    def __init__(self, path: Path, identity: ReferenceIdentity, ids: Sequence[str], chunk: int) -> None:
        """`ids` are those of the pairs, in order; `chunk` is how many of them are computed and added at a time."""
        self.path = path
        self.identity = identity
        self.ids = ids
        self.chunk = chunk

    def check(self) -> None:
        """Refuse a file that is not the store of this model and these pairs; one that is not there yet is sound.

        Raises:
            DataError: it was made by another model, in another dtype or for other pairs, or is none of ours.
        """
        if not self.path.exists() or self.path.stat().st_size == 0:
            return
        try:
            with self.path.open("rb") as file:
                header = file.readline()
            found = ReferenceIdentity(**json.loads(header if header.endswith(b"\n") else b""))
        except (OSError, ValueError, TypeError):
            raise DataError(
                f"{self.path}: not a store of reference log-probs: delete it, or name another in data.reference"
            ) from None
        made = {
            "model": ("by another model: its sha256 was", "model.path"),
            "dtype": ("in another dtype: it was", "model.dtype"),
            "pairs": ("for other pairs: their fingerprint was", "data.train, or the chat template,"),
        }
        for key, (difference, setting) in made.items():
            was, now = getattr(found, key), getattr(self.identity, key)
            if was != now:
                raise DataError(
                    f"{self.path}: the reference log-probs were made {difference} {was[:16]}, now it is {now[:16]}: "
                    f"set {setting} back, delete the file to compute them anew, or name another in data.reference"
                )

    def held(self, say: Callable[[str], None], stop: Callable[[], None]) -> AbstractContextManager[None]:
        """Keep the file from other runs that share it: who comes second waits, and finds the log-probs computed. As
        `file_lock.held`."""
        return held(self.path.with_name(f".{self.path.name}.lock"), say, stop)

    def read(self) -> list[Reference]:
        """The pairs that are done, all or whole chunks of them; what stands behind them in the file is cut off.

        Raises:
            DataError: as `check`, or the file is damaged.
        """
        self.check()
        if not self.path.exists() or self.path.stat().st_size == 0:
            self._append(json.dumps(dataclasses.asdict(self.identity)) + "\n")
        header, *lines = (row for row in self.path.read_bytes().splitlines(keepends=True) if row.endswith(b"\n"))
        if len(lines) < len(self.ids):
            lines = lines[: len(lines) // self.chunk * self.chunk]
        try:
            done = [Reference(**json.loads(line)) for line in lines]
        except (ValueError, TypeError):
            done = []
        if [reference.id for reference in done] != list(self.ids[: len(lines)]):
            raise DataError(f"{self.path}: damaged, it does not hold the pairs in their order: delete it")
        with self.path.open("r+b") as file:
            file.truncate(len(header) + sum(map(len, lines)))
        return done

    def add(self, references: Sequence[Reference]) -> None:
        """Append one chunk, flushed to disk."""
        self._append("".join(json.dumps(dataclasses.asdict(reference)) + "\n" for reference in references))

    def _append(self, text: str) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
