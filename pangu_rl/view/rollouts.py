"""The rollout store -> **one page of its rows**, of those that pass what the user asks for.

Without a filter a page is found by counting, so that only the row groups that it stands in are read; with one, DuckDB
reads the columns that the filter names, and then the page's rows are read.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from pangu_rl.errors import ConfigError
from pangu_rl.pages.shown_text import conversation, one_line, shown
from pangu_rl.records import Outcome
from rollout.export.catalogue import EXTRA_COLUMNS, Catalogue, literal, scratch_catalogue
from rollout.export.stream import in_order
from rollout.export.where import checked_where, first_line
from rollout.schema import SCHEMA

PAGE = 50
LIMIT_S = 60.0
"""Of a filter."""
NEWEST = "newest"
SORTS = {
    NEWEST: "position DESC",
    "oldest": "position",
    "best": "reward DESC NULLS LAST, position DESC",
    "worst": "reward NULLS LAST, position DESC",
    "longest": "response_tokens DESC, position DESC",
    "shortest": "response_tokens, position DESC",
    "greatest advantage": "abs(advantage) DESC, position DESC",
}
COLUMNS = (
    "step", "group", "completion_uid", "source", "messages", "gold", "text", "token_ids", "finish_reason",
    "weight_version", "reward", "outcome", "parts", "advantage", "trained", "images", "videos",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a user asks of the table; empty texts ask for nothing."""

    where: str = ""
    """As of `pangu-rl export --where`."""
    search: str = ""
    """Stands in the completion, the prompt or the gold; capitals do not matter."""
    outcome: str = ""
    sort: str = NEWEST
    page: int = 0


def table(folders: Mapping[str, Path], asked: Asked) -> dict[str, Any]:
    """`total` rows that pass, and those of the page.

    Raises:
        ConfigError: a condition that is none, an unknown order or outcome. DataError: the store cannot be read.
    """
    if not folders:
        return {"total": 0, "page_rows": PAGE, "rows": []}
    if asked.sort not in SORTS or asked.page < 0:
        raise ConfigError(f"no order {asked.sort[:40]!r}: one of {', '.join(SORTS)}")
    with scratch_catalogue(list(folders.values())) as catalogue, _within(catalogue, LIMIT_S):
        names = {folder / "rollouts": name for name, folder in folders.items()}
        total, positions = _found(catalogue, asked)
        return {"total": total, "page_rows": PAGE, "rows": _rows(catalogue, positions, names)}


def _found(catalogue: Catalogue, asked: Asked) -> tuple[int, Sequence[int]]:
    """How many rows pass, and the positions of the page's."""
    conditions = list(_conditions(catalogue, asked))
    start = asked.page * PAGE
    if not conditions and asked.sort == NEWEST:
        last = catalogue.rows - 1 - start
        return catalogue.rows, range(last, max(last - PAGE, -1), -1)
    scope = " AND ".join(conditions) or "true"
    try:
        total = catalogue.one(f"SELECT count(*) FROM rollouts WHERE {scope}")[0]
        page = f"SELECT position FROM rollouts WHERE {scope} ORDER BY {SORTS[asked.sort]} LIMIT {PAGE} OFFSET {start}"
        return total, [position for (position,) in catalogue.all(page)]
    except (duckdb.ConversionException, duckdb.OutOfRangeException) as error:  # only the user's expression converts
        raise ConfigError(f"--where {asked.where!r}: {first_line(error)}") from None
    except duckdb.InterruptException:
        raise ConfigError(f"the filter took over {LIMIT_S:.0f} s: narrow it down, e.g. with step > 100") from None


def _conditions(catalogue: Catalogue, asked: Asked) -> Iterator[str]:
    if asked.outcome:
        if asked.outcome not in list(Outcome):
            raise ConfigError(f"no outcome {asked.outcome[:40]!r}: one of {', '.join(Outcome)}")
        yield f"outcome = {literal(asked.outcome)}"
    if asked.search:
        wanted = literal(asked.search.lower())
        yield "(" + " OR ".join(f"contains(lower({name}), {wanted})" for name in ("text", "gold", "messages")) + ")"
    if asked.where:
        yield f"({checked_where(catalogue.connection, asked.where, [*SCHEMA.names, *EXTRA_COLUMNS])})"


def _rows(catalogue: Catalogue, positions: Sequence[int], names: Mapping[Path, str]) -> list[dict[str, Any]]:
    """In the order of `positions`."""
    if not positions:
        return []
    found: dict[int, dict[str, Any]] = {}
    query = f"SELECT unnest([{', '.join(map(str, positions))}]) AS position ORDER BY position"
    for stored, chosen, batch in in_order(catalogue, query, COLUMNS):
        for position, row in zip(chosen["position"].to_pylist(), batch.to_pylist(), strict=True):
            found[position] = _row(row) | {"run": names[stored.rollouts]}
    return [found[position] for position in positions]


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    last = conversation(row["messages"])[-1:]
    return {
        **{name: row[name] for name in ("step", "reward", "outcome", "advantage", "trained", "finish_reason")},
        "group": row["group"],
        "uid": row["completion_uid"],
        "source": one_line(row["source"], 60),
        "tokens": len(row["token_ids"]),
        "version": row["weight_version"],
        "parts": {one_line(part["name"], 60): part["value"] for part in row["parts"]},
        "prompt": _excerpt(last[0][1] if last else "", 200),
        "gold": _excerpt(row["gold"], 60),
        "text": _excerpt(row["text"], 300),
        "media": len(row["images"]) + len(row["videos"] or ()),
    }


def _excerpt(text: str, limit: int) -> str:
    line = " ".join(text[: 4 * limit].split())
    return shown(line[:limit], limit, 0) + ("…" if len(text) > 4 * limit or len(line) > limit else "")


@contextmanager
def _within(catalogue: Catalogue, seconds: float) -> Iterator[None]:
    """Queries in this block are interrupted after so many seconds."""
    timer = threading.Timer(seconds, catalogue.connection.interrupt)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
