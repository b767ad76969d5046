"""What a target takes of the rows that were kept. Tables -> **the table `selected`, by position**, and counts.

| target | one row per | columns besides `position` |
|---|---|---|
| raw, sft | kept response, of sft one that ended | `pass_rate` of its prompt |
| iterative | hard group: its first right response | `pass_rate` |
| pairs | side of a pair: the best response of a group, and its worst | `pair`, `chosen`, `grade` |
| prompts | prompt with a kept response, where it first stands | `id`, counts, `pass_rate` |
"""

from __future__ import annotations

from dataclasses import dataclass

from pangu_rl.config.export import ExportConfig
from pangu_rl.errors import DataError
from rollout.export.catalogue import Catalogue
from rollout.export.filters import Kept
from rollout.export.grades import HARD, Grades
from rollout.export.near_duplicates import Column, drop_near_duplicates

_TWINS = """
    hash(
        gold, answer_type, list_transform(images, lambda image: coalesce(image.sha256, image.path)),
        list_transform(videos, lambda video: video.sha256)
    )
"""
"""Prompts that may be near-duplicates of each other have one answer and the same pictures and videos."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    """The rows of an export before they are read."""

    counts: dict[str, int]
    """As `Kept.counts`, with what the target and the near-duplicates left."""
    rows: int
    """Rows of the export; a pair is one."""


def select(catalogue: Catalogue, kept: Kept, config: ExportConfig) -> Selected:
    """Make the table `selected`.

    Raises:
        DataError: no row is left; the message says what took the last.
    """
    counts = dict(kept.counts)

    def drop(table: str, column: Column) -> None:
        if config.near_duplicates is not None:
            drop_near_duplicates(catalogue, table, column, config.near_duplicates)
            counts[f"near_duplicates {config.near_duplicates:g}"] = catalogue.one(f"SELECT count(*) FROM {table}")[0]

    if config.to == "pairs":
        drop("kept", "text")
    (unit, query) = _QUERIES[config.to](kept.grades)
    catalogue.connection.execute(f"CREATE TABLE selected AS {query}")
    (rows,) = catalogue.one("SELECT count(*) FROM selected")
    rows = rows // 2 if config.to == "pairs" else rows
    if unit:
        counts[unit] = rows
    if not rows:
        why = f" ({kept.grades.rule(config.to)})" if config.to in ("pairs", "iterative") else ""
        raise DataError(f"nothing to export: {kept.rows} rows pass the filters, {unit}: none{why}")
    if config.to != "pairs":
        drop("selected", "messages" if config.to == "prompts" else "text")
        (rows,) = catalogue.one("SELECT count(*) FROM selected")
    return Selected(counts=counts, rows=rows)


def _responses(grades: Grades) -> tuple[str, str]:
    return "", "SELECT position, prompt_key AS scope, pass_rate FROM kept JOIN prompts USING (prompt_key)"


def _whole_responses(grades: Grades) -> tuple[str, str]:
    """A response that was cut would teach never to stop."""
    _, query = _responses(grades)
    return "responses that ended", f"{query} WHERE whole"


def _hard(grades: Grades) -> tuple[str, str]:
    """The rule looks at all responses of a group; filters say which of the right ones may be taken."""
    return (
        "hard groups",
        f"""
        WITH hard AS (
            SELECT group_key FROM rows GROUP BY group_key
            HAVING count(*) FILTER ({grades.wrong}) >= {HARD.wrong_at_least} AND bool_or({grades.learnable})
        ), first AS (
            SELECT min(position) AS position, prompt_key FROM kept JOIN hard USING (group_key)
            WHERE whole AND {grades.learnable} GROUP BY group_key, prompt_key
        )
        SELECT position, prompt_key AS scope, pass_rate FROM first JOIN prompts USING (prompt_key)
    """,
    )


def _pairs(grades: Grades) -> tuple[str, str]:
    """Of equal grades the earlier response stands for both."""
    return (
        "pairs",
        f"""
        WITH best AS (
            SELECT group_key,
                max({{'grade': grade, 'place': -position}}) FILTER ({grades.good}) AS chosen,
                min({{'grade': grade, 'place': position}}) FILTER ({grades.bad}) AS rejected
            FROM kept WHERE grade IS NOT NULL GROUP BY group_key
        ), pairs AS (
            SELECT -chosen.place AS chosen, rejected.place AS rejected, chosen.grade AS high, rejected.grade AS low
            FROM best WHERE chosen.grade > rejected.grade
        )
        SELECT chosen AS position, least(chosen, rejected) AS pair, true AS chosen, high AS grade FROM pairs
        UNION ALL
        SELECT rejected, least(chosen, rejected), false, low FROM pairs
    """,
    )


def _prompts(grades: Grades) -> tuple[str, str]:
    """A uid that another prompt has already is numbered."""
    return (
        "prompts",
        f"""
        WITH first AS (SELECT min(position) AS position, prompt_key FROM kept GROUP BY prompt_key)
        SELECT position, {_TWINS} AS scope, samples, verdicts, n_correct, pass_rate,
            prompt_uid || CASE
                WHEN row_number() OVER same = 1 THEN '' ELSE '~' || row_number() OVER same END AS id
        FROM first JOIN prompts USING (prompt_key)
            JOIN (SELECT position, prompt_uid, gold, answer_type, images, videos FROM rollouts) USING (position)
        WINDOW same AS (PARTITION BY prompt_uid ORDER BY position)
    """,
    )


_QUERIES = {"raw": _responses, "sft": _whole_responses, "iterative": _hard, "pairs": _pairs, "prompts": _prompts}
