"""verl's Parquet of RL: `prompt` as messages, the gold in `reward_model`, pictures as bytes at their markers."""

from __future__ import annotations

from typing import Any

from pangu_rl.data.fields.bad_row import BadRow, Row
from pangu_rl.data.fields.columns import Kind
from pangu_rl.data.formats.format import Format


def convert(row: Row, kind: Kind) -> Row:
    if kind not in ("prompt", "query"):
        raise BadRow(f"verl's rows are prompts of RL with a gold, and a {kind} is wanted")
    graded = row.get("reward_model")
    if not isinstance(graded, dict) or graded.get("ground_truth") is None:
        raise BadRow("key reward_model has no ground_truth")
    return {
        "prompt" if isinstance(row.get("prompt"), str) else "messages": row.get("prompt"),
        "answer": _unwrapped(graded["ground_truth"]),
        "source": row.get("data_source"),
        "images": row.get("images"),
        "videos": row.get("videos"),
    }


def _recognises(row: Row) -> bool:
    graded = row.get("reward_model")
    return isinstance(graded, dict) and "ground_truth" in graded and isinstance(row.get("prompt"), (str, list))


def _unwrapped(gold: Any) -> Any:
    """Some of its data sets hold the gold as a list of one."""
    return gold[0] if isinstance(gold, list) and len(gold) == 1 else gold


FORMAT = Format(
    name="verl",
    shown="prompt, reward_model with ground_truth, data_source, images, videos, ability, extra_info",
    recognises=_recognises,
    within=lambda row, kind: _recognises(row),
    convert=convert,
    used=frozenset({"prompt", "reward_model", "data_source", "images", "videos"}),
    passed=frozenset({"ability", "extra_info"}),
)
