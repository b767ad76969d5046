"""EasyR1's Parquet: a `problem` with `<image>` and `<video>` markers, its `answer`, pictures as bytes."""

from __future__ import annotations

from pangu_rl.data.fields.bad_row import BadRow, Row, text_field
from pangu_rl.data.fields.columns import Kind
from pangu_rl.data.formats.format import Format


def convert(row: Row, kind: Kind) -> Row:
    if kind not in ("prompt", "query"):
        raise BadRow(f"EasyR1's rows are prompts of RL with a gold, and a {kind} is wanted")
    return {
        "messages": [{"role": "user", "content": text_field(row, "problem")}],
        "answer": row.get("answer"),
        "images": row.get("images"),
        "videos": row.get("videos"),
    }


FORMAT = Format(
    name="easyr1",
    shown="problem, answer, images, videos",
    recognises=lambda row: isinstance(row.get("problem"), str) and row.get("answer") is not None,
    convert=convert,
    used=frozenset({"problem", "answer", "images", "videos"}),
)
