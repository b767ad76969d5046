"""What is too much for memory, spread over files by a rule: **all that must meet lies in one bucket**, of bounded size.

Buckets are as many as keep one small, however many rows there are: each costs the same, so that the work grows with the
rows, where sorting all of them grows faster.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import numpy as np

SIZE = 2**18
"""Items of a bucket, about."""
_HELD = 2**19
"""Items that are held until they are written: a file then gets many at once."""


class Buckets:
    """Items of one dtype in `count` files, which are removed as they are read."""

    def __init__(self, scratch: Path, count: int, dtype: np.dtype) -> None:
        self._folder = Path(mkdtemp(dir=scratch))
        self._dtype = dtype
        self._held: list[tuple[np.ndarray, np.ndarray]] = []
        self._size = 0
        self.count = count

    def add(self, buckets: np.ndarray, items: np.ndarray) -> None:
        """`items` [N] go to `buckets` [N], numbers below `count`."""
        # Of few bits, which numpy sorts in one pass over them.
        self._held.append((buckets.astype(np.min_scalar_type(self.count)), items))
        self._size += len(items)
        if self._size >= _HELD:
            self._spread()

    def read(self, bucket: int) -> Iterator[np.ndarray]:
        """The items of one bucket in the order in which they were added, up to `SIZE` at a time."""
        self._spread()
        path = self._path(bucket)
        if not path.exists():
            return
        with path.open("rb") as file:
            while len(items := np.frombuffer(file.read(SIZE * self._dtype.itemsize), self._dtype)):
                yield items
        path.unlink()

    def close(self) -> None:
        """Behind the last one that was read."""
        self._folder.rmdir()

    def _spread(self) -> None:
        if not self._held:
            return
        buckets, items = map(np.concatenate, zip(*self._held, strict=True))
        self._held, self._size = [], 0
        order = np.argsort(buckets, kind="stable")
        ends = np.cumsum(np.bincount(buckets, minlength=self.count))
        for bucket, own in enumerate(np.split(items[order], ends[:-1])):
            if len(own):
                # Opened for each: a process may hold fewer files than there are buckets.
                with self._path(bucket).open("ab") as file:
                    file.write(own.tobytes())

    def _path(self, bucket: int) -> Path:
        return self._folder / str(bucket)
