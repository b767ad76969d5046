"""How much of a vocabulary the corpus covers, and rows of a supplement for what it lacks (MindVL, section 3.1.2).

The paper has the coverage rate of words and characters in OCR text, and supplements data of low coverage.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
from pydantic import PositiveInt

from data_curation.operators.balance._drawn import drawn, label_of
from data_curation.operators.balance._vocabulary import vocabulary
from data_curation.pipeline.operator import Features, set_operator
from data_curation.pipeline.record import Annotate, Drop, Part, Record, Verdict
from pangu_rl.errors import ConfigError

Counts = dict[str, int]
"""Entry of the vocabulary -> rows that have it."""


def entries_of(
    record: Record, *, wanted: str, supplement: tuple[str, ...], by: str, part: Part, seed: int
) -> dict[str, Any] | None:
    offered = bool(supplement) and label_of(record, by) in supplement
    found = sorted(vocabulary(wanted).of(record.text(part)))
    return {"entries": found, "offered": offered, "drawn": drawn(record.uid, seed)} if found or offered else None


SCHEMA = pa.schema([("entries", pa.list_(pa.string())), ("offered", pa.bool_()), ("drawn", pa.int64())])


@set_operator(features=entries_of, schema=SCHEMA)
def text_coverage(
    rows: Features,
    *,
    wanted: str,
    least: PositiveInt = 10,
    supplement: tuple[str, ...] = (),
    by: str = "source",
    part: Part = "answered",
    seed: int = 0,
) -> Iterator[tuple[int, Verdict]]:
    """`wanted` is a file of words and characters, split by spaces: characters count as they are written, words in
    either case. The report and `figures.json` tell how many of them stand in a row at all, how many in `least` rows,
    and which in fewer. Rows whose label at `by` is one of `supplement` are only offered: those with most of what is
    short come first, equal ones in an order drawn by their ids, and a row stays if something that it has is in fewer
    than `least` rows still. It notes what for. Put it behind what drops rows, since it counts those that reach it."""
    if supplement and not rows.connection.execute("SELECT 1 FROM features WHERE offered LIMIT 1").fetchone():
        raise ConfigError(
            f"operator text_coverage: no row's {by} is one of {list(supplement)}: name others, or leave it"
        )
    listed, corpus = vocabulary(wanted), _counted(rows)
    after = corpus.copy()
    chosen = _chosen(rows, listed.characters | listed.words | listed.runs, after, least)
    for name, entries in (("characters", listed.characters), ("words", listed.words | listed.runs)):
        if entries:
            rows.told.append({"vocabulary": name, "of": "the corpus", **coverage(entries, corpus, least)})
            if supplement:
                rows.told.append({"vocabulary": name, "of": "and its supplement", **coverage(entries, after, least)})
    rows.connection.register("found", chosen).execute("CREATE TABLE chosen AS FROM found")
    offered = rows.connection.cursor().sql("""
        SELECT position, taken_for FROM features LEFT JOIN chosen USING (position) WHERE offered ORDER BY position
    """)
    for batch in offered.to_arrow_reader(4096):
        for row in batch.to_pylist():
            taken_for = row["taken_for"]
            yield row["position"], Annotate({"for": taken_for}) if taken_for else Drop("not needed for coverage")


def coverage(entries: frozenset[str], counts: Mapping[str, int], least: int) -> dict[str, Any]:
    """A line of the report; `short` has what stands in fewer than `least` rows, the rarest first."""
    rows = {entry: counts.get(entry, 0) for entry in entries}
    covered, enough = (sum(count >= bound for count in rows.values()) for bound in (1, least))
    short = sorted((count, entry) for entry, count in rows.items() if count < least)
    return {
        "entries": len(entries),
        "covered": covered,
        "coverage": round(covered / len(entries), 4),
        f"in {least} rows": enough,
        f"coverage by {least} rows": round(enough / len(entries), 4),
        "short": [[entry, count] for count, entry in short],
    }


def _counted(rows: Features) -> Counts:
    """Of the rows that are not only offered."""
    return dict(
        rows.connection.execute("""
            SELECT entry, count(*) FROM (SELECT unnest(entries) AS entry FROM features WHERE NOT offered) GROUP BY entry
        """).fetchall()
    )


def _chosen(rows: Features, entries: frozenset[str], counts: Counts, least: int) -> pa.Table:
    """Rows of the supplement and what they are taken for; `counts` grows by them. Each is one that was short by one
    row more, so they are at most `least` times the vocabulary, however many are offered."""
    short = [entry for entry in sorted(entries) if counts.get(entry, 0) < least]
    table = pa.table({"entry": pa.array(short, pa.string())})
    rows.connection.register("listed", table).execute("CREATE TABLE short AS FROM listed")
    offered = rows.connection.cursor().sql("""
        SELECT position, list(entry ORDER BY entry) AS entries
        FROM (SELECT position, drawn, unnest(entries) AS entry FROM features WHERE offered) JOIN short USING (entry)
        GROUP BY position, drawn ORDER BY count(*) DESC, drawn, position
    """)
    positions, taken_for = [], []
    for batch in offered.to_arrow_reader(4096):
        for row in batch.to_pylist():
            needed = [entry for entry in row["entries"] if counts.get(entry, 0) < least]
            if needed:
                positions.append(row["position"])
                taken_for.append(needed)
                counts.update({entry: counts.get(entry, 0) + 1 for entry in row["entries"]})
    texts = pa.list_(pa.string())
    return pa.table({"position": pa.array(positions, pa.int64()), "taken_for": pa.array(taken_for, texts)})
