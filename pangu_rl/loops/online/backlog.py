"""Which prompts may be drawn ahead, and which groups train next: the **rule that keeps every token young enough**.

Weights of version v are those that step v trains, so a token of version w that trains in step t is t - w versions old.
A group admitted while the engines hold v has no token older than v and must train in step v + `max_staleness` at the
latest: its deadline. Steps take `per_step` groups each, so at any time, before step t takes its own,

    for every step D >= t:   groups with a deadline of D or earlier  <=  per_step * (D - t + 1)                     (1)

is all it needs. `room` admits no more than (1) allows for the newest deadline, and `take` gives the oldest finished
groups, once they are enough that (1) holds for the steps to come; so it waits for a straggler only when the straggler
would otherwise grow too old. No clock and no engine is in here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field

from pangu_rl.records import Group


@dataclass(slots=True, kw_only=True)
class Backlog:
    """Groups between their admission and the step that trains them."""

    per_step: int
    """Groups that a step trains."""
    max_staleness: int
    last_step: int
    replaced: int = 0
    """Groups without variance a step that others are drawn for; further ones count among those it trains."""
    step: int = 1
    """The next one to take groups."""
    drawing: dict[str, int] = field(default_factory=dict)
    """Group -> version of the engines when it was admitted."""
    finished: list[Group] = field(default_factory=list)
    aside: list[Group] = field(default_factory=list)
    """Without variance, replaced by others: stored with the next step, never trained."""

    def room(self, version: int) -> int:
        """Groups that may be admitted while the engines hold `version`."""
        steps = min(version + self.max_staleness, self.last_step) - self.step + 1
        return max(0, self.per_step * steps - len(self.drawing) - len(self.finished))

    def admit(self, names: Iterable[str], version: int) -> None:
        self.drawing |= dict.fromkeys(names, version)

    def finish(self, group: Group) -> None:
        """`group` is drawn and scored."""
        del self.drawing[group.group]
        replaced = not group.trained and len(self.aside) < self.replaced
        (self.aside if replaced else self.finished).append(group)

    def take(self) -> list[Group] | None:
        """The groups of the next step, those set aside first; None while they are still being drawn."""
        self.finished.sort(key=oldest_version)  # stable: among equals, the first to finish
        chosen = self.finished[: self.per_step]
        if len(chosen) < self.per_step or not self._leaves_in_time(chosen):
            return None
        groups = self.aside + chosen
        self.aside, self.finished = [], self.finished[self.per_step :]
        self.step += 1
        return groups

    def _leaves_in_time(self, chosen: list[Group]) -> bool:
        """Whether (1) holds for those that are left when `chosen` are gone."""
        left = sorted([*self.drawing.values(), *map(oldest_version, self.finished[len(chosen) :])])
        return all(
            place <= self.per_step * (version + self.max_staleness - self.step)
            for place, version in enumerate(left, start=1)
        )


def oldest_version(group: Group) -> int:
    """Of the weights that drew any of its tokens; without tokens there is nothing that could be too old."""
    return min((c.weight_version for c in group.completions if c.token_ids), default=sys.maxsize)
