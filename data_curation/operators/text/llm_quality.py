"""A model reads the row and scores it from 1 to 5 (docs/scorers.md): rows below a bound are put aside."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from data_curation.pipeline.operator import row_operator
from data_curation.pipeline.record import Annotate, Drop, Record, Verdict
from pangu_rl.errors import DataError
from rewards.scorers.llm_score import score_item
from rewards.scorers.records import ScoredItem


@row_operator(cost="endpoint")
async def llm_quality(
    record: Record, *, scorers: str, least: Annotated[float, Field(ge=1.0, le=5.0)] = 3.0, reason: str = "low score"
) -> Verdict:
    """`scorers` is the panel's configuration, a `ScorersConfig` in YAML, with the criteria `text_quality`,
    `no_loops`, the four of interleaved data (MindVL, section 3.2.1: `question_answer`, `picture_relevance`,
    `complementarity`, `information_density`), or a prompt of yours. Each vote is noted with its reason. A row without a
    verdict (an endpoint that is down, a reply that is none) is an error."""
    item = ScoredItem(
        uid=record.uid,
        question=record.text("asked"),
        response=record.text("answered"),
        reference=str(record.row.get("answer") or ""),
        pictures=record.images,
    )
    part = await score_item(item, scorers)
    if part.value is None:
        raise DataError(part.detail)
    if part.value < least:
        return Drop(reason, f"{part.value:g}, the least is {least:g}: {part.detail}"[:300], {"score": part.value})
    votes = [{"criterion": vote.criterion, "score": vote.score, "reason": vote.reason} for vote in part.votes]
    return Annotate({"score": part.value, "votes": votes})
