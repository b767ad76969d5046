"""Rows that no stage could train on: by the parsers that the stages themselves read rows with."""

from __future__ import annotations

from data_curation.pipeline.operator import row_operator
from data_curation.pipeline.record import NOTES, Drop, Record, Verdict
from pangu_rl.data.conversations import parse_conversation
from pangu_rl.data.documents import is_document, parse_document
from pangu_rl.data.fields.bad_row import BadRow
from pangu_rl.data.prompts import parse_prompt


@row_operator(cost="cpu")
def valid_rows(record: Record) -> Verdict:
    """A document, a conversation, or a prompt with its answer (docs/data.md); the detail names the key at fault."""
    row = {key: value for key, value in record.row.items() if key != NOTES}
    try:
        if is_document(row):
            parse_document(row, record.uid)
        elif _ends_with_an_answer(row):
            parse_conversation(row, record.uid)
        else:
            parse_prompt(row, record.uid)
    except BadRow as reason:
        return Drop("schema", str(reason))
    return None


def _ends_with_an_answer(row: dict) -> bool:
    messages = row.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    return row.get("response") is not None or (isinstance(last, dict) and last.get("role") == "assistant")
