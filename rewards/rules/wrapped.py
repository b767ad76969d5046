"""Golds that come in something: a solution with its answer in it, tags, JSON. Text -> **the answer alone**.

Held against the whole, no answer is ever right, though the gold's own spelling is.
"""

from __future__ import annotations

import functools
import logging
import re

from rewards.rules.boxed_answer import boxes

log = logging.getLogger(__name__)

_MARKS = re.compile(r"####|<answer>|\\boxed")
_LAST_LINE = re.compile(r"(?<!#)####(?!#)")
_OBJECT = re.compile(r"\{\s*(?:\"[^\"]*\"|'[^']*')\s*:")
_TEXTS = re.compile(r"\[\s*[\"']")
_SENTENCE_END = re.compile(r"(?<=[.!?]) ")
_WORD = re.compile(r"[A-Za-z]{2,}")
_RESULT = re.compile(r"= ?-?\d")
_SAID = re.compile(r"\b(?:answer|result) ?(?:is|=|:)", re.IGNORECASE)
_PROSE_WORDS = 5
"""`Force = 5 N` has fewer."""
_SENTENCE_WORDS = 3
"""`Dr. Martin Luther King` is one sentence."""


def unwrapped(text: str, answer_type: str) -> str:
    """The answer in a gold: in its one pair of `<answer>` tags, behind its one `####`, in its one `\\\\boxed{}`.

    What has several of one kind is left as it is, and so are the marks and boxes of a `text`, which a page may have.
    """
    if not _MARKS.search(text):
        return text
    if text.count("<answer>") == text.count("</answer>") == 1:
        text = _taken("<answer>", text.partition("<answer>")[2].partition("</answer>")[0])
    if answer_type == "text":
        return text
    pieces = _LAST_LINE.split(text)
    if len(pieces) == 2 and "\n" not in pieces[1].strip():
        text = _taken("####", pieces[1])
    boxed = boxes(text)
    return _taken("\\boxed{}", boxed[0]) if len(boxed) == 1 and boxed[0] else text


@functools.cache
def _say(mark: str) -> None:
    log.warning("golds stand in a text: what %s marks in each is graded alone", mark)


def _taken(mark: str, inner: str) -> str:
    _say(mark)
    return inner.strip()


def wrapping(text: str, answer_type: str) -> str:
    """What a gold is that still has its answer in something; empty if it is an answer."""
    if "<answer>" in text or (answer_type != "text" and (_LAST_LINE.search(text) or len(boxes(text)) > 1)):
        return "has its answer behind marks that are not there once"
    if _OBJECT.match(text.strip()):
        return "is a JSON object"
    if answer_type != "list" and _TEXTS.match(text.strip()):
        return "is a list of texts, and answer_type is not list"
    return ""


def is_solution(text: str) -> bool:
    """Whether a gold says, behind other words, what its answer is."""
    return len(_WORD.findall(text)) >= _PROSE_WORDS and bool(_SAID.search(text))


def is_prose(text: str) -> bool:
    """Whether words tell how an answer is found and do not give it: in several sentences, or with a result in one."""
    sentences = [piece for piece in _SENTENCE_END.split(text) if len(_WORD.findall(piece)) >= _SENTENCE_WORDS]
    return len(sentences) > 1 or (len(_WORD.findall(text)) >= _PROSE_WORDS and bool(_RESULT.search(text)))
