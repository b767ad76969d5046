"""Rows by number, from JSONL and Parquet."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pangu_rl.data.row_file import open_rows
from pangu_rl.errors import DataError

ROWS = [{"prompt": f"p{n} é", "response": f"r{n}", "source": "ab"[n % 2], "images": []} for n in range(7)]


def jsonl(folder: Path, rows: list[dict]) -> Path:
    path = folder / "rows.jsonl"
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n\n".join(lines) + "\n", encoding="utf-8")
    return path


def parquet(folder: Path, rows: list[dict]) -> Path:
    path = folder / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=3)
    return path


@pytest.mark.parametrize("write", [jsonl, parquet])
def test_any_row_is_read_by_its_number_also_from_a_copy(tmp_path, write):
    files = open_rows(write(tmp_path, ROWS), on_bad_row="refuse")
    assert len(files) == 7
    assert files.sources == tuple("abababa")
    files.read(0)
    for copy in (files, pickle.loads(pickle.dumps(files))):
        for number in (6, 0, 3, 2, 5):
            row = copy.read(number)
            assert [message["content"] for message in row.messages] == [f"p{number} é", f"r{number}"]
            assert row.uid == files.uids[number] and row.source == files.sources[number]
    assert files.index_of[files.uids[4]] == 4


def test_ids_are_the_rows_own_or_their_numbers(tmp_path):
    rows = [ROWS[0] | {"id": "x"}, ROWS[1], ROWS[2] | {"id": 7}]
    assert open_rows(parquet(tmp_path, rows[:1] + rows[:0]), on_bad_row="refuse").uids == ("x",)
    # Blank lines count, as an editor counts them.
    assert open_rows(jsonl(tmp_path, rows), on_bad_row="refuse").uids == ("x", "rows:3", "7")


def test_a_row_without_identity_is_refused_or_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": "a", "prompt": "p", "response": "r"}\n{broken\n{"id": "a"}\n{"id": "b"}\n')
    with pytest.raises(DataError, match=r"row 2: is not JSON.*on_bad_row to skip"):
        open_rows(path, on_bad_row="refuse")
    files = open_rows(path, on_bad_row="skip")
    assert files.uids == ("a", "b")
    assert "row 3: id 'a' is already that of row 1" in files.skipped[1]
    with pytest.raises(DataError, match=r"rows.jsonl, row 4 \(b\): key prompt is missing"):
        files.read(1)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(DataError, match="no such prompt set"):
        open_rows(tmp_path / "none.jsonl", on_bad_row="refuse")
    (tmp_path / "rows.txt").write_text("x")
    with pytest.raises(DataError, match=r"expected \.jsonl, \.parquet"):
        open_rows(tmp_path / "rows.txt", on_bad_row="refuse")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(DataError, match="no usable row"):
        open_rows(tmp_path / "empty.jsonl", on_bad_row="skip")
