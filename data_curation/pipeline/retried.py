"""A run that ended by its errors -> **what the next one tries again**: their cause may lie outside of what a run
compares, such as a picture that was missing or an endpoint that was down."""

from __future__ import annotations

from collections.abc import Sequence

from data_curation.pipeline.folder import MANIFEST, Folder, read_json
from data_curation.pipeline.stages import Stage
from data_curation.pipeline.steps import INPUT


def forget_errors(folder: Folder, stages: Sequence[Stage], blocks: int) -> bool:
    """Take away blocks in which an operator ended a row in an error, and all that stands on them; a line of the input
    that is no row stays one. Returns whether there was any."""
    stale: list[tuple[Stage, list[int]]] = []
    numbers: set[int] = set()
    for stage in stages:
        numbers = numbers | {number for number in range(blocks) if _has_errors(folder, stage, number)}
        stale.append((stage, sorted(numbers)))
        if numbers and stage.closing is not None:  # it decides by all of them
            numbers = set(range(blocks))
    # From the last stage on: whatever a kill leaves stands on blocks that are still there.
    for stage, some in reversed(stale):
        if some and stage.closing is not None:
            folder.forget_decided(stage.number)
        for number in some:
            folder.forget(stage.number, number)
    if numbers:
        (folder.root / MANIFEST).unlink(missing_ok=True)
    return bool(numbers)


def _has_errors(folder: Folder, stage: Stage, block: int) -> bool:
    counted = read_json(folder.done(stage.number, block))
    return counted is not None and any(tally["errors"] for tally in counted["operators"] if tally["name"] != INPUT)
