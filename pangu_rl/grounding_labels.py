"""Places in pictures as text: **the one grammar of labels**, for whoever writes, checks or grades them.

    <|object_ref_start|>cat<|object_ref_end|><|box_start|>(012,034),(250,999)<|box_end|><|point_start|>(100,200)<|point_end|>

A label is a name, which may be left out, and shapes: points, boxes and quadrilaterals in any mixture, nothing between
two tags (openPangu-VL's report, appendix A). Coordinates are whole numbers from 0 to 999, of either side, three digits
each. A name without a shape says that no such object is there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

LARGEST = 999
Corner = tuple[int, int]
CORNERS = {"point": 1, "box": 2, "quad": 4}
"""Shape -> how many corners its tags hold."""

_REFERENCE = re.compile(r"<\|object_ref_start\|>(.*?)<\|object_ref_end\|>", re.DOTALL)
_CORNER = r"\(\d{1,3},\d{1,3}\)"
_SHAPE = re.compile(
    "|".join(
        rf"<\|{kind}_start\|>(?P<{kind}>{_CORNER}(?:,{_CORNER}){{{count - 1}}})<\|{kind}_end\|>"
        for kind, count in CORNERS.items()
    )
)
_TAG = re.compile(r"<\|(?:object_ref|point|box|quad)_(?:start|end)\|>")
_NUMBER = re.compile(r"\d+")


class BadLabel(ValueError):
    """Text that is no label; the message says what of it and where."""


@dataclass(frozen=True, slots=True)
class Shape:
    kind: str
    """`point`, `box` or `quad`."""
    corners: tuple[Corner, ...]
    """(x, y) of a point; left above and right below of a box; of a quadrilateral in order around it."""

    def __post_init__(self) -> None:
        if CORNERS.get(self.kind) != len(self.corners):
            raise BadLabel(f"{self.kind} with {len(self.corners)} corners: a point has 1, a box 2, a quad 4")
        if any(not 0 <= value <= LARGEST for corner in self.corners for value in corner):
            raise BadLabel(f"{self.kind} {self.corners} leaves 0 to {LARGEST}")
        if self.kind == "box" and not all(low < high for low, high in zip(*self.corners, strict=True)):
            raise BadLabel(f"box {self.corners} has no area: its corners are left above and right below")


@dataclass(frozen=True, slots=True)
class Label:
    """What is said of one object, or of places without a name."""

    shapes: tuple[Shape, ...]
    name: str | None = None


def write_label(label: Label) -> str:
    """
    Raises:
        BadLabel: neither a name nor a shape, or a name that is empty or spells a tag.
    """
    if label.name is None and not label.shapes:
        raise BadLabel("a label without a name and without shapes says nothing")
    if label.name is not None and (not label.name.strip() or _TAG.search(label.name)):
        raise BadLabel(f"the name {label.name[:40]!r} is empty or spells a tag")
    name = "" if label.name is None else f"<|object_ref_start|>{label.name}<|object_ref_end|>"
    return name + "".join(map(write_shape, label.shapes))


def write_shape(shape: Shape) -> str:
    corners = ",".join(f"({x:03d},{y:03d})" for x, y in shape.corners)
    return f"<|{shape.kind}_start|>{corners}<|{shape.kind}_end|>"


def read_labels(text: str) -> list[Label]:
    """All labels of a text, in order; whatever stands between two of them is passed over. `8` is read as `008`.

    Raises:
        BadLabel: a tag that is no part of a label, or a shape with other corners than its kind has.
    """
    return [label for label, _ in _labels(text)]


def placed_labels(text: str) -> list[tuple[Label, str]]:
    """Each label and the text between it and the next, such as what is said of it; raises as `read_labels`."""
    found = list(_labels(text))
    ends = [*(start for _, (start, _) in found), len(text)][1:]
    return [(label, text[end:until]) for (label, (_, end)), until in zip(found, ends, strict=True)]


def label_problem(text: str) -> str | None:
    """Why `text` is not written as the grammar wants it, for data: also a coordinate without its three digits, or a
    space between two tags of what is meant as one label. None if it is."""
    try:
        labels = placed_labels(text)
    except BadLabel as problem:
        return str(problem)
    rest = text
    for (label, said), (following, _) in zip(labels, [*labels, (None, "")][1:], strict=True):
        written = write_label(label)
        if said.isspace() and following is not None and following.name is None:
            return f"a space stands between {written[-60:]} and its next shape"
        if written not in rest:
            return f"a label is not written as {written[:120]}"
        rest = rest.partition(written)[2]
    return None


def shapes_of(labels: Iterable[Label], *kinds: str) -> list[Shape]:
    """The shapes of all labels, in order; of these kinds, if any are named."""
    return [shape for label in labels for shape in label.shapes if not kinds or shape.kind in kinds]


def box(numbers: Sequence[int]) -> Shape:
    """Of x1, y1, x2, y2."""
    return Shape("box", ((numbers[0], numbers[1]), (numbers[2], numbers[3])))


def _labels(text: str) -> Iterator[tuple[Label, tuple[int, int]]]:
    """Each label with its start and end in the text."""
    position = 0
    while tag := _TAG.search(text, position):
        start = tag.start()
        name, position = None, start
        if reference := _REFERENCE.match(text, start):
            name, position = reference[1], reference.end()
            if _TAG.search(name):
                raise BadLabel(f"the name {name[:40]!r} has a tag in it")
        shapes: list[Shape] = []
        while found := _SHAPE.match(text, position):
            shapes.append(_shape(found))
            position = found.end()
        if position == start:
            raise BadLabel(f"{text[start : start + 60]!r} at sign {start} is no name, point, box or quad")
        yield Label(tuple(shapes), name), (start, position)


def _shape(found: re.Match[str]) -> Shape:
    kind = str(found.lastgroup)
    numbers = [int(number) for number in _NUMBER.findall(found[kind])]
    return Shape(kind, tuple(zip(numbers[::2], numbers[1::2], strict=True)))
