"""Labels of places in texts that are not written as the grammar wants them (openPangu-VL, section 3.2 and appendix A).

Tags in balanced pairs, coordinates from 0 to 999 with three digits, no spaces within a label. The detail names the
field and the value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from data_curation.pipeline.operator import row_operator
from data_curation.pipeline.record import Drop, Record, Verdict
from pangu_rl.data.fields.bad_row import Row
from pangu_rl.grounding_labels import LARGEST, label_problem

_TAG = re.compile(r"<\|(object_ref|point|box|quad)_(start|end)\|>")
_SHAPE = re.compile(r"<\|(point|box|quad)_start\|>(.*?)<\|\1_end\|>", re.DOTALL)
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


@row_operator(cost="cpu")
def grounding_labels(record: Record) -> Verdict:
    for field, text in fields_of(record.row):
        if "<|" not in text:
            continue
        for reason, problem in (
            ("unbalanced tags", _unbalanced(text)),
            ("coordinates out of range", _out_of_range(text)),
            ("not in the grammar", label_problem(text)),
        ):
            if problem is not None:
                return Drop(reason, f"{field}: {problem}")
    return None


def fields_of(row: Row) -> Iterator[tuple[str, str]]:
    """Name and text of each field that a model reads or writes: `messages[1].content`, `document[2]`, `response`."""
    for key in ("prompt", "response", "answer", "document"):
        yield from _within(key, row.get(key))
    for index, message in enumerate(row.get("messages") or ()):
        yield from _within(f"messages[{index}].content", message.get("content"))


def _within(name: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _within(f"{name}[{index}]", part.get("text") if isinstance(part, dict) else part)


def _unbalanced(text: str) -> str | None:
    opened: re.Match[str] | None = None
    for tag in _TAG.finditer(text):
        if tag[2] == "start" and opened is not None:
            return f"{opened[0]} at sign {opened.start()} is not closed before {tag[0]} at sign {tag.start()}"
        if tag[2] == "end" and (opened is None or opened[1] != tag[1]):
            return f"{tag[0]} at sign {tag.start()} closes nothing"
        opened = tag if tag[2] == "start" else None
    return None if opened is None else f"{opened[0]} at sign {opened.start()} is not closed"


def _out_of_range(text: str) -> str | None:
    for shape in _SHAPE.finditer(text):
        for number in _NUMBER.findall(shape[2]):
            if not 0 <= float(number) <= LARGEST:
                return f"{number} of {shape[0][:80]} is not within 0 to {LARGEST}"
    return None
