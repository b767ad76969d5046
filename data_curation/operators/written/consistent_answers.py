"""A second model answers a row's question without its answer; a panel says whether both say the same (MindVL, 3.2.2).

The share of rows that stay, in the report, is the paper's measure of the questions and of the captions behind them.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from data_curation.operators.written._writer import Text, write
from data_curation.pipeline.operator import row_operator
from data_curation.pipeline.record import Annotate, Drop, Record, Verdict
from pangu_rl.errors import DataError
from rewards.scorers.llm_score import score_item
from rewards.scorers.records import ScoredItem


@row_operator(cost="endpoint")
async def consistent_answers(
    record: Record, *, writer: str, scorers: str, least: Annotated[float, Field(ge=1.0, le=5.0)] = 4.0
) -> Verdict:
    """`writer` (a `WriterConfig`) names the model that answers, `scorers` (a `ScorersConfig` with the criterion
    `similarity`) those that compare its answer with the row's, from 1 to 5. A row without a verdict is an error."""
    said = (await write(record, writer, "answer", Text)).text
    own = record.text("answered")
    item = ScoredItem(uid=record.uid, question=record.text("asked"), response=said, reference=own)
    part = await score_item(item, scorers)
    if part.value is None:
        raise DataError(part.detail)
    if part.value < least:
        return Drop("inconsistent answer", f"{said[:120]!r} instead of {own[:120]!r}", {"consistency": part.value})
    return Annotate({"consistency": part.value})
