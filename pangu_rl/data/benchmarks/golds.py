"""A benchmark's row -> **what its metric scores against**: the answer as a model would write it, and the metric's data.

Golds that a metric cannot score against are bad rows here, before anything is asked.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pangu_rl.config.benchmark import BenchmarkConfig
from pangu_rl.data.benchmarks.cells import first_of, letter_of, list_of, text_of
from pangu_rl.data.benchmarks.masks import mask_runs, points_inside
from pangu_rl.data.benchmarks.numbers import is_number, point_of, seconds_of, whole
from pangu_rl.data.fields.bad_row import BadRow, Row, is_blank
from pangu_rl.grounding_labels import LARGEST, Label, Shape, box, write_label

Size = tuple[int, int]
"""Width and height, in pixels."""
PRECISE = ("span_iou",)
"""Metrics of answers that are times, whose videos are looked at once a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkGold:
    answer: str
    """What would be graded correct."""
    data: dict[str, Any] = field(default_factory=dict)
    """What the metric reads of a prompt's `extra`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A row, as far as golds need it."""

    row: Row
    definition: BenchmarkConfig
    answer_type: str
    options: Sequence[str]
    size: Callable[[], Size]
    """Of its first picture; raises `DataError`."""
    open_mask: Callable[[Any], np.ndarray]
    """A cell with a picture -> bool [H, W]; raises `BadRow`, `DataError`."""

    @property
    def cell(self) -> Any:
        cell = first_of(self.row, self.definition.columns.answer)
        if cell is None:
            raise BadRow(f"has no answer: none of the columns {', '.join(self.definition.columns.answer)}")
        return cell

    def of(self, name: str) -> Any:
        """The cell of a field that the metric needs."""
        cell = first_of(self.row, self.definition.columns.fields.get(name))
        if cell is None:
            raise BadRow(f"has no {name}, which the metric {self.definition.metric} needs")
        return cell


def gold_of_row(asked: Asked) -> BenchmarkGold:
    """
    Raises:
        BadRow: no gold, or one that the metric cannot score against. DataError: as `Asked`.
    """
    return _GOLDS.get(asked.definition.metric, _texts)(asked)


def _texts(asked: Asked) -> BenchmarkGold:
    answers = [text_of(answer) for answer in list_of(asked.cell)]
    if not answers or any(map(is_blank, answers)):
        raise BadRow("its answer is empty")
    return BenchmarkGold(answer=max(answers, key=answers.count), data={"answers": answers})


def _boxed(asked: Asked) -> BenchmarkGold:
    if asked.answer_type == "choice":
        return _choice(asked)
    return BenchmarkGold(answer=text_of(asked.cell)) if asked.answer_type == "list" else _texts(asked)


def _choice(asked: Asked) -> BenchmarkGold:
    letter = letter_of(text_of(asked.cell), asked.options, asked.definition.golds)
    return BenchmarkGold(answer=letter, data={"choices": list(asked.options)})


def _yes_no(asked: Asked) -> BenchmarkGold:
    answer = text_of(asked.cell).strip().rstrip(".").lower()
    if answer not in ("yes", "no"):
        raise BadRow(f"answer {answer[:40]!r} is neither yes nor no")
    return BenchmarkGold(answer=answer.capitalize(), data={"answers": [answer]})


def _one_box(asked: Asked) -> BenchmarkGold:
    place = _box(asked.cell, asked)
    return BenchmarkGold(answer=write_label(Label((_shown(place),))), data={"boxes": [place]})


def _detection(asked: Asked) -> BenchmarkGold:
    """A picture without an object is one too: what is said of it is wrong."""
    objects = _object(asked.cell)
    if not {"bbox", "category"} <= objects.keys():
        raise BadRow("its objects are no columns bbox and category")
    boxes, names = list_of(objects["bbox"]), list_of(objects["category"])
    if len(boxes) != len(names):
        raise BadRow(f"it has {len(boxes)} boxes and {len(names)} categories")
    places: dict[str, list[list[float]]] = {}
    for cell, name in zip(boxes, names, strict=True):
        if not isinstance(name, str):
            raise BadRow(f"category {name!r:.40} is not a name")
        places.setdefault(name, []).append(_box(cell, asked))
    labels = (Label(tuple(map(_shown, found)), name) for name, found in places.items())
    data = {"objects": places, "names": _asked_names(asked)}
    return BenchmarkGold(answer="".join(map(write_label, labels)), data=data)


def _asked_names(asked: Asked) -> list[str]:
    """What is to be detected, as the prompt has it; none where that is not a field."""
    cells = list_of(first_of(asked.row, asked.definition.columns.fields.get("category_name")) or [])
    return [name for cell in cells for one in text_of(cell).split(",") if (name := one.strip())]


def _in_mask(asked: Asked) -> BenchmarkGold:
    inside = asked.open_mask(asked.cell)
    if inside.all() or not inside.any():
        raise BadRow(f"its mask holds {'all' if inside.all() else 'nothing'} of the picture")
    runs = mask_runs(inside)
    count = first_of(asked.row, asked.definition.columns.fields.get("count"))
    data: dict[str, Any] = {"mask": runs} | ({} if count is None else {"count": whole(count)})
    points = points_inside(runs, data.get("count", 1))
    if not points:
        raise BadRow("its mask has fewer places than it wants points")
    return BenchmarkGold(answer=write_label(Label(tuple(Shape("point", (at,)) for at in points))), data=data)


def _count(asked: Asked) -> BenchmarkGold:
    return BenchmarkGold(answer=str(whole(asked.cell)), data={"answers": [str(whole(asked.cell))]})


def _depths(asked: Asked) -> BenchmarkGold:
    points, depths = list_of(asked.of("points")), list_of(asked.cell)
    if not points or len(points) != len(depths):
        raise BadRow(f"it has {len(points)} points and {len(depths)} depths")
    if not all(is_number(depth) and depth > 0 for depth in depths):
        raise BadRow("a depth is not a positive number of metres")
    corners = [point_of(point) for point in points]
    said = (f"{write_label(Label((Shape('point', (at,)),)))} {depth:g} m" for at, depth in zip(corners, depths))
    return BenchmarkGold(answer=", ".join(said), data={"points": corners, "depths": depths})


def _span(asked: Asked) -> BenchmarkGold:
    span = seconds_of(list_of(asked.cell))
    return BenchmarkGold(answer=f"[{span[0]:g}, {span[1]:g}]", data={"span": span})


def _instructions(asked: Asked) -> BenchmarkGold:
    """Without a gold: what an answer must keep to. Arguments are a list of objects, or of their JSON."""
    ids, arguments = list_of(asked.cell), [_object(cell) for cell in list_of(asked.of("arguments"))]
    return BenchmarkGold(answer="", data={"instructions": [str(one) for one in ids], "arguments": arguments})


def _object(cell: Any) -> dict[str, Any]:
    if isinstance(cell, str):
        try:
            cell = json.loads(cell)
        except (ValueError, RecursionError):
            raise BadRow(f"{cell[:60]!r} is no JSON object") from None
    if not isinstance(cell, Mapping):
        raise BadRow(f"{cell!r:.60} is no JSON object")
    return dict(cell)


_GOLDS: dict[str, Callable[[Asked], BenchmarkGold]] = {
    "boxed": _boxed,
    "choice": _choice,
    "yes_no": _yes_no,
    "box_iou": _one_box,
    "detection_map": _detection,
    "points_in_mask": _in_mask,
    "count_by_pointing": _count,
    "depth": _depths,
    "span_iou": _span,
    "instructions": _instructions,
}
"""All other metrics compare with texts, any of which is right."""


def _box(cell: Any, asked: Asked) -> list[float]:
    """x1, y1, x2, y2 in thousandths of either side, out of pixels."""
    numbers = list_of(cell)
    if len(numbers) != 4 or not all(map(is_number, numbers)):
        raise BadRow(f"box {cell!r:.60} is not four numbers")
    x1, y1, x2, y2 = numbers
    if asked.definition.boxes == "xywh":
        x2, y2 = x1 + x2, y1 + y2
    width, height = asked.size()
    if not (0 <= x1 < x2 <= width + 1 and 0 <= y1 < y2 <= height + 1):
        raise BadRow(f"box {numbers} ({asked.definition.boxes}) has no area in a picture of {width} x {height}")
    return [min(LARGEST, 1000 * value / side) for value, side in zip((x1, y1, x2, y2), (width, height) * 2)]


def _shown(place: Sequence[float]) -> Shape:
    """The box as a label writes it, at least a thousandth wide and high."""
    x1, y1 = (min(LARGEST - 1, int(value)) for value in place[:2])
    x2, y2 = (int(value) for value in place[2:])
    return box((x1, y1, max(x2, x1 + 1), max(y2, y1 + 1)))
