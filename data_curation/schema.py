"""One sample of training data, whatever it shows: turns of text and pictures, and an answer that a grader can check.

Sources yield `Sample`s; `row_of` writes one as the row that `pangu_rl.data.prompts` and `.conversations` read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image

Row = dict[str, Any]
Language = Literal["en", "zh"]
Category = Literal[
    "caption", "chart", "counting", "depth", "dialogue", "document", "grounding", "interleaved", "ocr", "pointing",
    "screenshot", "several", "stem", "table", "text", "video", "vqa",
]  # fmt: skip
CATEGORIES: tuple[Category, ...] = Category.__args__
"""Of openPangu-VL's data: `dialogue` has several turns, `several` several pictures."""

INSTRUCTIONS: dict[Language, str] = {
    "en": "Put the final answer in \\boxed{}.",
    "zh": "请把最终答案写在 \\boxed{} 中。",
}
"""System message of every sample with an answer."""
BOX_TYPES = ("bbox", "bboxes", "quads", "point", "point_count")
"""Answer types whose coordinates are 0 to 999, as in the recipe."""


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A picture to be written once, however many samples show it."""

    image: Image.Image
    """RGB."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What the user shows and asks, and what the assistant says."""

    asked: tuple[str | Picture, ...]
    response: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The gold of the last turn, in the terms of `docs/grading.md`."""

    text: str
    type: str = "text"
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One training sample."""

    category: Category
    origin: str
    """Package that the pictures or the text come from, or `drawn`."""
    items: tuple[str, ...]
    """Keys of the source items it shows or asks about: no two splits share one."""
    language: Language
    turns: tuple[Turn, ...]
    answer: Answer | None = None
    """None: no rule can check it (a free caption); such a sample is for SFT alone."""

    @property
    def pictures(self) -> list[Picture]:
        return [part for turn in self.turns for part in turn.asked if isinstance(part, Picture)]


def boxed(answer: str, reason: str = "") -> str:
    """The assistant's turn: the reason, if any, then the answer in its box."""
    return f"{reason}\n\\boxed{{{answer}}}" if reason else f"\\boxed{{{answer}}}"


def row_of(sample: Sample, uid: str, paths: Mapping[Picture, str], *, with_response: bool) -> Row:
    """The row of `sample`; without the last response, which then stands in the column `response`, it is a prompt."""
    messages: list[Row] = []
    if sample.answer is not None:
        messages.append({"role": "system", "content": INSTRUCTIONS[sample.language]})
    for turn in sample.turns:
        messages.append({"role": "user", "content": _content(turn.asked)})
        messages.append({"role": "assistant", "content": turn.response})
    row: Row = {"id": uid, "messages": messages if with_response else messages[:-1]}
    row["images"] = [paths[picture] for picture in sample.pictures]
    if sample.answer is not None:
        row |= _gold(sample.answer)
    if not with_response:
        row["response"] = sample.turns[-1].response
    return row | {
        "source": sample.category,
        "origin": sample.origin,
        "language": sample.language,
        "items": list(sample.items),
    }


def _content(asked: tuple[str | Picture, ...]) -> str | list[Row]:
    if all(isinstance(part, str) for part in asked):
        return "".join(map(str, asked))
    return [{"type": "text", "text": part} if isinstance(part, str) else {"type": "image"} for part in asked]


def _gold(answer: Answer) -> Row:
    gold: Row = {"answer": answer.text, "answer_type": answer.type}
    if answer.choices:
        gold["choices"] = list(answer.choices)
    if answer.type in BOX_TYPES:
        gold["coordinates"] = "0-999"
    return gold
