"""A model writes a text about a row: a caption, a better answer, a way to the answer (captions anew: MindVL, 3.1.1)."""

from __future__ import annotations

from typing import Literal

from data_curation.operators.written._writer import Text, write
from data_curation.pipeline.operator import row_operator
from data_curation.pipeline.record import Annotate, Edit, Record, Verdict
from pangu_rl.data.fields.bad_row import Row


@row_operator(cost="endpoint")
async def model_text(
    record: Record,
    *,
    writer: str,
    prompt: str,
    into: Literal["answer", "document", "note"] = "answer",
    ask: str = "Describe the image.",
) -> Verdict:
    """`writer` is a `WriterConfig` in YAML; `prompt` is `caption`, `differential_caption`, `refined_answer`,
    `reasoning`, or the path of a file of yours. `answer` takes the place of the last assistant turn, of a row without
    turns behind the question `ask`; `document` that of the row's text, behind its pictures; `note` leaves the row as it
    is. A row whose text has tags of places is left alone, since models are shown no tags. A row whose pictures cannot
    be sent, or without a reply, is an error."""
    if "<|" in record.text():
        return None
    text = (await write(record, writer, prompt, Text)).text.strip()
    if into == "note":
        return Annotate({"text": text})
    if into == "document":
        row = {key: value for key, value in record.row.items() if key not in ("document", "messages", "response")}
        pictures = [{"type": "image"} for _ in record.images]
        return Edit(row | {"document": [*pictures, text]}, f"written anew: {prompt}")
    return Edit(_answered(record.row, text, ask), f"written anew: {prompt}")


def _answered(row: Row, text: str, ask: str) -> Row:
    turns = list(row.get("messages") or [{"role": "user", "content": ask}])
    if turns[-1].get("role") == "assistant":
        turns.pop()
    kept = {key: value for key, value in row.items() if key not in ("document", "response")}
    return kept | {"messages": [*turns, {"role": "assistant", "content": text}]}
