"""Several files with weights: how often an epoch has each row."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from pangu_rl.data import load_conversations
from pangu_rl.data.conversations import Conversation
from pangu_rl.data.files.rows import Loaded
from pangu_rl.data.formats.mixture import mixed
from pangu_rl.errors import DataError


def loaded(folder: Path, name: str, rows: int, start: str | None = None) -> Loaded[Conversation]:
    path = folder / f"{name}.jsonl"
    named = [{} if start is None else {"id": f"{start}{number}"} for number in range(rows)]
    path.write_text(
        "".join(json.dumps(row | {"prompt": name, "response": str(i)}) + "\n" for i, row in enumerate(named))
    )
    return load_conversations(path)


def test_weights_say_how_often_a_row_is_in_an_epoch(tmp_path: Path) -> None:
    one, twice, half = (loaded(tmp_path, name, 4) for name in ("one", "twice", "half"))
    rows = mixed([(one, 1.0), (twice, 2.5), (half, 0.5)])
    counts = Counter(row.messages[0]["content"] for row in rows.records)
    assert counts == {"one": 4, "twice": 10, "half": 2}
    assert [row.uid for row in rows.records if row.messages[0]["content"] == "half"] == ["half:1", "half:3"]
    assert len({row.uid for row in rows.records}) == 16
    assert {"twice:1", "twice:1#2", "twice:1#3", "twice:4#2"} <= {row.uid for row in rows.records}
    assert rows.notes[1] == "twice.jsonl: 4 rows with weight 2.5"
    assert len(rows.numbers) == 16


def test_one_file_is_itself_and_ids_are_unique_over_all(tmp_path: Path) -> None:
    one, other = loaded(tmp_path, "one", 2, "a"), loaded(tmp_path, "other", 2, "a")
    assert mixed([(one, 1.0)]) is one
    with pytest.raises(DataError, match=r"id 'a0' is of a row of .*one\.jsonl and of .*other\.jsonl"):
        mixed([(one, 1.0), (other, 1.0)])
