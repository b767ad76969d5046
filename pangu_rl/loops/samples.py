"""Groups of a step -> **a few completions to look at**: the live view shows the first, trackers a table of them."""

from __future__ import annotations

from collections.abc import Sequence

from pangu_rl.data.prompts import readable
from pangu_rl.monitoring.live import Sample
from pangu_rl.records import Group

MOST = 8


def samples_of(groups: Sequence[Group]) -> list[Sample]:
    """The first completion of each of the first groups."""
    return [
        Sample(prompt=readable(group.prompt), response=group.completions[0].text, reward=group.scores[0].reward)
        for group in groups[:MOST]
    ]
