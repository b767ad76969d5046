"""`pangu-rl export --stats`: what the kept rows are like. Table `kept` -> **figures, and a table for people**."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from rollout.export.catalogue import Catalogue

_OF_KEPT = "FROM rollouts WHERE position IN (SELECT position FROM kept)"
_BAR = 30


def read_stats(catalogue: Catalogue) -> dict[str, Any]:
    """Figures of the rows in `kept`; pass rates are those of their prompts."""
    rows, groups, prompts = catalogue.one(
        "SELECT count(*), count(DISTINCT group_key), count(DISTINCT prompt_key) FROM kept"
    )
    return {
        "rows": rows,
        "groups": groups,
        "prompts": prompts,
        "parts": _parts(catalogue),
        "outcome": _shares(catalogue, "outcome"),
        "finish_reason": _shares(catalogue, "finish_reason"),
        "response_tokens": _lengths(catalogue),
        "pass_rate": _pass_rates(catalogue),
    }


def print_stats(stats: Mapping[str, Any], console: Console) -> None:
    console.print(f"{stats['rows']} rows, {stats['groups']} groups, {stats['prompts']} prompts", highlight=False)
    parts = _table("reward part", "rows", "mean", "least", "most", "no verdict", "outcomes")
    for name, part in stats["parts"].items():
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in part["outcomes"].items())
        figures = (_figure(part[key]) for key in ("mean", "min", "max"))
        parts.add_row(name, str(part["rows"]), *figures, str(part["no_verdict"]), outcomes)
    console.print(parts)
    for column in ("outcome", "finish_reason"):
        shares = _table(column.replace("_", " "), "rows", "share", "mean reward", "mean tokens")
        for name, found in stats[column].items():
            share = f"{found['rows'] / stats['rows']:.1%}"
            shares.add_row(name, str(found["rows"]), share, _figure(found["reward"]), _figure(found["tokens"]))
        console.print(shares)
    lengths = _table("response tokens", *stats["response_tokens"])
    lengths.add_row("", *(_figure(value) for value in stats["response_tokens"].values()))
    console.print(lengths)
    rates = _table("pass rate", "prompts", "")
    most = max(stats["pass_rate"].values(), default=1)
    for name, count in stats["pass_rate"].items():
        rates.add_row(name, str(count), "█" * round(_BAR * count / most))
    console.print(rates)


def _parts(catalogue: Catalogue) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, rows, mean, least, most, missing in catalogue.all(f"""
        SELECT part.name, count(*), avg(part.value), min(part.value), max(part.value), count(*) - count(part.value)
        FROM (SELECT unnest(parts) AS part {_OF_KEPT}) GROUP BY part.name ORDER BY part.name
    """):
        found[name] = {"rows": rows, "mean": mean, "min": least, "max": most, "no_verdict": missing, "outcomes": {}}
    for name, outcome, count in catalogue.all(f"""
        SELECT part.name, part.outcome, count(*) AS n
        FROM (SELECT unnest(parts) AS part {_OF_KEPT}) GROUP BY ALL ORDER BY part.name, n DESC, part.outcome
    """):
        found[name]["outcomes"][outcome] = count
    return found


def _shares(catalogue: Catalogue, column: str) -> dict[str, Any]:
    found = catalogue.all(f"""
        SELECT {column}, count(*) AS n, avg(reward), avg(response_tokens) {_OF_KEPT}
        GROUP BY {column} ORDER BY n DESC, {column}
    """)
    return {name: {"rows": rows, "reward": reward, "tokens": tokens} for name, rows, reward, tokens in found}


def _lengths(catalogue: Catalogue) -> dict[str, float]:
    """Exact quantiles over the counts of each length, of which there are no more than tokens in a response."""
    counts = catalogue.all(f"SELECT response_tokens AS n, count(*) {_OF_KEPT} GROUP BY n ORDER BY n")
    total = sum(count for _, count in counts)
    named = {"least": 0.0, "10 %": 0.1, "50 %": 0.5, "90 %": 0.9, "99 %": 0.99, "most": 1.0}
    found = {name: _quantile(counts, share * total) for name, share in named.items()}
    return {"mean": sum(length * count for length, count in counts) / total, **found}


def _quantile(counts: list[tuple[Any, ...]], rank: float) -> int:
    """The least length that so many rows do not exceed."""
    seen = 0
    for length, count in counts:
        seen += count
        if seen >= rank and seen:
            return length
    return counts[-1][0]


def _pass_rates(catalogue: Catalogue) -> dict[str, int]:
    """Prompts in ten bands; those that are never or always answered right stand apart."""
    rates = catalogue.all("""
        SELECT CASE pass_rate WHEN 0 THEN 0 WHEN 1 THEN 11 ELSE 1 + floor(pass_rate * 10)::INT END AS band, count(*)
        FROM prompts WHERE prompt_key IN (SELECT prompt_key FROM kept) GROUP BY band
    """)
    return dict(_bands(dict(rates)))


def _bands(counts: Mapping[int | None, int]) -> Iterator[tuple[str, int]]:
    yield "0 (never)", counts.get(0, 0)
    for band in range(1, 11):
        yield f"{(band - 1) / 10:.1f} to {band / 10:.1f}", counts.get(band, 0)
    yield "1 (always)", counts.get(11, 0)
    if counts.get(None):
        yield "no verdict", counts[None]


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 or column in ("", "outcomes") else "right")
    return table


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
