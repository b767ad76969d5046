"""Queries to sample: rows of RL or of SFT -> `Prompt` records with a reference, and which of them a stage takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from pangu_rl.config.sampling import SelectorConfig
from pangu_rl.data.chat.turns import text_of
from pangu_rl.data.conversations import parse_conversation
from pangu_rl.data.drawn_rows import IndexedRows, read_when_drawn
from pangu_rl.data.fields.bad_row import Row
from pangu_rl.data.files.rows import Check, Loaded, OnBadRow, checked, load_records
from pangu_rl.data.formats.reading import AS_OURS, Reading
from pangu_rl.data.prompts import parse_prompt
from pangu_rl.records import Prompt

ReadAnswer = Callable[[str], str | None]
"""A reply -> the short answer in it, or None."""


def load_queries(
    path: Path,
    *,
    on_bad_row: OnBadRow,
    read_answer: ReadAnswer,
    check: Check[Prompt] | None = None,
    reading: Reading = AS_OURS,
    limit: int | None = None,
) -> Loaded[Prompt]:
    """Read prompt rows and conversations alike; see `parse_query`.

    Of a file that is too large to be read whole only the rows that `evenly` takes of `limit` are read.

    Raises:
        DataError: no such file, no usable row, or a bad row that may not be skipped; names file and row.
    """

    def parse(row: Row, uid: str) -> Prompt:
        return checked(replace(parse_query(row, uid, read_answer), opened=reading.opened), check)

    how = {"on_bad_row": on_bad_row, "parse": parse, "reading": reading}
    if limit is not None and read_when_drawn(path, reading):
        return IndexedRows.of(path, "query", **how).evenly(limit)
    return load_records(path, "query", **how)


def parse_query(row: Row, uid: str, read_answer: ReadAnswer) -> Prompt:
    """A row with `answer` that does not end with the assistant's turn is a prompt as RL reads it. Of a conversation the
    last turn is taken off; the reference is the row's `answer`, else what `read_answer` finds in that turn, else all of
    it, as `text`. Raises `BadRow` with the key at fault."""
    if not _is_conversation(row):
        return parse_prompt(row, uid)
    conversation = parse_conversation(row, uid)
    reply = text_of(conversation.messages[-1])
    found = row["answer"] if row.get("answer") is not None else read_answer(reply)
    query = {
        **{key: value for key, value in row.items() if key not in ("prompt", "response")},
        "messages": list(conversation.messages[:-1]),
        "answer": reply if found is None else found,
    }
    if found is None:
        query["answer_type"] = "text"
    return parse_prompt(query, uid)


def query_row(prompt: Prompt) -> Row:
    """The row that `parse_prompt` would read `prompt` from."""
    row: Row = {
        "id": prompt.uid,
        "messages": list(prompt.messages),
        "answer": prompt.answer,
        "answer_type": prompt.answer_type,
    }
    if prompt.tools:
        row["tools"] = list(prompt.tools)
    if prompt.images or prompt.videos:
        row |= media_columns(prompt)
    return row | {"source": prompt.source} | prompt.extra


def media_columns(prompt: Prompt) -> Row:
    """The columns of a row that shows what `prompt` does."""
    columns: Row = {"images": list(prompt.images)}
    if prompt.videos:
        columns["videos"] = list(prompt.videos)
    return columns | ({"time_precise": True} if prompt.time_precise else {})


def select_queries(prompts: Sequence[Prompt], selector: SelectorConfig) -> tuple[list[Prompt], dict[str, int]]:
    """Queries that the selector takes, in order, and how many each of its rules left out (a query counts once)."""
    left_out: Counter[str] = Counter()
    kept = []
    for prompt in prompts:
        reason = _left_out(prompt, selector)
        if reason is None:
            kept.append(prompt)
        else:
            left_out[reason] += 1
    return kept, dict(sorted(left_out.items()))


def modality(prompt: Prompt) -> str:
    return "multimodal" if prompt.images or prompt.videos else "text"


def _left_out(prompt: Prompt, selector: SelectorConfig) -> str | None:
    if selector.modality not in ("all", modality(prompt)):
        return "modality"
    if selector.sources is not None and prompt.source not in selector.sources:
        return "source"
    if selector.answer_types is not None and prompt.answer_type not in selector.answer_types:
        return "answer_type"
    return None


def _is_conversation(row: Row) -> bool:
    messages = row.get("messages")
    if messages is None:
        return row.get("response") is not None
    last = messages[-1] if isinstance(messages, list | tuple) and messages else None
    return isinstance(last, dict) and last.get("role") == "assistant"
