"""Rows to look at: a few of each reason for which rows were put aside, a few that are left, and pairs of duplicates."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

from data_curation.pipeline.folder import read_lines

EACH = 3
"""Rows of one reason."""
KEPT = 6
PAIRS = 6
READ_LINES = 50_000
"""Of all side files, from the beginning of each, and of the rows among which the other half of a pair is sought."""
LEAST_LINES = 20
"""Of one side file."""
LIKE = "like "
"""How the detail of a duplicate begins; the id of the row that is kept follows."""


@dataclass(slots=True)
class Samples:
    aside: dict[str, dict[str, list[dict[str, Any]]]] = field(default_factory=dict)
    """Operator -> reason -> lines of the side files."""
    kept: list[dict[str, Any]] = field(default_factory=list)
    pairs: list[tuple[dict[str, Any], dict[str, Any]]] = field(default_factory=list)
    """A line of the side files, and the row that is kept in its place."""


def read_samples(root: Path) -> Samples:
    found: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    duplicates: list[dict[str, Any]] = []
    files = sorted((root / "dropped").glob("*.jsonl"))
    # An early stage may put aside more than are read of all: each file has its share, so that no operator is left out.
    share = max(LEAST_LINES, READ_LINES // max(1, len(files)))
    for line in chain.from_iterable(islice(read_lines(file), share) for file in files):
        if len(some := found[line["operator"]][line["reason"]]) < EACH:
            some.append(line)
        if line["detail"].startswith(LIKE) and len(duplicates) < PAIRS:
            duplicates.append(line)
    rows = sorted((root / "rows").glob("*.jsonl"))
    wanted = {line["detail"].removeprefix(LIKE) for line in duplicates}
    firsts = _rows_of(wanted, rows)
    pairs = [(line, firsts[name]) for line in duplicates if (name := line["detail"].removeprefix(LIKE)) in firsts]
    return Samples({name: dict(reasons) for name, reasons in found.items()}, _spread(rows), pairs)


def _lines(files: Iterable[Path]) -> Iterator[dict[str, Any]]:
    for file in files:
        yield from read_lines(file)


def _spread(shards: list[Path]) -> list[dict[str, Any]]:
    """The first row of shards that are spread over all of them, then further ones of the first shard."""
    step = max(1, len(shards) // KEPT)
    rows = [row for shard in shards[::step] for row in islice(read_lines(shard), 1)][:KEPT]
    more = islice(_lines(shards[:1]), 1, 1 + KEPT - len(rows))
    return [*rows, *more]


def _rows_of(uids: set[str], shards: list[Path]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for row in islice(_lines(shards), READ_LINES):
        if row["id"] in uids:
            found[row["id"]] = row
        if len(found) == len(uids):
            break
    return found


def text_of_row(row: dict[str, Any]) -> str:
    """What a person reads of a row, whatever it is."""
    if "messages" in row and isinstance(row["messages"], list):
        turns = [f"{message.get('role')}: {_content(message.get('content'))}" for message in row["messages"]]
        return "\n".join([*turns, *([f"answer: {row['answer']}"] if "answer" in row else [])])
    for key in ("document", "prompt", "text", "raw"):
        if key in row:
            return _content(row[key])
    return json.dumps(row, ensure_ascii=False)


def _content(value: Any) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        return json.dumps(value, ensure_ascii=False)
    return " ".join(part if isinstance(part, str) else str(part.get("text") or "[picture]") for part in value)
