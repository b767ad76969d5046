"""Words and characters that few rows have: rows with them are seen more often (MindVL, section 3.1.2: coverage of OCR).

A character of a script without spaces counts as a word.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import pyarrow as pa
from pydantic import PositiveInt

from data_curation.pipeline.operator import Features, set_operator
from data_curation.pipeline.record import Keep, Part, Record, Repeat, Verdict
from pangu_rl.config.paths import resolve_path

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]|[^\W\d_\u3040-\u30ff\u3400-\u9fff]+")


def words_of(record: Record, *, wanted: str | None, part: Part) -> dict[str, Any] | None:
    """The different words of a row; of those that are wanted, where a file says which."""
    words = {word.casefold() for word in _WORD.findall(record.text(part))}
    if wanted is not None:
        words &= _wanted(wanted)
    return {"words": sorted(words)} if words else None


@set_operator(features=words_of, schema=pa.schema([("words", pa.list_(pa.string()))]))
def rare_text(
    rows: Features,
    *,
    least: PositiveInt = 10,
    most_times: PositiveInt = 5,
    wanted: str | None = None,
    part: Part = "answered",
) -> Iterator[tuple[int, Verdict]]:
    """A row whose rarest word stands in fewer than `least` rows is repeated so often that this word is seen `least`
    times, at most `most_times`. `wanted` is a file of words or characters, split by spaces: only these count, which
    keeps misread words from being called rare ones. The report has how many rows each row's rarest word stands in."""
    rarest = rows.connection.cursor().sql("""
        WITH words AS (SELECT position, unnest(words) AS word FROM features),
        counted AS (SELECT word, count(*) AS rows FROM words GROUP BY word)
        SELECT position, min(rows) AS rows FROM words JOIN counted USING (word) GROUP BY position ORDER BY position
    """)
    for batch in rarest.to_arrow_reader(4096):
        for row in batch.to_pylist():
            times = min(most_times, math.ceil(least / row["rows"]))
            values = {"rows with the rarest word": row["rows"]}
            yield row["position"], Repeat(times, values) if times > 1 else Keep(values=values)


@cache
def _wanted(path: str) -> frozenset[str]:
    return frozenset(resolve_path(path).read_text(encoding="utf-8").casefold().split())
