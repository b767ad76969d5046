"""Text as OCR, PDFs and crawlers leave it, put in order: spaces, control characters, widths of letters.

Garbled text is put aside. MindVL, section 3.1.2: rules for garbled characters and abnormal spaces.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from data_curation.pipeline.operator import row_operator
from data_curation.pipeline.record import Drop, Edit, Keep, Record, Verdict
from pangu_rl.config.curate import Share

_CJK = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff，。、；：？！（）《》“”"
_BETWEEN = re.compile(rf"(?<=[{_CJK}])[ \t\u3000]+(?=[{_CJK}])")
_SPACES = re.compile(r"(?<=\S)[ \u00a0\u2000-\u200a\u202f\u3000]+(?=\S)")
_ENDS = re.compile(r"[ \t\u00a0\u3000]+$", re.MULTILINE)
_BLANK_LINES = re.compile(r"\n{3,}")
_UNSEEN = re.compile(r"[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u200b\u2060\ufeff]")
_WIDE = {code: code - 0xFEE0 for code in (*range(0xFF10, 0xFF1A), *range(0xFF21, 0xFF3B), *range(0xFF41, 0xFF5B))}
"""Letters and digits as wide as Chinese characters; wide punctuation is right in Chinese."""
_LIGATURES = str.maketrans({"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl"})
_GARBLED = re.compile(r"[\ufffd\ue000-\uf8ff]|(?:Ã[\u0080-\u00bf]|â€[\u0080-\uffff]|锟斤拷|烫烫|\(cid:\d+\))")
"""Replacement and private characters, UTF-8 read as Latin-1 or GBK, glyphs without a character in a PDF."""


@row_operator(cost="cpu")
def clean_text(record: Record, *, most_garbled: Share = 0.02) -> Verdict:
    """Of documents and of turns alike: lines keep their indent. A row with more than `most_garbled` of its characters
    in signs of a wrong encoding is dropped; fewer stay as they are, since what they were is not known."""
    text = record.text()
    values = {"garbled": garbled(text)}
    if values["garbled"] > most_garbled:
        first = _GARBLED.search(text)
        where = f", such as {text[max(0, first.start() - 10) : first.end() + 10]!r}" if first else ""
        return Drop("garbled", f"{values['garbled']:.3f} of the characters{where}", values)
    row = {key: _mapped(key, value, cleaned) for key, value in record.row.items()}
    return Keep(values=values) if row == record.row else Edit(row, "spaces and characters put in order")


def cleaned(text: str) -> str:
    text = _UNSEEN.sub("", text.replace("\r\n", "\n").replace("\r", "\n")).translate(_WIDE).translate(_LIGATURES)
    text = _ENDS.sub("", _SPACES.sub(" ", _BETWEEN.sub("", text)))
    return _BLANK_LINES.sub("\n\n", text)


def garbled(text: str) -> float:
    """Share of characters."""
    return sum(len(found[0]) for found in _GARBLED.finditer(text)) / len(text) if text else 0.0


def _mapped(key: str, value: Any, change: Callable[[str], str]) -> Any:
    if key in ("document", "response", "prompt", "text", "content") and isinstance(value, str):
        return change(value)
    if key == "document" and isinstance(value, list):
        return [change(part) if isinstance(part, str) else part for part in value]
    if key == "messages" and isinstance(value, list):
        return [{name: _mapped(name, one, change) for name, one in message.items()} for message in value]
    if key == "content" and isinstance(value, list):
        return [part | {"text": change(part["text"])} if "text" in part else part for part in value]
    return value
