"""Objects become questions: each region is drawn for a referring or for a grounding task (MindVL, section 3.1.4)."""

from __future__ import annotations

from data_curation.operators.balance._drawn import drawn_share
from data_curation.operators.grounding._objects import Seen, seen_objects, task
from data_curation.pipeline.operator import row_operator
from data_curation.pipeline.record import Record, Split, Verdict
from pangu_rl.config.curate import Share
from pangu_rl.data.fields.bad_row import Row
from pangu_rl.grounding_labels import Label, write_label, write_shape


@row_operator(cost="cpu")
def region_tasks(
    record: Record,
    *,
    share: Share = 1.0,
    referring: Share = 0.5,
    ask_what: str = "What is in the region {region}?",
    ask_where: str = "Detect all {name} in the image.",
    seed: int = 0,
) -> Verdict:
    """Of a row with one picture and named `objects`. Referring gives a region and asks what it is: the object's
    `caption`, else its name. Grounding gives a name and asks for all objects of it, and is asked once for each name
    that has a region left; names that `absent_objects` noted are asked for too, and answered by a label without a
    shape. Where all regions are boxes, a grounding row has its answer too. `share` as in `point_counts`."""
    if not record.row.get("objects") or drawn_share(f"{record.uid} region_tasks", seed) >= share:
        return None
    rows: list[Row] = []
    for seen in seen_objects(record):
        parts = [drawn_share(f"{record.uid} {seen.name} {n}", seed) < referring for n in range(len(seen.shapes))]
        for shape, caption, told in zip(seen.shapes, seen.captions, parts, strict=True):
            if told:
                rows.append(task(record, ask_what.replace("{region}", write_shape(shape)), caption))
        if not all(parts) or not parts:
            rows.append(_grounding(record, seen, ask_where))
    return Split(rows, "regions became questions")


def _grounding(record: Record, seen: Seen, ask: str) -> Row:
    said = write_label(Label(tuple(dict.fromkeys(seen.shapes)), seen.name))
    boxes = all(shape.kind == "box" for shape in seen.shapes)
    gold = {"answer": said, "answer_type": "objects", "coordinates": "0-999"} if boxes else {}
    return task(record, ask.replace("{name}", seen.name), said, **gold)
