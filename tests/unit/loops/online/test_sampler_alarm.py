"""A step whose engine samples from another model: nothing, a line, or the end of the run."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from pangu_rl.errors import RunError
from pangu_rl.loops.online.sampler_alarm import check_sampler


def judged(kl: float | None, *, limit: float | None = 0.2, staleness: int = 0) -> list[str]:
    said: list[str] = []
    config = SimpleNamespace(
        algorithm=SimpleNamespace(sampler_kl_limit=limit), trainer=SimpleNamespace(max_staleness=staleness)
    )
    metrics = {} if kl is None else {"train/sampler_kl": kl}
    check_sampler(SimpleNamespace(say=said.append), config, 3, metrics)
    return said


@pytest.mark.parametrize("kl", [None, 0.0, 0.001, 0.02])
def test_a_sound_step_says_nothing(kl: float | None) -> None:
    assert judged(kl) == []


def test_a_tenth_of_the_limit_is_worth_a_line() -> None:
    [line] = judged(0.05)
    assert line.startswith("step 3: the engine's log-probs are not the learner's, KL 0.05 nats a token")
    assert "the run ends at 0.2" in line


@pytest.mark.parametrize("kl", [0.21, 1.46, math.inf, math.nan])
def test_above_the_limit_the_run_ends(kl: float) -> None:
    with pytest.raises(RunError, match=r"step 3: .* \(algorithm.sampler_kl_limit 0.2\)"):
        judged(kl)


def test_stale_rollouts_and_no_limit_are_measured_only() -> None:
    assert judged(1.0, staleness=1) == judged(1.0, limit=None) == []
