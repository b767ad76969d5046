"""A model reads the table of a chart, a second one reads it too, and both must say the same (MindVL, section 3.1.3).

The paper has charts whose tables come with them; this is the way for those that come without.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache

from data_curation.operators.written._writer import Table, Value, write
from data_curation.pipeline.operator import row_operator
from data_curation.pipeline.record import Drop, Edit, Record, Verdict
from pangu_rl.config.curate import Share
from pangu_rl.config.load import load_config
from pangu_rl.config.sections.scorers import WriterConfig
from pangu_rl.errors import ConfigError
from rewards.metrics.texts import relaxed_accuracy

Place = tuple[tuple[str, int], tuple[str, int]]
"""Name of the row and of the column, each with how many of this name are before it."""


@row_operator(cost="endpoint")
async def chart_tables(
    record: Record, *, writer: str, second: str, prompt: str = "chart_table", least: Share = 1.0
) -> Verdict:
    """Rows with one picture and neither text nor `table` get the `table` that `table_answers` reads. `writer`
    and `second` are each a `WriterConfig` in YAML: two models, or one with a `temperature` and another `seed`. Cells
    agree that stand under the same names in both: numbers within 5 %, words equal but for case, as ChartQA grades. Rows
    and columns may stand in another order, or for each other; a single series may be named otherwise. A row is put
    aside where less than `least` of its cells agree; one without a reply is an error."""
    _require_two(writer, second)
    if record.row.get("table") is not None or record.texts() or len(record.images) != 1:
        return None
    table = await write(record, writer, prompt, Table)
    if not table.columns:
        return Drop("no chart")
    share, difference = agreement(table, await write(record, second, prompt, Table))
    if share < least:
        return Drop("tables disagree", difference, {"agreement": share})
    return Edit(record.row | {"table": table.model_dump()}, "table read from the chart")


def agreement(one: Table, other: Table) -> tuple[float, str]:
    """Share of the cells of both that agree, and the first that does not: `sales, 2020: 12 and 15`."""
    wanted, lines = _cells(_upright(one)), _upright(other)
    ways = (lines, list(zip(*lines, strict=True)))
    return max((_shared(wanted, _cells(way)) for way in ways), key=lambda found: found[0])


def _upright(table: Table) -> list[Sequence[Value]]:
    """Its lines, of names first; a single series of several values stands in a column, where its name does not
    count."""
    lines = [table.columns, *table.rows]
    return list(zip(*lines, strict=True)) if len(table.rows) == 1 and len(table.columns) > 2 else lines


def _shared(wanted: dict[Place, str], said: dict[Place, str]) -> tuple[float, str]:
    places = list(dict.fromkeys([*wanted, *said]))
    wrong = [at for at in places if not (at in wanted and at in said and relaxed_accuracy(said[at], [wanted[at]]))]
    if not wrong:
        return 1.0, ""
    (row, _), (column, _) = wrong[0]
    found = " and ".join(repr(cells[wrong[0]]) if wrong[0] in cells else "none" for cells in (wanted, said))
    name = ", ".join(filter(None, (row, column)))
    return 1 - len(wrong) / len(places), f"{name}: {found}; {len(wrong)} of {len(places)} cells differ"


def _cells(grid: Sequence[Sequence[Value]]) -> dict[Place, str]:
    """What stands in a table under which names; the first line and the first column are the names."""
    if not grid or not grid[0]:
        return {}
    columns = _numbered([_text(name) for name in grid[0][1:]]) if len(grid[0]) > 2 else [("", 0)]
    rows = _numbered([_text(row[0]) for row in grid[1:]])
    return {
        (row, column): _text(value)
        for row, line in zip(rows, grid[1:], strict=True)
        for column, value in zip(columns, line[1:], strict=True)
    }


def _numbered(names: Sequence[str]) -> list[tuple[str, int]]:
    before: Counter[str] = Counter()
    found = []
    for name in names:
        found.append((name, before[name]))
        before[name] += 1
    return found


def _text(value: Value) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else " ".join(str(value).casefold().split())


@cache
def _require_two(writer: str, second: str) -> None:
    one, other = (load_config(WriterConfig, file).scorer for file in (writer, second))
    if all(getattr(one, key) == getattr(other, key) for key in ("model", "base_url", "engine", "temperature", "seed")):
        raise ConfigError(
            f"second {second}: asks {other.model} what writer {writer} asks it, and would agree with itself: name "
            "another model, or set scorer.temperature above 0 and another scorer.seed"
        )
