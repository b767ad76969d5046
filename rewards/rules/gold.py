"""What a prediction is graded against: the gold answer, its declared type, and what the type needs to know."""

from __future__ import annotations

from dataclasses import dataclass

from rewards.rules.wrapped import unwrapped

ANSWER_TYPES = (
    "auto",
    "math",
    "integer",
    "float1",
    "float2",
    "list",
    "choice",
    "text",
    "date",
    "bbox",
    "bboxes",
    "point",
    "points",
    "point_count",
    "quads",
    "objects",
    "depths",
)
PLACE_TYPES = ANSWER_TYPES[ANSWER_TYPES.index("bbox") :]
"""Answers that are places in a picture; null may be the gold of one."""


class BadGold(ValueError):
    """The gold, its type, its choices or its metric cannot be graded against. The message is one line."""


@dataclass(frozen=True, slots=True)
class Gold:
    """One gold answer. Hashable, so that equal (answer, gold) pairs are graded once."""

    text: str
    """Of a solution, tags or a box that are given for it, the answer alone."""
    answer_type: str = "auto"
    choices: tuple[str, ...] = ()
    """Option texts in the order of their letters, with or without the letter in front."""
    metric: str | None = None
    """`iou>=0.5` (bbox), `point_in_box` (point), `hungarian_f1` (bboxes); None is the type's default."""
    coordinates: str = "pixel"
    """Space of the gold's *and* the prediction's coordinates: `pixel`, `0-999` or `0-1`."""
    image_size: tuple[int, int] | None = None
    """Width and height: pixel coordinates beyond them are no answer."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", unwrapped(self.text, self.answer_type))
