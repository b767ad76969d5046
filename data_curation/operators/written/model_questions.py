"""A model asks questions about what is said of a row, and answers them: a row each (MindVL, section 3.2.2)."""

from __future__ import annotations

from data_curation.operators.written._writer import Pairs, write
from data_curation.pipeline.operator import row_operator
from data_curation.pipeline.record import Record, Split, Verdict


@row_operator(cost="endpoint")
async def model_questions(record: Record, *, writer: str, prompt: str = "questions") -> Verdict:
    """`writer` is a `WriterConfig` in YAML. What it asks takes the place of the row's own turns or document; whether
    the answers hold is `consistent_answers`' to say."""
    asked = (await write(record, writer, prompt, Pairs)).pairs
    row = {key: value for key, value in record.row.items() if key not in ("document", "messages", "response")}
    rows = []
    for pair in asked:
        turns = [{"role": "user", "content": pair.question}, {"role": "assistant", "content": pair.answer}]
        rows.append(row | {"messages": turns})
    return Split(rows, "questions were asked")
