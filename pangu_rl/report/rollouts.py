"""The rollout store -> **counts over all rows, and a few rows to look at**. Read in batches; memory does not grow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from rollout.reading import reading, unchanged
from rollout.store import RolloutStore

COUNTED = ("step", "completion_uid", "prompt_uid", "source", "reward", "outcome", "finish_reason", "parts")
_KEY = ("step", "completion_uid", "prompt_uid")
_POOL = 64
"""Rows kept per wanted one while choosing, so that rows of as many different prompts are among them."""
PERCENTILES = (5, 50, 95)


@dataclass(slots=True)
class PartCount:
    """What one reward function said."""

    values: int = 0
    total: float = 0.0
    least: float = float("inf")
    greatest: float = float("-inf")
    outcomes: Counter[str] = field(default_factory=Counter)

    @property
    def mean(self) -> float:
        return self.total / self.values if self.values else float("nan")


@dataclass(slots=True)
class SourceCount:
    """The completions of one source."""

    rows: int = 0
    rewarded: int = 0
    total: float = 0.0
    correct: int = 0

    @property
    def mean(self) -> float:
        return self.total / self.rewarded if self.rewarded else float("nan")


@dataclass(slots=True)
class Counts:
    """Over every stored completion."""

    rows: int = 0
    steps: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    finish: Counter[str] = field(default_factory=Counter)
    parts: dict[str, PartCount] = field(default_factory=dict)
    sources: dict[str, SourceCount] = field(default_factory=dict)
    lengths: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """Completions by their number of tokens."""

    def length_percentiles(self) -> dict[str, int]:
        """Label -> tokens."""
        reached = np.cumsum(self.lengths) / max(self.rows, 1)
        marks = {f"{percent} %": int(np.searchsorted(reached, percent / 100)) for percent in PERCENTILES}
        present = np.flatnonzero(self.lengths)
        return {"shortest": int(present[0]), **marks, "longest": int(present[-1])} if len(present) else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollouts:
    """What the report shows of the store."""

    counts: Counts
    sheets: dict[str, list[dict[str, Any]]]
    """Title -> whole rows."""


def read_rollouts(run_dir: Path, per_sheet: int) -> Rollouts | None:
    """None for a run that stores none (yet).

    Raises:
        DataError: a shard of another schema, or one that changed while it was read.
    """
    store = RolloutStore(run_dir)
    if not store.directory.is_dir() or not store.steps():
        return None
    with reading(store.directory), unchanged(store.shards()):
        return _read(store, per_sheet)


def _read(store: RolloutStore, per_sheet: int) -> Rollouts:
    dataset = store.read()
    counts = Counts(steps=len(store.steps()))
    chosen = dict.fromkeys(_RULES, _NOTHING)
    columns = {name: ds.field(name) for name in COUNTED} | {"tokens": pc.list_value_length(ds.field("token_ids"))}
    for batch in dataset.to_batches(columns=columns):
        if batch.num_rows:
            table = pa.Table.from_batches([batch])
            _count(counts, table)
            for title, rule in _RULES.items():
                chosen[title] = rule.best_of(chosen[title], table, per_sheet * _POOL)
    keys = {title: _one_per_prompt(table, per_sheet) for title, table in chosen.items()}
    rows = _whole_rows(dataset, {key for found in keys.values() for key in found})
    return Rollouts(counts=counts, sheets={title: [rows[key] for key in found] for title, found in keys.items()})


_NOTHING = pa.table(
    {
        "step": pa.array([], pa.int64()),
        "completion_uid": pa.array([], pa.string()),
        "prompt_uid": pa.array([], pa.string()),
        "reward": pa.array([], pa.float64()),
        "tokens": pa.array([], pa.int32()),
    }
)


@dataclass(frozen=True, slots=True)
class _Rule:
    """Which rows a sheet shows: those with or without a reward, in an order."""

    has_reward: bool | None
    order: tuple[tuple[str, str], ...]

    def best_of(self, before: pa.Table, batch: pa.Table, limit: int) -> pa.Table:
        table = batch.select(_NOTHING.column_names)
        if self.has_reward is not None:
            valid = pc.is_valid(table["reward"])
            table = table.filter(valid if self.has_reward else pc.invert(valid))
        table = pa.concat_tables([before, table.cast(_NOTHING.schema)])
        return table.sort_by([*self.order, *_NEWEST]).slice(0, limit)


_NEWEST = (("step", "descending"), ("completion_uid", "ascending"))
_RULES = {
    "Best": _Rule(True, (("reward", "descending"),)),
    "Worst": _Rule(True, (("reward", "ascending"),)),
    "Longest": _Rule(None, (("tokens", "descending"),)),
    "No verdict": _Rule(False, ()),
}
"""Of equals, the newest."""


def _one_per_prompt(table: pa.Table, limit: int) -> list[tuple[int, str]]:
    first: dict[str, tuple[int, str]] = {}
    for row in table.select(_KEY).to_pylist():
        first.setdefault(row["prompt_uid"], (row["step"], row["completion_uid"]))
    return list(first.values())[:limit]


def _whole_rows(dataset: ds.Dataset, keys: set[tuple[int, str]]) -> dict[tuple[int, str], dict[str, Any]]:
    steps, uids = [step for step, _ in keys], [uid for _, uid in keys]
    among = ds.field("step").isin(steps) & ds.field("completion_uid").isin(uids)
    columns = [name for name in dataset.schema.names if name not in ("prompt_token_ids", "logprobs")]
    rows = {(row["step"], row["completion_uid"]): row for row in dataset.to_table(columns, filter=among).to_pylist()}
    return {key: rows[key] for key in keys}


def _count(counts: Counts, table: pa.Table) -> None:
    counts.rows += table.num_rows
    counts.outcomes.update(table["outcome"].to_pylist())
    counts.finish.update(table["finish_reason"].to_pylist())
    tokens = np.bincount(table["tokens"].to_numpy())
    longer, shorter = sorted((counts.lengths, tokens), key=len, reverse=True)
    counts.lengths = longer + np.pad(shorter, (0, len(longer) - len(shorter)))
    _count_sources(counts.sources, table)
    for part in (part for row in table["parts"].to_pylist() for part in row):
        if part["name"] not in counts.parts:
            counts.parts[part["name"]] = PartCount()
        _count_part(counts.parts[part["name"]], part)


def _count_sources(sources: dict[str, SourceCount], table: pa.Table) -> None:
    columns: Sequence[list[Any]] = [table[name].to_pylist() for name in ("source", "reward", "outcome")]
    for source, reward, outcome in zip(*columns, strict=True):
        count = sources.setdefault(source, SourceCount())
        count.rows += 1
        count.correct += outcome == "correct"
        if reward is not None:
            count.rewarded += 1
            count.total += reward


def _count_part(count: PartCount, part: dict[str, Any]) -> None:
    count.outcomes[part["outcome"]] += 1
    value = part["value"]
    if value is not None:
        count.values += 1
        count.total += value
        count.least = min(count.least, value)
        count.greatest = max(count.greatest, value)
