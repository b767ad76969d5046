"""Preference rows, made or trained on -> **one page of them**, prompt, chosen and rejected."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

from pangu_rl.config.sections.rows import RowsConfig
from pangu_rl.data.fields.bad_row import BadRow
from pangu_rl.data.files.rows import checked_row, numbered_rows, row_uid
from pangu_rl.data.formats.reading import Reading, RowReader
from pangu_rl.data.pairs import Pair, parse_pair
from pangu_rl.errors import DataError
from pangu_rl.pages.shown_text import conversation, one_line, shown
from pangu_rl.view.opened import Run

PAGE = 20


def read_pairs(run: Run, page: int) -> dict[str, Any]:
    """`rows` of the page, and whether there are `more`.

    Raises:
        DataError: the run has no pairs, or their file cannot be read.
    """
    path = run.pairs
    if path is None:
        raise DataError(f"{run.name}: makes no pairs and trains on none")
    reader = RowReader(Reading.of(_settings(run)), "pair", path)
    start = max(page, 0) * PAGE
    raw = list(islice(numbered_rows(reader.file), start, start + PAGE + 1))
    rows = [_row(reader, path, number, row) for number, row in raw[:PAGE]]
    return {"rows": rows, "more": len(raw) > PAGE, "page_rows": PAGE, "file": one_line(str(path))}


def _settings(run: Run) -> RowsConfig:
    data = run.config.get("data") or {}
    return RowsConfig.model_validate({name: data[name] for name in RowsConfig.model_fields if name in data})


def _row(reader: RowReader, path: Path, number: int, raw: Any) -> dict[str, Any]:
    try:
        row = reader.row(checked_row(raw))
        pair = parse_pair(row, row_uid(row, f"{path.stem}:{number}"))
    except (BadRow, DataError) as reason:
        return {"number": number, "bad": one_line(str(reason))}
    scores = {key: row[key] for key in ("chosen_score", "rejected_score") if isinstance(row.get(key), (int, float))}
    return {"number": number, "uid": one_line(pair.uid, 120), **_shown(pair), **scores}


def _shown(pair: Pair) -> dict[str, Any]:
    return {
        "source": one_line(pair.source, 60),
        "messages": conversation(json.dumps(pair.messages)),
        "chosen": _answer(pair.chosen),
        "rejected": _answer(pair.rejected),
        "rejected_ended": pair.rejected_ended,
        "media": [one_line(name, 120) for name in (*pair.images, *pair.videos)],
    }


def _answer(answer: str | dict[str, Any]) -> str:
    return shown(answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False, indent=1))
