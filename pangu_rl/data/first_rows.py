"""A stage's configuration -> **what the first rows of its files are**, or what is wrong with them; no model is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from pangu_rl.config.inputs import Input, inputs_of
from pangu_rl.config.paths import is_address, resolve_path
from pangu_rl.data.conversations import Conversation, trained_conversation
from pangu_rl.data.fields.bad_row import BadRow, Row
from pangu_rl.data.fields.columns import Kind
from pangu_rl.data.files.rows import checked_row, numbered_rows, row_uid
from pangu_rl.data.formats.reading import Reading, RowReader
from pangu_rl.data.index.manifest import MANIFEST
from pangu_rl.data.pairs import Pair, parse_pair
from pangu_rl.data.prompts import parse_prompt, readable
from pangu_rl.data.queries import parse_query
from pangu_rl.errors import DataError
from pangu_rl.records import Prompt

FIRST = 8
SHOWN_CHARS = 60
Record = Prompt | Conversation | Pair


def first_rows(stage: str, config: Any, gold_problem: Callable[[Prompt], str | None] | None) -> Iterator[str]:
    """A line for each file of rows: how it is read, and its first row. Files in object storage, indexes, and files of
    stages of pre-training, whose rows have many forms, are left to the run.

    Raises:
        DataError: one of the first rows is none that the stage reads, or its gold is not right; names file and row.
    """
    if stage not in ("grpo", "sft", "dpo", "difficulty", "pairs", "iterative", "eval"):
        return
    skips = config.data.on_bad_row == "skip"
    for given in inputs_of(stage, config):
        kind = _kind(given)
        path = resolve_path(given.path)
        if kind is None or is_address(given.path) or (path / MANIFEST).is_file():
            continue
        judge = gold_problem if kind == "prompt" else None
        rows, notes = _read(path, kind, Reading.of(config.data), judge, skips)
        yield f"{given.key} {given.path}: its first {len(rows)} rows are fit, such as {_shown(rows[0])}"
        yield from notes


def _kind(given: Input) -> Kind | None:
    kinds: dict[tuple[str, ...], Kind] = {
        ("prompts",): "prompt",
        ("conversations",): "conversation",
        ("pairs",): "pair",
        ("prompts", "conversations"): "query",
    }
    return kinds.get(given.formats)


def _read(
    path: Path, kind: Kind, reading: Reading, gold_problem: Callable[[Prompt], str | None] | None, skips: bool
) -> tuple[list[Record], list[str]]:
    reader, found, refused = RowReader(reading, kind, path), [], []
    for number, raw in islice(numbered_rows(reader.file), FIRST):
        try:
            row = reader.row(checked_row(raw))
            record = _parsed(kind, row, row_uid(row, f"{path.stem}:{number}"), reading)
            if gold_problem is not None and (problem := gold_problem(record)):
                raise BadRow(problem)
            found.append(record)
        except (BadRow, DataError) as reason:
            refused.append(f"{path}, row {number}: {reason}")
    if refused and (not found or not skips):
        raise DataError(f"{refused[0]} (mend it, or set data.on_bad_row to skip)")
    if not found:
        raise DataError(f"{path}: no row in it")
    return found, [*reader.notes(), *refused]


def _parsed(kind: Kind, row: Row, uid: str, reading: Reading) -> Record:
    match kind:
        case "conversation":
            return trained_conversation(row, uid, reading)
        case "pair":
            return parse_pair(row, uid)
        case "query":
            return parse_query(row, uid, lambda reply: None)
        case _:
            return parse_prompt(row, uid)


def _shown(record: Record) -> str:
    said = readable(record) if isinstance(record, Prompt) else str(record.messages[0].get("content"))
    text = " ".join(said.split())
    text = f"{text[:SHOWN_CHARS]} ..." if len(text) > SHOWN_CHARS else text
    return f"{text!r} -> {record.answer!r}" if isinstance(record, Prompt) else repr(text)
