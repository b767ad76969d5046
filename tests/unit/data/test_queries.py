"""Queries out of RL and SFT rows: what is asked, and what the answer is compared with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pangu_rl.config.sampling import SelectorConfig
from pangu_rl.data.fields.bad_row import BadRow
from pangu_rl.data.queries import load_queries, parse_query, query_row, select_queries
from pangu_rl.records import Prompt
from rewards.rules.boxed_answer import extract_boxed


def asked(**row: object) -> Prompt:
    return parse_query(row, "q", extract_boxed)


def test_an_rl_row_is_read_as_rl_reads_it() -> None:
    prompt = asked(prompt="2 + 2?", answer="4", answer_type="integer", source="sum", level=3)
    assert (prompt.answer, prompt.answer_type, prompt.source, prompt.extra) == ("4", "integer", "sum", {"level": 3})


def test_a_conversation_loses_its_last_turn_and_is_compared_with_its_box() -> None:
    turns = [
        {"role": "user", "content": "1?"},
        {"role": "assistant", "content": "1"},
        {"role": "user", "content": "2 + 2?"},
        {"role": "assistant", "content": "2 + 2 = \\boxed{4}"},
    ]
    prompt = asked(messages=turns, source="sum", images=["a.png"])
    assert list(prompt.messages) == turns[:3]
    assert (prompt.answer, prompt.answer_type, prompt.images) == ("4", "auto", ("a.png",))


def test_a_reply_without_a_box_is_the_reference_as_text() -> None:
    prompt = asked(prompt="Describe.", response="A red circle.")
    assert prompt.messages == ({"role": "user", "content": "Describe."},)
    assert (prompt.answer, prompt.answer_type) == ("A red circle.", "text")
    parts = {"role": "assistant", "content": [{"type": "text", "text": "Two "}, {"type": "text", "text": "dots."}]}
    assert asked(messages=[{"role": "user", "content": "?"}, parts]).answer == "Two dots."


def test_an_answer_column_beats_the_reply() -> None:
    prompt = asked(prompt="?", response="so \\boxed{1}", answer="2", answer_type="integer")
    assert (prompt.answer, prompt.answer_type) == ("2", "integer")


def test_rows_of_neither_kind_are_bad() -> None:
    with pytest.raises(BadRow, match="key answer is missing"):
        asked(prompt="2 + 2?")
    with pytest.raises(BadRow, match="the last assistant turn is empty"):
        asked(messages=[{"role": "user", "content": "?"}, {"role": "assistant", "content": ""}])


def test_a_written_row_reads_back_as_the_same_prompt(tmp_path: Path) -> None:
    prompt = asked(prompt="2 + 2?", answer="4", images=["a.png"], source="sum", level=3)
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(query_row(prompt)))
    assert load_queries(path, on_bad_row="refuse", read_answer=extract_boxed).records == [prompt]


def test_the_selector_takes_by_what_rows_say_and_counts_the_rest() -> None:
    rows = [("sum", "integer", ()), ("vqa", "text", ("a.png",)), ("story", "text", ()), ("sum", "text", ())]
    prompts = [
        Prompt(uid=str(i), messages=(), answer="1", source=source, answer_type=kind, images=images)
        for i, (source, kind, images) in enumerate(rows)
    ]
    kept, left_out = select_queries(prompts, SelectorConfig(sources=("sum", "vqa"), answer_types=("text",)))
    assert ([prompt.uid for prompt in kept], left_out) == (["1", "3"], {"answer_type": 1, "source": 1})
    kept, left_out = select_queries(prompts, SelectorConfig(modality="multimodal"))
    assert ([prompt.uid for prompt in kept], left_out) == (["1"], {"modality": 3})
    assert select_queries(prompts, SelectorConfig()) == (prompts, {})
