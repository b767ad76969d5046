"""Reasoning is kept only where it arrives at the row's answer, by the grader that rewards are given by."""

from __future__ import annotations

from data_curation.operators.dialogue.verifiable_prompts import short_answer
from data_curation.pipeline.operator import row_operator
from data_curation.pipeline.record import NOTES, Drop, Record, Verdict
from pangu_rl.data.chat.turns import text_of
from pangu_rl.data.queries import parse_query
from pangu_rl.errors import DataError
from pangu_rl.records import Outcome
from rewards.grader import default_grader
from rewards.recipe.accuracy import gold_of
from rewards.rules.boxed_answer import extract_boxed

WORDS = 6


@row_operator(cost="cpu")
def agreeing_answers(record: Record) -> Verdict:
    """Of rows with an `answer`: what the last turn says in its box, or else plainly, is graded against it. Rows without
    one pass; a row without a verdict is an error."""
    row = {key: value for key, value in record.row.items() if key != NOTES}
    reply = _reply(row)
    if row.get("answer") is None or reply is None:
        return None
    if extract_boxed(reply) is None:
        if (said := short_answer(reply, WORDS)) is None:
            return Drop("no answer", "the last turn has no box and does not say what the answer is")
        reply = f"\\boxed{{{said}}}"
    gold = gold_of(parse_query(row, record.uid, lambda _: None))
    part = default_grader().grade(reply, gold)
    if part.value is None:
        raise DataError(f"no verdict: {part.outcome}: {part.detail}")
    if part.outcome is not Outcome.CORRECT:
        return Drop("wrong answer", f"{extract_boxed(reply)!r:.80} and the answer is {gold.text!r:.80}")
    return None


def _reply(row: dict) -> str | None:
    if isinstance(row.get("response"), str):
        return row["response"]
    messages = row.get("messages") or ()
    return text_of(messages[-1]) if messages and messages[-1].get("role") == "assistant" else None
