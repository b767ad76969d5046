"""Words and characters that few rows have: rows with them are seen more often (MindVL, section 3.1.2: coverage of OCR).

A character of kana or Han counts as a word, unless a file says what the words are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from pydantic import PositiveInt

from data_curation.operators._unspaced import Unspaced
from data_curation.operators.balance._vocabulary import vocabulary
from data_curation.pipeline.operator import Features, set_operator
from data_curation.pipeline.record import Keep, Part, Record, Repeat, Verdict

_WORD = re.compile(rf"[{Unspaced.CJK}]|[^\W\d_{Unspaced.CJK}]+")


def words_of(record: Record, *, wanted: str | None, part: Part) -> dict[str, Any] | None:
    """The different words of a row; where a file says which are wanted, what it has of these."""
    text = record.text(part)
    words = {word.casefold() for word in _WORD.findall(text)} if wanted is None else vocabulary(wanted).of(text)
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
    times, at most `most_times`. `wanted` is a file of words and characters, split by spaces: only these count, which
    keeps misread words from being called rare ones; it is read as `text_coverage` reads its own. The report has how
    many rows each row's rarest word stands in."""
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
