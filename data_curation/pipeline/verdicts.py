"""Verdicts as JSON and back: what a set operator decided waits on disk until a worker applies it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from data_curation.pipeline.record import Annotate, Drop, Edit, Keep, Repeat, Split, Verdict
from pangu_rl.errors import ConfigError

KINDS: dict[str, type] = {kind.__name__: kind for kind in (Keep, Drop, Edit, Annotate, Repeat, Split)}


def to_json(verdict: Verdict) -> dict[str, Any]:
    return {"kind": type(verdict).__name__, **({} if verdict is None else asdict(verdict))}


def from_json(tree: dict[str, Any]) -> Verdict:
    fields = {key: value for key, value in tree.items() if key != "kind"}
    return KINDS[tree["kind"]](**fields) if tree["kind"] in KINDS else None


def checked_verdict(verdict: Any, operator: str) -> Verdict:
    """
    Raises:
        ConfigError: it is none. TypeError, ValueError: it holds what JSON cannot.
    """
    if verdict is not None and not isinstance(verdict, tuple(KINDS.values())):
        raise ConfigError(
            f"operator {operator}: returned {type(verdict).__name__} {str(verdict)[:60]!r}: return Keep, Drop, Edit, "
            "Annotate, Repeat, Split or None"
        )
    if isinstance(verdict, Repeat) and verdict.times < 1:
        raise ConfigError(f"operator {operator}: repeats a row {verdict.times} times: drop it by Drop, with a reason")
    if isinstance(verdict, Split) and not verdict.rows:
        raise ConfigError(f"operator {operator}: splits a row into none: drop it by Drop, with a reason")
    match verdict:
        case Edit(row=held) | Annotate(notes=held) | Split(rows=held):
            json.dumps(dict(held) if isinstance(verdict, Annotate) else held, allow_nan=False)
    return verdict
