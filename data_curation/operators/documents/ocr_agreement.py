"""What two engines of OCR read alike: **the intersection of their lines** (MindVL, section 3.1.2)."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Literal

from rapidfuzz.distance import Levenshtein

from data_curation.operators.documents._lines import Line, as_text, in_reading_order, noted_lines
from data_curation.pipeline.operator import row_operator
from data_curation.pipeline.record import Drop, Edit, Record, Verdict
from pangu_rl.config.curate import Share
from rewards.rules.boxes import iou


@row_operator(cost="cpu")
def ocr_agreement(
    record: Record,
    *,
    of: tuple[str, str] = ("read_pictures", "read_pictures~2"),
    likeness: Share = 1.0,
    least_overlap: Share = 0.5,
    least_share: Share = 0.5,
    form: Literal["text", "objects"] = "text",
    ask: str = "Read all text in the image.",
) -> Verdict:
    """Lines of the operators `of` whose boxes overlap (IoU) and whose texts are alike, up to spaces and the width of
    letters, stay, as the first engine has them. A row in which fewer than `least_share` of the lines of the engine that
    found more do is dropped, one that neither has read passes. `text` asks for all of them in the order of reading;
    `objects` makes each an object named by its text, for `region_tasks` and `objects_to_labels`."""
    if not any(operator in record.notes for operator in of):
        return None
    first, second = (noted_lines(record, operator) for operator in of)
    agreed = intersection(first, second, least_overlap, likeness)
    most = max(len(first), len(second))
    values = {"agreed": len(agreed) / most if most else 0.0}
    if not agreed or values["agreed"] < least_share:
        return Drop("engines disagree", f"{len(agreed)} of {most} lines are read alike", values)
    row = {key: value for key, value in record.row.items() if key != "messages"}
    if form == "objects":
        objects = [{"name": one.text, "box": list(one.box)} for lines in in_reading_order(agreed) for one in lines]
        return Edit(row | {"objects": objects}, "lines became objects")
    turns = [{"role": "user", "content": ask}, {"role": "assistant", "content": as_text(agreed)}]
    return Edit(row | {"messages": turns}, "lines became an answer")


def intersection(first: Sequence[Line], second: Sequence[Line], least_overlap: float, likeness: float) -> list[Line]:
    """Lines of the first for which the second has one, each used once, those that overlap most first."""
    pairs = sorted(
        ((iou(one.box, other.box), at, place) for at, one in enumerate(first) for place, other in enumerate(second)),
        key=lambda pair: (-pair[0], pair[1:]),
    )
    taken: tuple[set[int], set[int]] = set(), set()
    kept: list[int] = []
    for overlap, at, place in pairs:
        if overlap < least_overlap or overlap == 0 or at in taken[0] or place in taken[1]:
            continue
        taken[0].add(at)
        taken[1].add(place)
        if Levenshtein.normalized_similarity(_plain(first[at].text), _plain(second[place].text)) >= likeness:
            kept.append(at)
    return [first[at] for at in sorted(kept)]


def _plain(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).split())
