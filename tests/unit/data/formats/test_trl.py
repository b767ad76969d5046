"""A prompt beside TRL's messages and within them: read once, and refused where the two say different things."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pangu_rl.data import load_conversations
from pangu_rl.data.fields.columns import Columns
from pangu_rl.data.formats.reading import Reading
from pangu_rl.data.pairs import load_pairs
from pangu_rl.errors import DataError
from tests.unit.data.formats.test_formats import CALLED, SYSTEM, TURNS, assistant, jsonl, user

HI = [user("Hi"), assistant("Hello")]


@pytest.mark.parametrize(
    ("prompt", "turns", "messages"),
    [
        ("Hi", [*HI, *TURNS], [*HI, *TURNS]),
        ("1 + 1?", [*HI, *TURNS], [*HI, *TURNS]),
        (HI, [*HI, *TURNS], [*HI, *TURNS]),
        (HI, TURNS, [*HI, *TURNS]),
        (TURNS[:1], [SYSTEM, *TURNS], [SYSTEM, *TURNS]),
        ([SYSTEM, *TURNS[:1]], TURNS, [SYSTEM, *TURNS]),
        ([SYSTEM], TURNS, [SYSTEM, *TURNS]),
        ("1 + 1?", CALLED[1:], CALLED),
        ([user([{"type": "text", "text": "1 + 1?"}])], TURNS, TURNS),  # type: ignore[arg-type]
    ],
)
def test_it_is_read_once(tmp_path: Path, prompt: Any, turns: list, messages: list) -> None:
    """As `argilla/ultrafeedback-binarized` has it; turns that go on from the prompt are added to it."""
    [conversation] = load_conversations(jsonl(tmp_path, {"prompt": prompt, "completion": turns})).records
    assert list(conversation.messages) == messages
    worse = [*turns[:-1], assistant("3")]
    [pair] = load_pairs(jsonl(tmp_path, {"prompt": prompt, "chosen": turns, "rejected": worse})).records
    assert (list(pair.messages), pair.chosen, pair.rejected) == (messages[:-1], "2", "3")


@pytest.mark.parametrize("prompt", ["2 + 2?", [user("2 + 2?")], [SYSTEM, user("2 + 2?")], [*TURNS, user("2 + 2?")]])
def test_another_prompt_is_refused(tmp_path: Path, prompt: Any) -> None:
    pair = {"prompt": prompt, "chosen": TURNS, "rejected": [*TURNS[:1], assistant("3")]}
    with pytest.raises(
        DataError, match=r"key prompt ends with '2 . 2.', and chosen is a conversation that begins with"
    ):
        load_pairs(jsonl(tmp_path, pair))
    with pytest.raises(DataError, match=r"and completion is a conversation that begins with '1 . 1.'"):
        load_conversations(jsonl(tmp_path, {"prompt": prompt, "completion": TURNS}))


@pytest.mark.parametrize("repeated", [TURNS, TURNS[:1], [*TURNS[:1], assistant("3")]])
def test_messages_that_say_a_pairs_conversation_once_more_are_passed_over(tmp_path: Path, repeated: list) -> None:
    """As `HuggingFaceH4/ultrafeedback_binarized` has them; for SFT the same rows are their messages."""
    row = {"prompt": "1 + 1?", "chosen": TURNS, "rejected": [*TURNS[:1], assistant("3")], "messages": repeated}
    [pair] = load_pairs(jsonl(tmp_path, row)).records
    assert (list(pair.messages), pair.chosen, pair.rejected) == (TURNS[:1], "2", "3")
    [conversation] = load_conversations(jsonl(tmp_path, {**row, "messages": TURNS})).records
    assert list(conversation.messages) == TURNS


def test_other_messages_beside_a_pair_are_refused_or_passed_over_by_name(tmp_path: Path) -> None:
    path = jsonl(tmp_path, {"chosen": TURNS, "rejected": [*TURNS[:1], assistant("3")], "messages": HI})
    with pytest.raises(
        DataError, match="messages begin with 'Hi' and are the beginning of neither chosen nor rejected"
    ):
        load_pairs(path)
    [pair] = load_pairs(path, reading=Reading(columns=Columns(passed=frozenset({"messages"})))).records
    assert list(pair.messages) == TURNS[:1]


def test_our_own_pairs_stay_ours(tmp_path: Path) -> None:
    row = {"messages": TURNS[:1], "chosen": [assistant("2")], "rejected": [assistant("3")]}
    assert load_pairs(jsonl(tmp_path, row)).notes == []
