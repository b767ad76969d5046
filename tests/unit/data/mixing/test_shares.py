"""How often an epoch has each row of a source: worked by hand, as a list and as a sequence that holds none."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from pangu_rl.data.conversations import Conversation
from pangu_rl.data.files.rows import Loaded
from pangu_rl.data.formats.mixture import by_shares, first_copy, named_by_file
from pangu_rl.data.mixing.shares import RepeatedRows, times_by_source
from pangu_rl.errors import ConfigError


def rows(**sources: int) -> Loaded[Conversation]:
    records = [
        Conversation(uid=f"{source}{number}", messages=(), source=source)
        for source, count in sources.items()
        for number in range(count)
    ]
    return Loaded(Path("rows.jsonl"), "refuse", records, list(range(1, len(records) + 1)), [], [])


def test_the_source_with_most_for_its_share_comes_once() -> None:
    """10 of a for half, 4 of b for half: b comes 2.5 times. By sizes of 1 and 5: 10 and 20, so a comes twice."""
    assert times_by_source({"a": 1, "b": 1}, {"a": 10, "b": 4}, "rows") == {"a": 1.0, "b": 2.5}
    found = by_shares(rows(a=10, b=4), {"a": 0.5, "b": 0.5})
    assert Counter(record.source for record in found.records) == {"a": 10, "b": 10}
    copies = Counter(record.uid.partition("#")[0] for record in found.records)
    assert sorted(copies[f"b{number}"] for number in range(4)) == [2, 2, 3, 3]
    assert len({record.uid for record in found.records}) == 20
    assert found.notes == ["source a: 10 rows, each 1 times", "source b: 4 rows, each 2.5 times"]
    by_size = by_shares(rows(a=10, b=4), {"a": 1, "b": 1}, lambda row: 1 if row.source == "a" else 5)
    assert Counter(record.source for record in by_size.records) == {"a": 20, "b": 4}


def test_a_share_of_nothing_leaves_a_source_out_and_no_shares_change_nothing() -> None:
    loaded = rows(a=3, b=2)
    assert by_shares(loaded, {}) is loaded
    assert [record.uid for record in by_shares(loaded, {"a": 0, "b": 1}).records] == ["b0", "b1"]


def test_what_does_not_fit_the_rows_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"rows.jsonl has rows of source 'b', which data.shares does not name"):
        by_shares(rows(a=1, b=1), {"a": 1})
    with pytest.raises(ConfigError, match=r"data.shares.web is 2, but rows.jsonl has no row of that source"):
        by_shares(rows(a=1), {"a": 1, "web": 2})


def test_repeated_rows_are_those_of_the_list() -> None:
    """10 rows once, 4 rows two and a half times: 2 of 4 a third time, evenly, as `evenly` takes them."""
    sequence = RepeatedRows([(range(100, 110), 1.0), (range(4), 2.5)])
    assert len(sequence) == 20
    assert [sequence[place] for place in range(20)] == [*range(100, 110), *range(4), *range(4), 0, 2]


def test_rows_without_a_source_are_of_their_file() -> None:
    loaded = named_by_file(rows(**{"": 1, "web": 1}))
    assert [record.source for record in loaded.records] == ["rows", "web"]


def test_a_copy_is_told_from_an_id_that_looks_like_one() -> None:
    assert [first_copy(uid, {"p", "q#2"}) for uid in ("p", "p#2", "q#2", "q#2#3")] == ["p", "p", "q#2", "q#2"]
