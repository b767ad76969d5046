"""A rule score from 1 to 5, for the stages that need more than right and wrong: pairs, rejection sampling.

5 is correct by the rules and nothing else is. 1 is no box, an answer that cannot be read, or one without merit. What
lies between is banded by how near the answer comes, per kind of answer, in the spellings that correctness forgives.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from rapidfuzz.distance import Levenshtein

from pangu_rl.records import Completion, Outcome, Part, Prompt
from rewards.base import whole_answer
from rewards.grader import default_grader
from rewards.mathematics.compare import WithoutAlgebra, alone, readings, same
from rewards.mathematics.guard import Refused
from rewards.mathematics.normalise import plain
from rewards.mathematics.read_value import read_answer
from rewards.mathematics.values import Equation, Matrix, Number, Row, Text, Value
from rewards.recipe.accuracy import gold_of
from rewards.rules.boxed_answer import extract_boxed
from rewards.rules.boxes import IOU_THRESHOLD, Box, gold_boxes, iou, read_boxes
from rewards.rules.dispatch import infer_type
from rewards.rules.gold import BadGold, Gold
from rewards.rules.integer import read_count
from rewards.rules.matching import largest_matching
from rewards.rules.math import gold_value
from rewards.rules.sequence import list_key, read_list
from rewards.rules.text import text_key

CORRECT, WORST = 5, 1
BANDS: dict[str, tuple[tuple[float, int], ...]] = {
    # 1 - relative error: 1 % is a slip of rounding, 5 % a reading of a chart, 20 % the right order of magnitude.
    "number": ((0.99, 4), (0.95, 3), (0.8, 2)),
    # Share of the items in their places: one slip in a long list, two thirds, half; naming several lists stays below.
    "items": ((0.8, 4), (0.65, 3), (0.5, 2)),
    # Edit-distance similarity: a letter, a word; below a half any two texts of a language are alike (ANLS cuts there).
    "text": ((0.9, 4), (0.7, 3), (0.5, 2)),
    # IoU of a box that misses its threshold, above what a box around the whole picture gets.
    "box": ((0.4, 4), (0.25, 3), (0.1, 2)),
    # F1 of several boxes at IoU 0.5: two of three are 0.8, one of two is 0.67; three boxes for one place are 0.5.
    "boxes": ((0.8, 4), (0.7, 3), (0.6, 2)),
}
"""Kind of answer -> (nearness from which on, score). Choices, dates and points are right or wrong: half of a set of
letters would pay for naming them all."""


def graded(prompt: Prompt, completion: Completion) -> Part:
    """The score of the completion's last box, 1.0 to 5.0, with the outcome of the verdict."""
    try:
        gold = gold_of(prompt)
    except BadGold as error:
        return Part.no_verdict(Outcome.ERROR, str(error))
    part = default_grader().grade(whole_answer(prompt, completion), gold)
    if not part.outcome.is_verdict:
        return part
    score = _score(part.outcome, extract_boxed(whole_answer(prompt, completion)), gold)
    return Part(value=float(score), outcome=part.outcome, detail=f"{score} of 5: {part.detail}")


def nearness(answer: str, gold: Gold) -> tuple[str, float]:
    """The kind of answer, as in `BANDS`, and how near it comes, from 0 to 1; `("", 0.0)` where nearness has no meaning.

    Raises:
        Refused: the answer cannot be read.
    """
    answer_type = infer_type(gold)
    if answer_type == "bbox":
        return "box", _box_nearness(gold_boxes(gold), read_boxes(answer, gold), gold)
    if answer_type == "bboxes":
        return "boxes", _boxes_f1(gold_boxes(gold), read_boxes(answer, gold))
    if answer_type == "text":
        return "text", _similarity(text_key(plain(answer)), text_key(plain(gold.text)))
    if answer_type == "list":
        wanted, found = list_key(read_list(gold.text)), list_key(read_list(answer))
        return "items", _share([one == other for one, other in zip(wanted, found)], wanted, found)
    if answer_type == "integer" and (count := read_count(answer)) is not None:
        return _value_nearness(gold_value(gold), count)
    if answer_type in ("math", "float1", "float2"):
        return _value_nearness(gold_value(gold), read_answer(answer))
    return "", 0.0


def _score(outcome: Outcome, answer: str | None, gold: Gold) -> int:
    if outcome is Outcome.CORRECT:
        return CORRECT
    if outcome is not Outcome.INCORRECT or answer is None:
        return WORST
    try:
        kind, near = nearness(answer, gold)
    except Refused:
        return WORST
    return next((score for bound, score in BANDS.get(kind, ()) if near >= bound), WORST)


def _value_nearness(wanted: Value, found: Value) -> tuple[str, float]:
    """Of what is called one thing: `x = 26` is near 25, and `y = 25` is not near `x = 25`."""
    if isinstance(wanted, Equation) and isinstance(found, Equation) and wanted.name != found.name:
        return "", 0.0
    wanted, found = _bare(wanted), _bare(found)
    if isinstance(wanted, Number) and isinstance(found, Number):
        return "number", float(max((1 - _error(wanted.value, value) for value in readings(wanted, found)), default=0))
    if isinstance(wanted, Text) and isinstance(found, Text):
        return "text", _similarity(found.key, wanted.key)
    if isinstance(wanted, Row) and isinstance(found, Row):
        return "items", _row_nearness(wanted, found)
    if isinstance(wanted, Matrix) and isinstance(found, Matrix):
        one, other = [sum(matrix.rows, ()) for matrix in (wanted, found)]
        return "items", _share([_equal(a, b) for a, b in zip(one, other)], one, other)
    return "", 0.0


def _bare(value: Value) -> Value:
    """Without its name, and without brackets around one thing alone."""
    named = isinstance(value, Equation) and value.name and len(value.sides) == 1
    return alone(value.sides[0] if named else value)


def _error(wanted: Fraction, found: Fraction) -> Fraction:
    return min(Fraction(1), abs(found - wanted) / abs(wanted)) if wanted else Fraction(1)


def _row_nearness(wanted: Row, found: Row) -> float:
    """A set and a bare list have no order; tuples, lists and intervals do."""
    if wanted.brackets in ("", "{}"):
        edges = [[_equal(one, other) for other in found.items] for one in wanted.items]
        return largest_matching(edges) / max(len(wanted.items), len(found.items), 1)
    pairs = zip(wanted.items, found.items)
    return _share([_equal(one, other) for one, other in pairs], wanted.items, found.items)


def _equal(one: Value, other: Value) -> bool:
    return same(one, other, WithoutAlgebra()) is True


def _share(right: Sequence[bool], wanted: Sequence[object], found: Sequence[object]) -> float:
    return sum(right) / max(len(wanted), len(found), 1)


def _similarity(one: str, other: str) -> float:
    return Levenshtein.normalized_similarity(one, other)


def _box_nearness(wanted: list[Box], found: list[Box], gold: Gold) -> float:
    """IoU beyond that of a box around the whole picture, as a share of what is left to gain."""
    if len(wanted) != 1 or len(found) != 1:
        return 0.0
    whole = {"0-999": (999, 999), "0-1": (1, 1), "pixel": gold.image_size}[gold.coordinates]
    base = iou(wanted[0], (0.0, 0.0, float(whole[0]), float(whole[1]))) if whole else 0.0
    return max(0.0, (iou(wanted[0], found[0]) - base) / (1 - base)) if base < 1 else 0.0


def _boxes_f1(wanted: list[Box], found: list[Box]) -> float:
    edges = [[iou(one, other) >= IOU_THRESHOLD for other in found] for one in wanted]
    return 2 * largest_matching(edges) / (len(wanted) + len(found)) if wanted or found else 0.0
