"""Objects are pointed to, then counted: pointing first counts better (openPangu-VL, appendix A.3 and B.2)."""

from __future__ import annotations

import json

from data_curation.operators.balance._drawn import drawn_share
from data_curation.operators.grounding._objects import Seen, seen_objects, task
from data_curation.pipeline.operator import row_operator
from data_curation.pipeline.record import Drop, Record, Split, Verdict
from pangu_rl.config.curate import Share
from pangu_rl.data.fields.bad_row import Row
from pangu_rl.grounding_labels import Label, Shape, write_label

ASK = "How many {name} are there in the image? Point to them and output the total count."


@row_operator(cost="cpu")
def point_counts(record: Record, *, share: Share = 1.0, ask: str = ASK, seed: int = 0) -> Verdict:
    """Of a row with one picture and named `objects`, a question for each name: a point inside of each object, from
    above to below, then how many there are; 0 for names that `absent_objects` noted. Where the objects have areas, the
    row has an answer of the type `point_count`. Names whose points fall together in thousandths are left out. `share`
    of the rows is taken; the others go on with their objects, for other operators."""
    if not record.row.get("objects") or drawn_share(f"{record.uid} point_counts", seed) >= share:
        return None
    rows = [_question(record, seen, ask) for seen in seen_objects(record) if len({*seen.points}) == len(seen.points)]
    return Split(rows, "objects became counts") if rows else Drop("points fall together")


def _question(record: Record, seen: Seen, ask: str) -> Row:
    ordered = sorted(seen.points, key=lambda point: (point[1], point[0]))
    label = write_label(Label(tuple(Shape("point", (point,)) for point in ordered), seen.name))
    gold = {}
    if len(seen.boxes) == len(seen.points):
        answer = json.dumps(seen.boxes) if seen.boxes else "null"
        gold = {"answer": answer, "answer_type": "point_count", "coordinates": "0-999"}
    return task(record, ask.replace("{name}", seen.name), f"{label} {len(ordered)}", **gold)
