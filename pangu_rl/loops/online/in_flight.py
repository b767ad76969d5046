"""What a checkpoint keeps of answers that no step has trained on yet: groups, whole or begun <-> **one Parquet table**.

A row is one answer: finished and scored, finished, begun, or only asked for. Prompts and pictures are not in it; they
come from the data set again, whose fingerprint the prompt stream compares.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from pangu_rl.loops.online.backlog import oldest_version
from pangu_rl.records import (
    Begun,
    Completion,
    FinishReason,
    Group,
    Outcome,
    Part,
    Score,
    Vote,
)

FILE = "in_flight.parquet"
"""Name of the table in a checkpoint's folder."""
SCHEMA = pa.schema(
    [
        pa.field("group", pa.string(), nullable=False),
        pa.field("version", pa.int64(), nullable=False),  # of the engines when the group was admitted
        pa.field("uid", pa.string(), nullable=False),
        pa.field("seed", pa.int64()),  # null of a finished answer
        pa.field("token_ids", pa.list_(pa.int32()), nullable=False),
        pa.field("logprobs", pa.list_(pa.float64()), nullable=False),
        pa.field("weight_versions", pa.list_(pa.int64()), nullable=False),
        pa.field("text", pa.string()),  # null of an answer that is not finished, as the two below
        pa.field("finish_reason", pa.string()),
        pa.field("seconds", pa.float64()),
        pa.field("score", pa.string()),  # JSON; null of an answer without one yet
    ]
)


@dataclass(slots=True)
class Answer:
    completion: Completion
    score: Score | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """An answer that is not finished: its request's seed, and what it has so far."""

    seed: int
    begun: Begun | None


@dataclass(slots=True)
class Drawn:
    """A group that no step has trained on."""

    group: str
    version: int
    """Of the engines when it was admitted: no token is older."""
    answers: dict[str, Answer] = field(default_factory=dict)
    """Those that are finished, by uid."""
    asked: dict[str, Asked] = field(default_factory=dict)
    """The others, by uid."""


def of_group(group: Group) -> Drawn:
    """A whole, scored group."""
    answers = zip(group.completions, group.scores, strict=True)
    return Drawn(
        group=group.group,
        version=oldest_version(group),
        answers={completion.uid: Answer(completion, score) for completion, score in answers},
    )


def to_table(groups: Iterable[Drawn]) -> pa.Table:
    return pa.Table.from_pylist([row for group in groups for row in _rows(group)], schema=SCHEMA)


def from_table(table: pa.Table) -> Iterator[Drawn]:
    for name, rows in itertools.groupby(table.to_pylist(), key=lambda row: row["group"]):
        drawn = Drawn(group=name, version=0)
        for row in rows:
            drawn.version = row["version"]
            if row["text"] is not None:
                drawn.answers[row["uid"]] = Answer(_completion(row), _score(row))
            else:
                drawn.asked[row["uid"]] = Asked(row["seed"], _begun(row) if row["token_ids"] else None)
        yield drawn


def _rows(drawn: Drawn) -> Iterator[dict[str, Any]]:
    shared = {"group": drawn.group, "version": drawn.version}
    for uid, answer in drawn.answers.items():
        completion = answer.completion
        yield {
            **shared,
            "uid": uid,
            **_tokens(completion),
            "text": completion.text,
            "finish_reason": completion.finish_reason.value,
            "seconds": completion.seconds,
            "score": json.dumps(asdict(answer.score)) if answer.score else None,
        }
    for uid, asked in drawn.asked.items():
        yield {**shared, "uid": uid, "seed": asked.seed, **_tokens(asked.begun or Begun())}


def _tokens(source: Completion | Begun) -> dict[str, Any]:
    return {name: getattr(source, name) for name in ("token_ids", "logprobs", "weight_versions")}


def _begun(row: dict[str, Any]) -> Begun:
    return Begun(**{name: tuple(row[name]) for name in ("token_ids", "logprobs", "weight_versions")})


def _completion(row: dict[str, Any]) -> Completion:
    return Completion(
        uid=row["uid"],
        group=row["group"],
        prompt_uid=row["group"].partition(":")[2],
        token_ids=tuple(row["token_ids"]),
        logprobs=tuple(row["logprobs"]),
        weight_versions=tuple(row["weight_versions"]),
        text=row["text"],
        finish_reason=FinishReason(row["finish_reason"]),
        seconds=row["seconds"],
    )


def _score(row: dict[str, Any]) -> Score | None:
    if row["score"] is None:
        return None
    score = json.loads(row["score"])
    parts = {
        name: Part(
            value=part["value"],
            outcome=Outcome(part["outcome"]),
            detail=part["detail"],
            votes=tuple(Vote(**vote) for vote in part["votes"]),
        )
        for name, part in score["parts"].items()
    }
    return Score(completion_uid=score["completion_uid"], reward=score["reward"], parts=parts)
