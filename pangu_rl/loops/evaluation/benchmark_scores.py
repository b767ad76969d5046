"""Answers to one benchmark -> **its figure with a 95 % interval**, as its authors count it, and the same by category.

A proportion has Wilson's interval, everything else a bootstrap over what is independent: questions, or the pictures
and rotations that several of them share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pangu_rl.config.benchmark import BenchmarkConfig
from pangu_rl.loops.evaluate import Answered
from pangu_rl.monitoring.intervals import bootstrap, wilson
from rewards.base import whole_answer
from rewards.mathematics.guard import Refused
from rewards.metrics.benchmark import UNREAD, depths_of, objects_of, said_answer
from rewards.metrics.depths import abs_rel
from rewards.metrics.detections import matched, mean_average_precision

OCRBENCH_ITEMS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """What a benchmark says of a model."""

    value: float
    low: float
    high: float
    unit: str
    """`%`, `of 1000`, `of 2800`, `mAP`, `AbsRel %`."""
    items: int
    unread: int
    """Answers that nothing could be read of; they count as wrong, and have no AbsRel."""
    no_verdict: int
    """Answers that the machinery failed to score; they count nowhere."""
    incomplete: int
    """Answers to questions of which another row was not asked or has no verdict; they count nowhere."""
    judged: int
    """Answers that rules could not read and a judge could."""
    audited: int
    """Answers that rules could read and the judge was asked about too."""
    agreed: int
    """Of these, in how many the judge's reading comes to the same verdict."""


def figure(definition: BenchmarkConfig, answered: Sequence[Answered]) -> Figure:
    """Of the answers that have a verdict, to questions all of whose rows have; nan where none has."""
    judged = [one for one in answered if one.part.outcome.is_verdict]
    counted = _of_whole_questions(judged) if definition.whole_groups else judged
    readings = [one.part.extraction for one in counted if one.part.extraction is not None]
    unit, value, low, high = _measured(definition, counted)
    return Figure(
        value=value,
        low=low,
        high=high,
        unit=unit,
        items=len(counted),
        unread=sum(one.part.outcome in UNREAD for one in counted),
        no_verdict=len(answered) - len(judged),
        incomplete=len(judged) - len(counted),
        judged=sum(one.agrees is None and one.answer is not None for one in readings),
        audited=sum(one.agrees is not None for one in readings),
        agreed=sum(one.agrees is True for one in readings),
    )


def incomplete_questions(definition: BenchmarkConfig, answered: Sequence[Answered]) -> list[str]:
    """A line for each question that counts nowhere since some of its rows have no verdict."""
    judged = [one for one in answered if one.part.outcome.is_verdict]
    groups = _grouped(judged) if definition.whole_groups else []
    return [
        f"{group[0].prompt.source}, {group[0].prompt.extra['group']}: {len(group)} of its {_rows(group)} rows have a "
        f"verdict ({', '.join(one.prompt.uid for one in group)})"
        for group in groups
        if len(group) < _rows(group)
    ]


def figures_by_category(definition: BenchmarkConfig, answered: Sequence[Answered]) -> dict[str, Figure]:
    """Of each category; empty for a benchmark without."""
    names = sorted({one.prompt.source for one in answered} - {""})
    return {name: figure(definition, [one for one in answered if one.prompt.source == name]) for name in names}


def _measured(definition: BenchmarkConfig, judged: Sequence[Answered]) -> tuple[str, float, float, float]:
    """Unit, value, and its interval."""
    if not judged:
        return "%", float("nan"), float("nan"), float("nan")
    match definition.metric:
        case "containment":
            value, low, high = _share([_value(one) for one in judged])
            return "of 1000", *(OCRBENCH_ITEMS * part for part in (value, low, high))
        case "yes_no":
            groups = _grouped(judged)
            return f"of {200 * _categories(judged)}", *_over(groups, _mme_score)
        case "detection_map":
            return "mAP", *_over([[one] for one in judged], _detection_map)
        case "depth":
            read = [[one] for one in judged if one.part.outcome not in UNREAD]
            return "AbsRel %", *_over(read, _mean_abs_rel)
        case "span_iou":
            return "mIoU %", *(100 * part for part in _share([_value(one) for one in judged]))
        case _ if definition.mean_of_categories:
            return "%", *_over([[one] for one in judged], _mean_of_categories)
        case _ if definition.group_modulo is not None:
            whole = [float(all(_value(one) >= 1.0 for one in group)) for group in _grouped(judged)]
            return "%", *(100 * part for part in _share(whole))
        case _:
            return "%", *(100 * part for part in _share([_value(one) for one in judged]))


def _share(values: Sequence[float]) -> tuple[float, float, float]:
    mean = sum(values) / len(values)
    if set(values) <= {0.0, 1.0}:
        return mean, *wilson(int(sum(values)), len(values))
    array = np.array(values)
    return mean, *bootstrap(len(values), lambda chosen: float(array[chosen].mean()))


def _over(
    groups: Sequence[Sequence[Answered]], score: Callable[[Sequence[Sequence[Answered]]], Callable[[np.ndarray], float]]
) -> tuple[float, float, float]:
    """`score` of all groups, and its bootstrap over them."""
    if not groups:
        return float("nan"), float("nan"), float("nan")
    of = score(groups)
    return of(np.arange(len(groups))), *bootstrap(len(groups), of)


def _mme_score(groups: Sequence[Sequence[Answered]]) -> Callable[[np.ndarray], float]:
    """MME (Fu et al. 2023): per category, the accuracy of questions and of pictures whose questions are all right,
    each of 100, summed over categories."""
    names = [group[0].prompt.source for group in groups]
    right = [[_value(one) >= 1.0 for one in group] for group in groups]
    table = np.array([[len(group), sum(group), all(group)] for group in right], dtype=float)
    members = {name: np.array([other == name for other in names]) for name in dict.fromkeys(names)}

    def of(chosen: np.ndarray) -> float:
        total = 0.0
        for inside in members.values():
            questions, correct, whole = table[chosen[inside[chosen]]].sum(axis=0)
            pictures = int(inside[chosen].sum())
            total += 100 * (correct / questions + whole / pictures) if pictures else 0.0
        return total

    return of


def _mean_of_categories(groups: Sequence[Sequence[Answered]]) -> Callable[[np.ndarray], float]:
    """MLVU's M-Avg (Zhou et al. 2024): the mean over categories of the share of right answers."""
    values = np.array([_value(one) for (one,) in groups])
    names, of_row = np.unique([one.prompt.source for (one,) in groups], return_inverse=True)

    def of(chosen: np.ndarray) -> float:
        right = np.bincount(of_row[chosen], weights=values[chosen], minlength=len(names))
        rows = np.bincount(of_row[chosen], minlength=len(names))
        return 100 * float(np.mean(right[rows > 0] / rows[rows > 0]))

    return of


def _detection_map(groups: Sequence[Sequence[Answered]]) -> Callable[[np.ndarray], float]:
    """Of each data set of a family (the category of a row), then their mean."""
    pictures = [matched(_objects(group[0]), _gold_objects(group[0])) for group in groups]
    names = [group[0].prompt.source for group in groups]

    def of(chosen: np.ndarray) -> float:
        by_set: dict[str, list[Any]] = {}
        for index in chosen.tolist():
            by_set.setdefault(names[index], []).append(pictures[index])
        found = [mean_average_precision(some) for some in by_set.values()]
        known = [value for value in found if not np.isnan(value)]
        return 100 * float(np.mean(known)) if known else float("nan")

    return of


def _mean_abs_rel(groups: Sequence[Sequence[Answered]]) -> Callable[[np.ndarray], float]:
    """Over all points, of pictures whose points all have a depth."""
    errors = [
        (abs_rel(found, one.prompt.extra["depths"]), len(found))
        for (one,) in groups
        for found in [depths_of(_said(one), one.prompt)]
    ]
    table = np.array([[error * count, count] for error, count in errors])

    def of(chosen: np.ndarray) -> float:
        total, count = table[chosen].sum(axis=0)
        return 100 * float(total / count)

    return of


def _of_whole_questions(judged: Sequence[Answered]) -> list[Answered]:
    """Fewer rotations or questions about a picture are easier to have all right."""
    return [one for group in _grouped(judged) if len(group) == _rows(group) for one in group]


def _rows(group: Sequence[Answered]) -> int:
    return group[0].prompt.extra["group_rows"]


def _grouped(judged: Sequence[Answered]) -> list[list[Answered]]:
    groups: dict[tuple[str, str], list[Answered]] = {}
    for one in judged:
        groups.setdefault((one.prompt.source, one.prompt.extra["group"]), []).append(one)
    return list(groups.values())


def _categories(judged: Sequence[Answered]) -> int:
    return len({one.prompt.source for one in judged})


def _value(one: Answered) -> float:
    return float(one.part.value or 0.0)


def _said(one: Answered) -> str:
    return said_answer(whole_answer(one.prompt, one.completion)) or ""


def _objects(one: Answered) -> dict[str, list[Any]]:
    try:
        return objects_of(_said(one), one.prompt)
    except Refused:
        return {}


def _gold_objects(one: Answered) -> dict[str, list[Any]]:
    return {name: [tuple(box) for box in boxes] for name, boxes in one.prompt.extra["objects"].items()}
