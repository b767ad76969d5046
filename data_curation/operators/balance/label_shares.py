"""Labels that shall be seen more or less often: rows are repeated, or some are left out, by a factor for each label.

With `taxonomy` before it, this is the upsampling of knowledge-dense captions (openPangu-VL, section 3.1).
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from data_curation.operators.balance._drawn import drawn_share, label_of
from data_curation.pipeline.operator import row_operator
from data_curation.pipeline.record import Drop, Record, Repeat, Verdict

Factor = Annotated[float, Field(ge=0.0, le=100.0)]


@row_operator(cost="cpu")
def label_shares(
    record: Record, *, by: str, factors: dict[str, Factor], others: Factor = 1.0, seed: int = 0
) -> Verdict:
    """2.5 is twice, and a third time for half of the rows, drawn by their ids; 0.2 keeps one in five."""
    label = label_of(record, by)
    factor = factors.get(label, others)
    times = int(factor) + (drawn_share(record.uid, seed) < factor % 1)
    if times == 0:
        return Drop("fewer of this label", label)
    return Repeat(times) if times > 1 else None
