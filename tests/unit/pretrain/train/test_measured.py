"""A stream whose rows are measured ahead: the same rows in the same order, resumed at every place."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from pangu_rl.data.stream import PromptStream
from pretrain.packing.online import StreamSample
from pretrain.train.measured import CHUNK, MeasuredStream

ROWS = 150


@dataclass
class Loader:
    """Remembers what it was asked, and how often for its answers."""

    asked: list[list[int]] = field(default_factory=list)
    answered: Counter[int] = field(default_factory=Counter)

    def measure(self, rows: Sequence[int]) -> Chunk:
        self.asked.append(list(rows))
        return Chunk(self, len(self.asked) - 1, f"chunk {len(self.asked) - 1}")


@dataclass
class Chunk:
    loader: Loader
    number: int
    rows: str

    def samples(self) -> list[StreamSample]:
        self.loader.answered[self.number] += 1
        return [StreamSample(row, row + 1) for row in self.loader.asked[self.number]]


def stream(ahead: int = 10) -> MeasuredStream:
    return MeasuredStream(PromptStream(range(ROWS), shuffle=True, seed=3, identity="rows"), ahead)


def taken(rows: MeasuredStream, loader: Loader, count: int) -> list[int]:
    return [rows.next(loader.measure)[0].id for _ in range(count)]


def test_rows_come_as_the_stream_has_them_and_each_chunk_answers_once() -> None:
    loader = Loader()
    expected = [row for _, row in PromptStream(range(ROWS), shuffle=True, seed=3, identity="rows").next(4 * CHUNK)]
    assert taken(stream(), loader, 4 * CHUNK) == expected
    assert loader.answered == dict.fromkeys(range(4), 1)


@pytest.mark.parametrize("count", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, ROWS, ROWS + 7])
def test_it_goes_on_from_any_place_and_asks_for_nothing_twice(count: int) -> None:
    first, second, loader = stream(), stream(), Loader()
    taken(first, Loader(), count)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert taken(second, loader, 100) == taken(first, Loader(), 100)
    assert sum(map(len, loader.asked)) < 100 + CHUNK


def test_as_many_rows_are_asked_for_as_the_last_step_took() -> None:
    rows, loader = stream(ahead=2 * CHUNK), Loader()
    rows.begin(loader.measure)
    rows.begin(loader.measure)
    assert len(loader.asked) == 2 and not loader.answered
    taken(rows, loader, 3 * CHUNK)
    before = len(loader.asked)
    rows.look_ahead(loader.measure)
    assert len(loader.asked) - before == 2, "one more chunk was there"
    taken(rows, loader, 3 * CHUNK)
    assert len(loader.asked) - before == 2, "nothing is waited for"
    assert rows.next(loader.measure)[1].startswith("chunk ")
