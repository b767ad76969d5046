"""What a row lacks is said with what may be meant as it; a column that is passed over is not read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pangu_rl.data import load_prompts
from pangu_rl.data.fields.bad_row import BadRow
from pangu_rl.data.fields.columns import Columns
from pangu_rl.data.formats.reading import AS_OURS, Reading, RowReader
from pangu_rl.errors import DataError
from tests.unit.data.formats.test_formats import TURNS, jsonl

GSM8K = {"question": "1 + 1?", "answer": "so #### 2"}


def read(row: dict, kind: Any, reading: Reading = AS_OURS) -> dict:
    return RowReader(reading, kind, Path("set.jsonl")).row(row)


@pytest.mark.parametrize(
    ("kind", "row", "reason"),
    [
        ("prompt", GSM8K, "key prompt is missing: if question is meant, set data.columns.question=prompt"),
        ("prompt", {"prompt": "1 + 1?", "solution": "2"}, "key answer is missing: .* data.columns.solution=answer"),
        ("prompt", {"prompt": "1 + 1?", "ground_truth": "2"}, "key answer is missing: .*ground_truth=answer"),
        ("prompt", {"prompt": "1 + 1?", "image": "a.png"}, "key answer is missing$"),
        ("prompt", {"system": "Be brief.", **GSM8K}, "set data.columns.question=prompt$"),
        ("conversation", {"prompt": "1 + 1?", "output": "2"}, "key response is missing: .*output=response"),
        (
            "conversation",
            {"Prompt": "1 + 1?", "Response": "2"},
            "data.columns.Prompt=prompt data.columns.Response=response",
        ),
        ("conversation", {"prompt": "1 + 1?", "respones": "2"}, "missing: is respones meant as response"),
        ("conversation", {"messages": None, "prompt": "1 + 1?"}, "key response is missing$"),
        (
            "pair",
            {"chosen": "Human: 1 + 1?", "rejected": "Human: ?"},
            "missing: put there what chosen and rejected answer",
        ),
        ("query", {"prompt": "1 + 1?"}, "key answer is missing$"),
        (
            "conversation",
            GSM8K,
            "fits no format: its keys are answer, question; .*; if question and answer are meant, set "
            "data.columns.question=prompt data.columns.answer=response; map",
        ),
        (
            "conversation",
            {"conversation_id": 1, "image": "a.png"},
            "; map columns with data.columns, or set data.format",
        ),
    ],
)
def test_a_missing_column_is_named_with_what_may_be_meant(kind: Any, row: dict, reason: str) -> None:
    with pytest.raises(BadRow, match=reason):
        read(row, kind)


def test_the_hint_is_one_to_follow() -> None:
    columns = Columns({"question": "prompt", "answer": "response"})
    assert read(GSM8K, "conversation", Reading(columns=columns)) == {"prompt": "1 + 1?", "response": "so #### 2"}


def test_a_column_that_is_passed_over_is_not_read(tmp_path: Path) -> None:
    """As OpenR1-Math has its rows: the question alone, and a whole conversation beside it."""
    row = {"problem": "1 + 1?", "answer": "2", "messages": TURNS, "id": "a"}
    with pytest.raises(DataError, match=r"messages end with an assistant turn: .* name messages in data.pass_through"):
        load_prompts(jsonl(tmp_path, row))
    passing = Reading(columns=Columns(passed=frozenset({"messages", "id"})))
    [prompt] = load_prompts(jsonl(tmp_path, row), reading=passing).records
    assert (list(prompt.messages), prompt.answer, prompt.uid, prompt.extra) == (TURNS[:1], "2", "a", {})


def test_objects_may_be_passed_over_and_their_places_are_told() -> None:
    reader = RowReader(Reading(columns=Columns(passed=frozenset({"objects"}))), "conversation", Path("set.jsonl"))
    reader.row({"prompt": "find <ref-object>", "response": "<bbox>", "objects": {"ref": ["it"]}})
    assert [note.split(": ")[1].split()[0] for note in reader.notes()] == ["<bbox>", "<ref-object>"]
