"""Rows out of files: every bad one is named with its file, row and key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from pangu_rl.data import load_conversations, load_prompts
from pangu_rl.errors import DataError
from pangu_rl.records import Prompt

GOOD = {"prompt": "1 + 1?", "answer": "2"}
MESSAGES = [{"role": "system", "content": "Brief."}, {"role": "user", "content": "1 + 1?"}]


def jsonl(tmp_path: Path, *rows: Any) -> Path:
    path = tmp_path / "set.jsonl"
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def test_a_row_in_full(tmp_path: Path) -> None:
    row = {
        "id": "a",
        "messages": MESSAGES,
        "answer": "2",
        "answer_type": "integer",
        "images": ["x.png"],
        "source": "sum",
        "level": 3,
    }
    assert load_prompts(jsonl(tmp_path, row)).records == [
        Prompt(
            uid="a",
            messages=tuple(MESSAGES),
            answer="2",
            answer_type="integer",
            images=("x.png",),
            source="sum",
            extra={"level": 3},
        )
    ]


def test_a_row_in_short_and_row_numbers_that_count_blank_lines(tmp_path: Path) -> None:
    loaded = load_prompts(jsonl(tmp_path, GOOD, b"", {**GOOD, "id": 7}, GOOD))
    assert [prompt.uid for prompt in loaded.records] == ["set:1", "7", "set:4"]
    assert loaded.records[0].messages == ({"role": "user", "content": "1 + 1?"},)
    assert loaded.records[0].answer_type == "auto"


BAD_ROWS = {
    "not json": (b'{"prompt": "x", ', "is not JSON: .* at column"),
    "not an object": ([1], "is a JSON list, not an object"),
    "not utf-8": (b'{"prompt": "\xff", "answer": "2"}', "is not UTF-8 at byte 12"),
    "nul": ({**GOOD, "answer": "2\x00"}, "key answer holds a NUL"),
    "nul in a message": (
        {"messages": [{"role": "user", "content": "\x00"}], "answer": "2"},
        "key messages holds a NUL",
    ),
    "surrogate": (b'{"prompt": "\\ud800", "answer": "2"}', "key prompt holds half a surrogate"),
    "huge field": ({**GOOD, "note": "x" * 1_000_001}, "key note has 1000001 characters"),
    "deep": (b'{"a":' + b"[" * 100_000, "is not JSON"),
    "huge integer": (b'{"prompt": "x", "answer": ' + b"9" * 5000 + b"}", "is not JSON"),
    "no prompt": ({"answer": "2"}, "key prompt is missing"),
    "blank prompt": ({"prompt": " ", "answer": "2"}, "key prompt is empty"),
    "no answer": ({"prompt": "x"}, "key answer is missing"),
    "null answer": ({"prompt": "x", "answer": None}, "key answer is missing"),
    "empty answer": ({"prompt": "x", "answer": " "}, "key answer is empty"),
    "answer of another type": ({"prompt": "x", "answer": True}, "key answer is true, not text"),
    "messages of another type": ({"messages": "hi", "answer": "2"}, "key messages is no list"),
    "no messages": ({"messages": [], "answer": "2"}, "key messages is no list"),
    "unknown role": ({"messages": [{"role": "boss", "content": "x"}], "answer": "2"}, r"messages\[0\] needs a role"),
    "no content": ({"messages": [{"role": "user"}], "answer": "2"}, r"messages\[0\] needs a content"),
    "answered already": (
        {"messages": [*MESSAGES, {"role": "assistant", "content": "2"}], "answer": "2"},
        "end with an assistant turn",
    ),
    "images of another type": ({**GOOD, "images": "x.png"}, "key images is no list of paths"),
    "empty path of an image": ({**GOOD, "images": [""]}, "key images is no list of paths"),
    "part of another kind": (
        {"messages": [{"role": "user", "content": [{"type": "audio"}]}], "answer": "2"},
        r"messages\[0\]\.content\[0\] is neither",
    ),
    "part that brings its own file": (
        {"messages": [{"role": "user", "content": [{"type": "image", "image": "x.png"}]}], "answer": "2"},
        r"messages\[0\]\.content\[0\] of type image has image: its file belongs in the row's images",
    ),
    "duplicate id": ({**GOOD, "id": "first"}, "id 'first' is already that of row 1"),
}


@pytest.mark.parametrize(("row", "reason"), BAD_ROWS.values(), ids=BAD_ROWS.keys())
def test_bad_row_is_refused_or_skipped_with_its_place(tmp_path: Path, row: Any, reason: str) -> None:
    path = jsonl(tmp_path, {**GOOD, "id": "first"}, row, {**GOOD, "id": "last"})
    with pytest.raises(DataError, match=rf"set\.jsonl, row 2: .*{reason}"):
        load_prompts(path, on_bad_row="refuse")
    loaded = load_prompts(path, on_bad_row="skip")
    assert [prompt.uid for prompt in loaded.records] == ["first", "last"]
    assert len(loaded.skipped) == 1 and loaded.skipped[0].startswith(f"{path}, row 2: ")


def test_gold_check_is_a_bad_row(tmp_path: Path) -> None:
    path = jsonl(tmp_path, GOOD, {"prompt": "x", "answer": "3"})

    def check(prompt: Prompt) -> str | None:
        return None if prompt.answer == "2" else "the gold is wrong"

    with pytest.raises(DataError, match="row 2: the gold is wrong"):
        load_prompts(path, check=check)
    assert len(load_prompts(path, on_bad_row="skip", check=check).records) == 1


def test_many_bad_rows_on_end_are_fatal_even_when_skipping(tmp_path: Path) -> None:
    assert len(load_prompts(jsonl(tmp_path, GOOD, *[b"{"] * 100, GOOD), on_bad_row="skip").skipped) == 100
    with pytest.raises(DataError, match=r"row 102: .* 101 bad rows on end"):
        load_prompts(jsonl(tmp_path, GOOD, *[b"{"] * 101, GOOD), on_bad_row="skip")


def test_files_that_hold_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder of rows"):
        load_prompts(tmp_path / "absent.jsonl")
    with pytest.raises(DataError, match=r"set\.jsonl: no usable row: there is none in it$"):
        load_prompts(jsonl(tmp_path))
    with pytest.raises(DataError, match=r"no usable row; the first of 2: .* row 1: is not JSON"):
        load_prompts(jsonl(tmp_path, b"{", b"{"), on_bad_row="skip")
    (tmp_path / "set.csv").write_text("prompt,answer")
    with pytest.raises(
        DataError,
        match=r"expected \.jsonl, \.json, \.parquet, \.tar, a folder of one kind, .* found '\.csv': write its rows",
    ):
        load_prompts(tmp_path / "set.csv")
    (tmp_path / "set.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        load_prompts(tmp_path / "set.parquet")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="not a folder saved by `datasets`"):
        load_prompts(tmp_path / "folder")


def test_parquet_and_datasets_give_the_same_prompts_as_jsonl(tmp_path: Path) -> None:
    tool = {"role": "user", "content": "1 + 1?", "name": "eve"}
    rows = [{"id": "a", "messages": MESSAGES, "answer": "2"}, {"id": "b", "messages": [tool], "answer": "2"}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "set.parquet")
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "saved")
    expected = load_prompts(jsonl(tmp_path, *rows)).records
    assert load_prompts(tmp_path / "set.parquet").records == expected
    assert load_prompts(tmp_path / "saved").records == expected


def test_a_dataset_with_splits_asks_for_one(tmp_path: Path) -> None:
    datasets.DatasetDict({"train": datasets.Dataset.from_list([GOOD])}).save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match=r"holds the splits train; name one, e\.g\. .*saved/train"):
        load_prompts(tmp_path / "saved")
    assert load_prompts(tmp_path / "saved" / "train").records[0].uid == "train:1"


def test_conversations_in_both_forms(tmp_path: Path) -> None:
    turns = [*MESSAGES, {"role": "assistant", "content": "2"}]
    path = jsonl(tmp_path, {"messages": turns, "source": "sum"}, {"prompt": "1 + 1?", "response": "2"})
    first, second = load_conversations(path).records
    assert (first.uid, first.messages, first.source) == ("set:1", tuple(turns), "sum")
    assert [message["role"] for message in second.messages] == ["user", "assistant"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"messages": MESSAGES}, "messages end with a user turn"),
        ({"messages": [{"role": "assistant", "content": "2"}]}, "begin with an assistant turn"),
        ({"messages": [*MESSAGES, {"role": "assistant", "content": ""}]}, "last assistant turn is empty"),
        ({"prompt": "x"}, "key response is missing"),
        ({"prompt": "x", "response": 3}, "key response is int '3', not text"),
    ],
)
def test_bad_conversations(tmp_path: Path, row: dict, reason: str) -> None:
    with pytest.raises(DataError, match=f"row 1: .*{reason}"):
        load_conversations(jsonl(tmp_path, row))


def test_conversation_check_is_a_bad_row(tmp_path: Path) -> None:
    path = jsonl(tmp_path, {"prompt": "x", "response": "y"})
    with pytest.raises(DataError, match=r"row 1: 9 tokens exceed data\.max_tokens 8"):
        load_conversations(path, check=lambda conversation: "9 tokens exceed data.max_tokens 8")


def test_a_folder_of_jsonl_is_read_in_the_order_of_names(tmp_path):
    for name, answer in (("b", "2"), ("a", "1")):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"prompt": f"{name}?", "answer": answer}) + "\n")
    assert [prompt.answer for prompt in load_prompts(tmp_path).records] == ["1", "2"]
