"""Preference rows: what is read, what is refused with which reason, and which SFT rows remain beside them."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pangu_rl.data.conversations import Conversation
from pangu_rl.data.fields.bad_row import BadRow
from pangu_rl.data.pairs import Pair, load_pairs, parse_pair, without_queries_of
from pangu_rl.errors import DataError

ROW = {"id": "a", "prompt": "What is 1 + 1?", "chosen": "2", "rejected": "3"}
PARTS = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what colour?"}]}]


def write(path: Path, *rows: dict) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_row_of_a_plain_prompt() -> None:
    assert parse_pair(ROW, "a") == Pair(
        uid="a", messages=({"role": "user", "content": "What is 1 + 1?"},), chosen="2", rejected="3"
    )


def test_a_row_of_messages_with_a_picture_and_scores() -> None:
    row = {"messages": PARTS, "chosen": "red", "rejected": "blue", "images": ["a.png"], "source": "colour"}
    pair = parse_pair(row | {"chosen_score": 4.5, "rejected_score": 1}, "b")
    assert (pair.images, pair.source, pair.messages) == (("a.png",), "colour", tuple(PARTS))
    assert pair.rejected_ended and not parse_pair(row | {"rejected_ended": False}, "b").rejected_ended


BAD = {
    "equal": ({"rejected": "2"}, "chosen and rejected are equal ('2')"),
    "empty chosen": ({"chosen": " \n"}, "key chosen is empty"),
    "empty rejected": ({"rejected": ""}, "key rejected is empty"),
    "no rejected": ({"rejected": None}, "key rejected is missing"),
    "messages for a response": ({"chosen": [{"role": "assistant", "content": "2"}] * 2}, "key chosen is 2 messages"),
    "a picture too few": ({"messages": PARTS}, "key images names 0 pictures and messages have 1 image parts"),
    "ends with an answer": (
        {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "2"}]},
        "messages end with an assistant turn",
    ),
    "scores the other way": ({"chosen_score": 1, "rejected_score": 5}, "chosen_score 1 is not above rejected_score 5"),
    "a flag of text": ({"rejected_ended": "no"}, "key rejected_ended is str 'no', not true or false"),
    "a score of text": ({"chosen_score": "5"}, "key chosen_score is str '5', not a number"),
}


@pytest.mark.parametrize("name", BAD)
def test_why_a_row_cannot_be_used(name: str) -> None:
    change, reason = BAD[name]
    with pytest.raises(BadRow) as found:
        parse_pair(ROW | change, "a")
    assert reason in str(found.value)


def test_a_bad_row_ends_the_run_or_is_skipped_and_listed(tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.jsonl", ROW, ROW | {"id": "b", "rejected": "2"})
    with pytest.raises(DataError, match=r"pairs.jsonl, row 2: chosen and rejected are equal .*on_bad_row"):
        load_pairs(path)
    loaded = load_pairs(path, on_bad_row="skip")
    assert [pair.uid for pair in loaded.records] == ["a"]
    assert len(loaded.skipped) == 1


def test_parquet_holds_the_same_rows(tmp_path: Path) -> None:
    rows = [ROW | {"messages": PARTS, "images": ["a.png"], "prompt": None}, ROW | {"id": "b", "messages": None}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pairs.parquet")
    loaded = load_pairs(tmp_path / "pairs.parquet").records
    assert loaded == [parse_pair(row, row["id"]) for row in rows]


def test_sft_rows_that_ask_what_a_pair_asks_do_not_remain() -> None:
    """Whether a picture is written as a part or put before plain text is one question; another picture is another."""

    def row(uid: str, content: object, *images: str) -> Conversation:
        messages = ({"role": "user", "content": content}, {"role": "assistant", "content": "red"})
        return Conversation(uid=uid, messages=messages, images=images)

    pairs = [parse_pair({"messages": PARTS, "images": ["a.png"], "chosen": "red", "rejected": "blue"}, "p")]
    rows = [row("same", PARTS[0]["content"], "a.png"), row("plain", "what colour?", "a.png")]
    others = [row("other picture", "what colour?", "b.png"), row("no picture", "what colour?")]
    assert without_queries_of(pairs, [*rows, *others]) == others
