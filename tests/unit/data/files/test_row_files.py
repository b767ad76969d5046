"""Rows by number, from JSONL, Parquet and tars, one file or many."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pangu_rl.data.conversations import load_conversations
from pangu_rl.data.files.row_files import RowFiles, open_rows
from pangu_rl.errors import DataError
from tests.unit.data.files.test_webdataset import png, shard

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


def tar(folder: Path, rows: list[dict], name: str = "rows") -> Path:
    """A sample has its row, and a picture that the row does not name."""
    files = {}
    for number, row in enumerate(rows):
        content = {key: value for key, value in row.items() if key != "images"}
        files |= {f"{number:03d}.json": json.dumps(content).encode(), f"{number:03d}.png": png((number, 0, 0))}
    return shard(folder / f"{name}.tar", files)


def uids(files: RowFiles) -> list[str]:
    return [files.uid(row) for row in range(len(files))]


@pytest.mark.parametrize("write", [jsonl, parquet, tar])
def test_any_row_is_read_by_its_number_also_from_a_copy(tmp_path, write):
    files = open_rows(write(tmp_path, ROWS), on_bad_row="refuse")
    assert len(files) == 7
    assert "".join(map(files.source, range(7))) == "abababa"
    files.read(0)
    for copy in (files, pickle.loads(pickle.dumps(files))):
        for number in (6, 0, 3, 2, 5):
            row = copy.read(number)
            assert [message["content"] for message in row.messages] == [f"p{number} é", f"r{number}"]
            assert row.uid == files.uid(number) and row.source == files.source(number)
    assert files.rows_of([files.uid(4), "none", files.uid(0)]).tolist() == [4, -1, 0]


def test_ids_are_the_rows_own_or_their_numbers(tmp_path):
    rows = [ROWS[0] | {"id": "x"}, ROWS[1], ROWS[2] | {"id": 7}]
    assert uids(open_rows(parquet(tmp_path, rows[:1] + rows[:0]), on_bad_row="refuse")) == ["x"]
    # Blank lines count, as an editor counts them.
    assert uids(open_rows(jsonl(tmp_path, rows), on_bad_row="refuse")) == ["x", "rows:3", "7"]


def test_a_row_without_identity_is_refused_or_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": "a", "prompt": "p", "response": "r"}\n{broken\n{"id": "a"}\n{"id": "b"}\n')
    with pytest.raises(DataError, match=r"row 2: is not JSON.*on_bad_row to skip"):
        open_rows(path, on_bad_row="refuse")
    files = open_rows(path, on_bad_row="skip")
    assert uids(files) == ["a", "b"] and files.left_out == 2
    assert "row 3: id 'a' is already that of row 1" in files.skipped[1]
    with pytest.raises(DataError, match=r"rows.jsonl, row 4 \(b\): key prompt is missing"):
        files.read(1)


@pytest.mark.parametrize("write", [jsonl, parquet, tar])
def test_columns_that_look_meant_for_training_are_refused_or_passed_also_by_a_copy(tmp_path, write):
    path = write(tmp_path, [row | {"video": "a.mp4"} for row in ROWS])
    for copy in (files := open_rows(path, on_bad_row="refuse"), pickle.loads(pickle.dumps(files))):
        with pytest.raises(DataError, match=r"row \d \(rows:\d\): key video looks like media"):
            copy.read(1)
    passing = open_rows(path, on_bad_row="refuse", passed=("video",))
    for copy in (passing, pickle.loads(pickle.dumps(passing))):
        assert copy.read(1).messages[1]["content"] == "r1"


def test_keys_of_messages_are_passed_over(tmp_path):
    turns = [{"role": "user", "content": "?", "emotion": "calm"}, {"role": "assistant", "content": "!"}]
    path = jsonl(tmp_path, [{"messages": turns}])
    with pytest.raises(DataError, match="has a key emotion"):
        open_rows(path, on_bad_row="refuse").read(0)
    assert open_rows(path, on_bad_row="refuse", passed=("emotion",)).read(0).messages[0]["content"] == "?"


def test_keys_that_parquet_merges_into_every_message_are_not_read(tmp_path):
    call = {"type": "function", "function": {"name": "f", "arguments": "{}"}}
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    rows = [{"messages": turns}, {"messages": [turns[0], turns[1] | {"tool_calls": [call]}]}]
    files = open_rows(parquet(tmp_path, rows), on_bad_row="refuse")
    assert [set(message) for message in files.read(0).messages] == [{"role", "content"}] * 2


def test_a_json_array_is_no_file_of_lines(tmp_path):
    (tmp_path / "rows.json").write_text(json.dumps(ROWS))
    with pytest.raises(DataError, match=r"rows.json: is a JSON array; .* one object per line"):
        open_rows(tmp_path / "rows.json", on_bad_row="refuse")


def test_files_of_all_kinds_are_one_list_of_rows_in_the_order_named(tmp_path):
    named = [row | {"id": f"r{number}"} for number, row in enumerate(ROWS)]
    for kind in ("a", "b", "c"):
        (tmp_path / kind).mkdir()
    paths = [tar(tmp_path / "a", named[:2]), jsonl(tmp_path / "b", named[2:3]), parquet(tmp_path / "c", named[3:])]
    files = open_rows(paths, on_bad_row="refuse")
    assert uids(files) == [f"r{number}" for number in range(7)]
    assert "".join(map(files.source, range(7))) == "abababa"
    for copy in (files, pickle.loads(pickle.dumps(files))):
        for index in (6, 2, 0, 4, 1, 3, 5):
            row = copy.read(index)
            assert row.messages[0]["content"] == f"p{index} é"
            assert row.images == ((f"rows.tar/{index:03d}.png",) if index < 2 else ())
    assert files.where(4) == f"{paths[2]}, row 2 (r4)"
    whole = jsonl(tmp_path, named)
    assert [message for i in range(7) for message in files.read(i).messages] == [
        message for i in range(7) for message in open_rows(whole, on_bad_row="refuse").read(i).messages
    ]


@pytest.mark.parametrize("write", [tar, parquet])
def test_a_folder_is_its_files_in_the_order_of_names(tmp_path, write):
    for name, part in (("b", ROWS[4:]), ("a", ROWS[:4])):
        write(tmp_path, part).rename(tmp_path / f"{name}{write(tmp_path, part).suffix}")
    for left_over in tmp_path.glob("rows.*"):
        left_over.unlink()
    (tmp_path / "report.txt").write_text("not rows")
    files = open_rows(tmp_path, on_bad_row="refuse")
    assert [files.read(index).messages[0]["content"] for index in range(7)] == [row["prompt"] for row in ROWS]
    assert uids(files)[:2] == ["a:1", "a:2"] and files.uid(6) == "b:3"


def test_an_id_of_another_file_is_named_with_it(tmp_path):
    (tmp_path / "other").mkdir()
    one, two = jsonl(tmp_path, [ROWS[0] | {"id": "x"}]), parquet(tmp_path / "other", [ROWS[1] | {"id": "x"}])
    with pytest.raises(DataError, match=r"rows.parquet, row 1: id 'x' is already that of row 1 of .*rows.jsonl: ids"):
        open_rows([one, two], on_bad_row="refuse")


def test_the_digest_tells_other_rows_and_another_order(tmp_path):
    for folder in ("a", "b", "c"):
        (tmp_path / folder).mkdir()
    named = [row | {"id": f"r{number}"} for number, row in enumerate(ROWS)]
    one, two, three = (
        write(tmp_path / folder, named[part])
        for write, folder, part in ((jsonl, "a", slice(3)), (parquet, "b", slice(3, 5)), (tar, "c", slice(5, 7)))
    )

    def digest(*paths: Path) -> str:
        return open_rows(list(paths), on_bad_row="refuse").digest

    seen = [digest(one), digest(two), digest(three), digest(one, two), digest(two, one), digest(one, two, three)]
    assert len(set(seen)) == 6
    tar(tmp_path / "c", [named[5], named[6] | {"response": "changed"}])
    assert digest(three) not in seen


def test_a_folder_of_two_kinds_is_refused_whole_and_by_its_index(tmp_path):
    for name in ("rows.parquet", "rows.jsonl", "rows.tar"):
        (tmp_path / name).write_text("")
    for read in (lambda: load_conversations(tmp_path), lambda: open_rows(tmp_path, on_bad_row="refuse")):
        with pytest.raises(DataError, match=r"a folder of \.jsonl and \.parquet and \.tar files: name those that are"):
            read()


def test_a_folder_may_describe_its_files(tmp_path):
    (tmp_path / "dataset_infos.json").write_text("{}")
    jsonl(tmp_path, ROWS)
    assert len(load_conversations(tmp_path).records) == len(open_rows(tmp_path, on_bad_row="refuse")) == 7


def test_other_files_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"none.jsonl: no such file"):
        open_rows(tmp_path / "none.jsonl", on_bad_row="refuse")
    (tmp_path / "rows.txt").write_text("x")
    with pytest.raises(DataError, match=r"lie in \.jsonl, \.parquet and \.tar files, found '\.txt'"):
        open_rows(tmp_path / "rows.txt", on_bad_row="refuse")
    with pytest.raises(DataError, match=r"a folder without \.parquet, \.tar or \.jsonl"):
        open_rows(tmp_path, on_bad_row="refuse")
    jsonl(tmp_path, ROWS)
    parquet(tmp_path, ROWS)
    with pytest.raises(DataError, match=r"a folder of \.jsonl and \.parquet files: name those that are rows"):
        open_rows(tmp_path, on_bad_row="refuse")
    shard(tmp_path / "packed.tar", {"1.json": b"{}"}, "w:gz")
    with pytest.raises(DataError, match=r"packed\.tar: no plain tar"):
        open_rows(tmp_path / "packed.tar", on_bad_row="refuse")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(DataError, match="no usable row"):
        open_rows(tmp_path / "empty.jsonl", on_bad_row="skip")
