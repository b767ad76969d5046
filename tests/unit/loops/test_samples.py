"""A few completions of a step to look at."""

from __future__ import annotations

from pangu_rl.loops.samples import MOST, samples_of
from pangu_rl.monitoring.live import Sample
from tests.unit.report.drawn_run import hostile, sums


def test_the_first_completion_of_each_of_the_first_groups() -> None:
    groups = [hostile(1), *(sums(step) for step in range(2, 20))]
    found = samples_of(groups)
    assert len(found) == MOST
    assert found[1] == Sample(prompt="17 + 25 = ?", response="17 + 25 is \\boxed{42}", reward=1.0)
    assert found[0].reward == -1.0
    assert samples_of([]) == []
