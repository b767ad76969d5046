"""Rows of a stream with their sizes, **measured by the loaders ahead of their turn**. Stream -> packer.

Which rows come is known before their sizes are: so they are tokenised in parallel, in chunks, while the learner trains,
and what is made of them is kept until their pack is due.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pangu_rl.data.stream import PromptStream
from pretrain.packing.online import StreamSample

CHUNK = 64
"""Rows that a loader measures at once."""


class Measured(Protocol):
    """A chunk of rows that is being measured."""

    rows: Any
    """Where its rows are, encoded, until nobody refers to them any more."""

    def samples(self) -> Sequence[StreamSample | str]:
        """Each row as the packer sees it, or why it cannot be used; waits until they are there."""


Measure = Callable[[Sequence[int]], Measured]
"""Row numbers -> the chunk, at once."""


@dataclass(frozen=True, slots=True)
class _Chunk:
    before: dict[str, Any]
    """The stream's state before it."""
    size: int
    measured: Measured


class MeasuredStream:
    """One stream, and the chunks of it that have been asked for. What is asked for is not consumed."""

    def __init__(self, rows: PromptStream[int], ahead: int) -> None:
        """`ahead` rows are asked for at the first step; afterwards as many as the last one took."""
        self._rows, self._ahead = rows, ahead
        self._chunks: deque[_Chunk] = deque()
        self._samples: Sequence[StreamSample | str] = ()
        """Of the first chunk, once they are there."""
        self._place = 0
        """Rows of the first chunk that are taken."""
        self._taken = 0
        """Rows since the last `look_ahead`."""

    def begin(self, measure: Measure) -> None:
        """Ask for rows if none are being measured."""
        if not self._chunks:
            self._ask(measure, self._ahead)

    def next(self, measure: Measure) -> tuple[StreamSample | str, Any]:
        """The next row, or why it cannot be used, and where it is kept."""
        self.begin(measure)
        measured = self._chunks[0].measured
        self._samples = self._samples or measured.samples()
        sample = self._samples[self._place]
        self._place, self._taken = self._place + 1, self._taken + 1
        if self._place == self._chunks[0].size:
            self._chunks.popleft()
            self._place, self._samples = 0, ()
        return sample, measured.rows

    def look_ahead(self, measure: Measure) -> None:
        """A step is packed: ask for as many rows as it took."""
        self._ahead, self._taken = max(self._taken, 1), 0
        self._ask(measure, self._ahead)

    def state_dict(self) -> dict[str, Any]:
        """JSON values: what has been taken."""
        before = self._chunks[0].before if self._chunks else self._rows.state_dict()
        return {"stream": before, "taken": self._place}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises as that of `PromptStream`."""
        self._rows.load_state_dict(state["stream"])
        self._rows.next(state["taken"])
        self._chunks.clear()
        self._samples = ()
        self._place = self._taken = 0

    def _ask(self, measure: Measure, rows: int) -> None:
        there = sum(chunk.size for chunk in self._chunks) - self._place
        while there < rows:
            before = self._rows.state_dict()
            numbers = [int(row) for _, row in self._rows.next(CHUNK)]
            self._chunks.append(_Chunk(before, len(numbers), measure(numbers)))
            there += len(numbers)
