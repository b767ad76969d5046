"""The reward function of evaluations on benchmarks: a row's own metric -> **its score of the answer**.

    what was said after the thinking: the content of its last box, or all of it
        --metric of the row's benchmark--> score 0 to 1, or that nothing in it can be read as an answer

An answer that cannot be read scores 0 and is `unparsable`: it is counted apart in every table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import partial

from pangu_rl.records import Completion, Outcome, Part, Prompt
from rewards.base import whole_answer
from rewards.mathematics.guard import Refused
from rewards.mathematics.normalise import unwrapped
from rewards.metrics.depths import delta
from rewards.metrics.instructions import unfollowed
from rewards.metrics.masks import points_in_mask
from rewards.metrics.option_letter import chosen_letter
from rewards.metrics.said_count import said_count
from rewards.metrics.said_places import said_boxes, said_depths, said_objects, said_points
from rewards.metrics.spans import said_span
from rewards.metrics.texts import (
    anls,
    charxiv_match,
    contains_answer,
    exact_match,
    relaxed_accuracy,
    vqa_accuracy,
    yes_or_no,
)
from rewards.recipe.accuracy import boxed_accuracy
from rewards.recipe.temporal import span_iou
from rewards.rules.boxed_answer import answer_part, extract_boxed
from rewards.rules.boxes import IOU_THRESHOLD, Box, iou
from rewards.rules.literal import MAX_CHARS
from rewards.rules.matching import largest_matching
from rewards.rules.verdict import short, unparsable

FORMULAS = "Handwritten Mathematical Expression Recognition"
"""Category of OCRBench that is compared without white space."""
SPAN_THRESHOLD = 0.5
UNREAD = (Outcome.UNPARSABLE, Outcome.NO_BOX)
"""An answer that nothing can be read of: it scores 0."""
Metric = Callable[[str, Prompt], Part]


async def benchmark(prompt: Prompt, completion: Completion) -> Part:
    """The score of the metric that the row's `scored_by` names, see docs/evaluation.md; 1.0 is `correct`."""
    name = prompt.extra.get("scored_by")
    if name == "boxed":
        return await _boxed(prompt, completion)
    if name == "instructions":
        return _instructions(prompt, completion)
    if name not in METRICS:
        return Part.no_verdict(Outcome.ERROR, f"the row's metric scored_by is {name!r}: none is known")
    said = said_answer(whole_answer(prompt, completion))
    if said is None:
        return Part(value=0.0, outcome=Outcome.NO_BOX, detail="nothing stands after the thinking block")
    try:
        return METRICS[name](said, prompt)
    except Refused as refused:
        return unparsable(said, str(refused))


benchmark.keeps_own_deadline = True  # `boxed_accuracy` does; every other metric takes microseconds


def said_answer(text: str) -> str | None:
    """What is scored: the last box without the LaTeX of its looks, of which published metrics know nothing, or else all
    that stands after the thinking block; None of nothing."""
    boxed = extract_boxed(text)
    said = answer_part(text) if boxed is None else unwrapped(boxed) if len(boxed) <= MAX_CHARS else boxed
    return said.strip() or None if said is not None else None


async def _boxed(prompt: Prompt, completion: Completion) -> Part:
    """Right if it answers any of the golds; otherwise what was said of the first, or that one had no verdict."""
    golds = prompt.extra.get("answers", [prompt.answer])
    parts = [await boxed_accuracy(replace(prompt, answer=gold), completion) for gold in golds]
    lost = (part for part in parts if not part.outcome.is_verdict)
    return next((part for part in parts if part.outcome is Outcome.CORRECT), next(lost, parts[0]))


def _instructions(prompt: Prompt, completion: Completion) -> Part:
    """Of the whole answer: a box in it is part of what was asked for."""
    said = answer_part(whole_answer(prompt, completion))
    if said is None or not said.strip():
        return Part(value=0.0, outcome=Outcome.NO_BOX, detail="nothing stands after the thinking block")
    ids = prompt.extra["instructions"]
    missed = unfollowed(said, ids, prompt.extra["arguments"])
    but = f", not {', '.join(missed)}" if missed else ""
    return _scored(float(not missed), f"{len(ids) - len(missed)} of {len(ids)} followed{but}")


def _of_texts(said: str, prompt: Prompt, score: Callable[[str, list[str]], float]) -> Part:
    golds = prompt.extra["answers"]
    return _scored(score(said, golds), f"{short(said)} against {short(' | '.join(golds))}")


def _containment(said: str, prompt: Prompt) -> Part:
    return _of_texts(said, prompt, partial(contains_answer, spaces=prompt.source != FORMULAS))


def _choice(said: str, prompt: Prompt) -> Part:
    letter = chosen_letter(said, prompt.extra["choices"])
    if letter is None:
        return unparsable(said, "chooses none of the options, or several")
    return _scored(letter == prompt.answer, f"{letter} against {prompt.answer}")


def _yes_no(said: str, prompt: Prompt) -> Part:
    word = yes_or_no(said)
    if word is None:
        return unparsable(said, "says neither yes nor no, or both")
    return _scored(word == prompt.extra["answers"][0], f"{word} against {prompt.answer}")


def _box_iou(said: str, prompt: Prompt) -> Part:
    found, wanted = said_boxes(said), prompt.extra["boxes"][0]
    if not found:
        return unparsable(said, "has no box")
    overlap = iou(found[0], tuple(wanted))
    return _scored(overlap >= IOU_THRESHOLD, f"IoU {overlap:.3f}")


def _detection(said: str, prompt: Prompt) -> Part:
    """The F1 at IoU 0.5 of a picture, 1 where none is and none is said to be; the figure of a set is
    `mean_average_precision`."""
    gold = prompt.extra["objects"]
    says_none = not gold and not any(sign.isdigit() for sign in said)
    found = {} if says_none else objects_of(said, prompt)
    right = sum(
        largest_matching([[iou(tuple(want), box) >= IOU_THRESHOLD for box in found.get(name, [])] for want in boxes])
        for name, boxes in gold.items()
    )
    wanted = sum(map(len, gold.values()))
    total = wanted + sum(map(len, found.values()))
    return _scored(2 * right / total if total else 1.0, f"{right} of {wanted} boxes, {total} in all")


def objects_of(said: str, prompt: Prompt) -> dict[str, list[Box]]:
    """The boxes by their names; raises `Refused` as `said_objects` does."""
    return said_objects(said, prompt.extra.get("names", ()))


def _points_in_mask(said: str, prompt: Prompt) -> Part:
    """Every point lies in the mask, and there are as many as are asked for."""
    points = said_points(said)
    if not points:
        return unparsable(said, "has no point")
    inside = points_in_mask(points, prompt.extra["mask"])
    count = prompt.extra.get("count")
    right = all(inside) and (count is None or len(set(points)) == count)
    return _scored(right, f"{sum(inside)} of {len(points)} points are inside, {count or 'any number'} wanted")


def _count(said: str, prompt: Prompt) -> Part:
    count = said_count(said)
    if count is None:
        return unparsable(said, "has no count")
    return _scored(str(count) == prompt.answer, f"{count} against {prompt.answer}")


def _depth(said: str, prompt: Prompt) -> Part:
    """The share of the points whose depth is within a factor of 1.25; the figure of a set is AbsRel."""
    depths = depths_of(said, prompt)
    return _scored(delta(depths, prompt.extra["depths"]), f"{len(depths)} depths")


def depths_of(said: str, prompt: Prompt) -> list[float]:
    """A depth for each of the prompt's points, in their order.

    Raises:
        Refused: there is none for one of them. Points that are repeated with other coordinates count by their order.
    """
    found, points = said_depths(said), [tuple(map(float, point)) for point in prompt.extra["points"]]
    by_point = dict(found)
    if all(point in by_point for point in points):
        return [by_point[point] for point in points]
    if len(found) != len(points):
        raise Refused(f"has depths of {len(found)} points, {len(points)} are asked for")
    return [depth for _, depth in found]


def _span_iou(said: str, prompt: Prompt) -> Part:
    """The seconds that both spans share over those of either, right from a half on: the mean is mIoU, the share that is
    right is R@1 at IoU 0.5."""
    start, end = prompt.extra["span"]
    overlap = float(span_iou([(Fraction(start), Fraction(end))], [said_span(said)]))
    outcome = Outcome.CORRECT if overlap >= SPAN_THRESHOLD else Outcome.INCORRECT
    return Part(value=overlap, outcome=outcome, detail=f"IoU {overlap:.3f}")


def _scored(value: float, detail: str) -> Part:
    outcome = Outcome.CORRECT if value >= 1.0 else Outcome.INCORRECT
    return Part(value=float(value), outcome=outcome, detail=detail)


METRICS: dict[str, Metric] = {
    "exact": partial(_of_texts, score=exact_match),
    "anls": partial(_of_texts, score=anls),
    "vqa_accuracy": partial(_of_texts, score=vqa_accuracy),
    "relaxed_accuracy": partial(_of_texts, score=relaxed_accuracy),
    "containment": _containment,
    "charxiv": partial(_of_texts, score=charxiv_match),
    "choice": _choice,
    "yes_no": _yes_no,
    "box_iou": _box_iou,
    "detection_map": _detection,
    "points_in_mask": _points_in_mask,
    "count_by_pointing": _count,
    "depth": _depth,
    "span_iou": _span_iou,
}
"""As `pangu_rl.config.benchmark.Metric` names them; `boxed` is `boxed_accuracy`, `instructions`
is `unfollowed`."""
