"""A chart or a picture of a table, and the table behind it -> **the question for it, in a form that is drawn**.

openPangu-VL, section 3.1, has tables in LaTeX, HTML and Markdown; MindVL, section 3.1.3, charts to tables.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from data_curation.operators.balance._drawn import drawn
from data_curation.operators.documents._tables import BadTable, Form, plain_cells, written
from data_curation.pipeline.operator import row_operator
from data_curation.pipeline.record import Edit, Record, Verdict
from pangu_rl.data.fields.bad_row import BadRow

NAMES = {"html": "HTML", "markdown": "Markdown", "latex": "LaTeX", "csv": "CSV"}


@row_operator(cost="cpu")
def table_answers(
    record: Record,
    *,
    forms: Annotated[tuple[Form, ...], Field(min_length=1)] = ("markdown", "html", "latex", "csv"),
    ask: str = "Convert the {kind} in the image to a table in {form}.",
    seed: int = 0,
) -> Verdict:
    """Of a row with `table`, `{"columns": [...], "rows": [[...], ...]}`, and `kind`, `chart` where it has none."""
    table = record.row.get("table")
    if table is None:
        return None
    form = forms[drawn(record.uid, seed) % len(forms)]
    try:
        said = written(plain_cells(table["columns"], table["rows"]), form)
    except (BadTable, KeyError, TypeError) as problem:
        raise BadRow(f"key table: {problem}: it needs columns, and rows of as many values") from None
    asked = ask.replace("{kind}", str(record.row.get("kind") or "chart")).replace("{form}", NAMES[form])
    row = {key: value for key, value in record.row.items() if key not in ("table", "kind")}
    turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
    return Edit(row | {"messages": turns}, f"table became {NAMES[form]}")
