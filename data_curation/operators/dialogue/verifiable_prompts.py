"""SFT rows become prompts with an answer that rules can check (openPangu-VL, section 3.2, RL data)."""

from __future__ import annotations

import re

from pydantic import PositiveInt

from data_curation.pipeline.operator import row_operator
from data_curation.pipeline.record import NOTES, Drop, Edit, Record, Verdict
from pangu_rl.data.queries import parse_query, query_row
from pangu_rl.records import Outcome, Prompt
from rewards.grader import default_grader
from rewards.grounding.right_answers import right_answer
from rewards.recipe.accuracy import gold_of
from rewards.rules.boxed_answer import answer_part, extract_boxed
from rewards.rules.gold import BadGold

_SAID = re.compile(
    r"(?:(?:the )?(?:final |correct )?answer(?: is|:)|答案(?:是|为|：|:))\s*\**\(?([^\n]{1,80}?)\)?\**\s*[.。]?\s*$",
    re.IGNORECASE | re.MULTILINE,
)


@row_operator(cost="cpu")
def verifiable_prompts(record: Record, *, most_words: PositiveInt = 6) -> Verdict:
    """The last turn is taken off. The answer is the row's own, else what its box says, what stands behind `the answer
    is`, or the whole turn where it has at most `most_words` words. It must grade itself correct, else the row cannot be
    learnt from; a row that is a prompt already is checked alike."""
    row = {key: value for key, value in record.row.items() if key != NOTES}
    prompt = parse_query(row, record.uid, lambda reply: short_answer(reply, most_words))
    if len(prompt.answer.split()) > most_words and prompt.answer_type in ("auto", "text"):
        return Drop("no short answer", f"the reply has {len(prompt.answer.split())} words and no box")
    if (problem := audit(prompt)) is not None:
        return Drop("answer cannot be checked", problem)
    made = query_row(prompt)
    made |= {NOTES: record.row[NOTES]} if NOTES in record.row else {}
    return None if made == record.row else Edit(made, "became a prompt with an answer")


def short_answer(reply: str, most_words: int) -> str | None:
    """What is answered, without the way to it; None where that cannot be told."""
    if (boxed := extract_boxed(reply)) is not None:
        return boxed
    said = answer_part(reply) or ""
    if found := _SAID.findall(said):
        return found[-1].strip()
    plain = said.strip().removesuffix(".").removesuffix("。")
    return plain if plain and len(plain.split()) <= most_words and "\n" not in plain else None


def audit(prompt: Prompt) -> str | None:
    """Why the answer does not grade itself correct, or None."""
    try:
        gold = gold_of(prompt)
        part = default_grader().grade(f"\\boxed{{{right_answer(gold)}}}", gold)
    except BadGold as error:
        return str(error)
    return (
        None if part.outcome is Outcome.CORRECT else f"{prompt.answer[:60]!r} is graded {part.outcome}: {part.detail}"
    )
