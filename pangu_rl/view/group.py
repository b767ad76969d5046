"""One group of the store -> **all that there is to see of it**: the prompt with its pictures, the completions with
their scores and the places that they name. Every text has passed `shown`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.dataset as ds

from pangu_rl.errors import DataError
from pangu_rl.pages.shown_text import conversation, one_line, shown
from pangu_rl.report.places import Places, found_places, gold_places
from pangu_rl.view.media import kept_file
from rollout.reading import batches, reading
from rollout.schema import SCHEMA
from rollout.store import RolloutStore

WIDE = ("prompt_token_ids", "token_ids", "logprobs", "weight_versions")
"""Columns as long as the text, of which a group shows the lengths alone."""
MOST = 256
"""Completions that are shown at once."""


def read_group(folder: Path, step: int, group: str) -> dict[str, Any]:
    """
    Raises:
        DataError: no such group, or a store that cannot be read.
    """
    columns = {name: ds.field(name) for name in SCHEMA.names if name not in WIDE}
    for name in ("prompt_token_ids", "token_ids"):
        columns[f"len_{name}"] = pc.list_value_length(ds.field(name))
    rows = rows_of(folder, step, ds.field("group") == group, columns)
    if not rows:
        raise DataError(f"{folder}: step {step} has no group {group[:80]!r}")
    first = rows[0]
    return {
        "step": step,
        "group": group,
        "source": one_line(first["source"], 80),
        "messages": conversation(first["messages"]),
        "gold": shown(first["gold"], 600, 0),
        "answer_type": first["answer_type"],
        "extra": shown(first["extra"] or "", 2000, 0),
        "sampling": first["sampling"],
        "prompt_tokens": first["len_prompt_token_ids"],
        "pictures": [_picture(image, folder) for image in first["images"]],
        "videos": [_video(video, folder) for video in first["videos"] or ()],
        "gold_places": _plain(gold_places(first)),
        "completions": [_completion(row) for row in rows[:MOST]],
        "left_out": max(0, len(rows) - MOST),
    }


def rows_of(
    folder: Path, step: int, among: pc.Expression, columns: dict[str, pc.Expression] | list[str]
) -> list[dict[str, Any]]:
    """The rows of `step` that `among` holds for.

    Raises:
        DataError: that step has none, or the store cannot be read.
    """
    store = RolloutStore(folder)
    paths = [shard.path for shard in store.shards() if shard.first <= step <= shard.last]
    if not paths:
        raise DataError(f"{folder}: no rollouts of step {step}")
    with reading(store.directory):
        return [
            row for batch in batches(paths, columns, (ds.field("step") == step) & among) for row in batch.to_pylist()
        ]


def _completion(row: Mapping[str, Any]) -> dict[str, Any]:
    votes: Sequence[Mapping[str, Any]] = json.loads(row["scorer_votes"]) if row["scorer_votes"] else ()
    return {
        **{name: row[name] for name in ("reward", "outcome", "advantage", "trained", "finish_reason", "seconds")},
        "uid": row["completion_uid"],
        "text": shown(row["text"]),
        "tokens": row["len_token_ids"],
        "version": row["weight_version"],
        "parts": [
            {
                "name": one_line(p["name"], 80),
                "value": p["value"],
                "outcome": p["outcome"],
                "detail": one_line(p["detail"]),
            }
            for p in row["parts"]
        ],
        "votes": [
            {name: one_line(str(vote[name])) for name in ("scorer", "criterion", "score", "reason")} for vote in votes
        ],
        "places": _plain(found_places(row)),
    }


def _plain(places: Places) -> dict[str, Any]:
    return asdict(places) | {"shapes": [asdict(place) | {"name": one_line(place.name, 60)} for place in places.shapes]}


def _picture(image: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    kept = image["sha256"] and kept_file([folder], image["sha256"])
    return {"sha256": image["sha256"] if kept else None, "name": one_line(image["original"] or image["path"], 200)}


def _video(video: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    found = _picture(video, folder)
    return found | {"seconds": [round(second, 2) for second in video["seconds"]]}
