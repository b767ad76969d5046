"""DAPO's soft overlong penalty: values of eq. 13, and TRL's own function."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pangu_rl.config.sections.rewards import RewardFunctionConfig
from pangu_rl.records import Outcome
from rewards.recipe.overlong import soft_overlong
from rewards.registry import resolve
from tests.unit.rewards.builders import completion, prompt


def of_length(tokens: int):
    return replace(completion("x"), token_ids=(1,) * tokens, logprobs=(0.0,) * tokens)


@pytest.mark.parametrize(("tokens", "value"), [(0, 0.0), (80, 0.0), (81, -0.05), (90, -0.5), (100, -1.0), (120, -1.0)])
def test_eq_13(tokens: int, value: float) -> None:
    """Limit 100, buffer 20: free up to 80, then (80 - length) / 20, and -1 from 100 on."""
    part = resolve(RewardFunctionConfig(name="soft_overlong", args={"limit": 100, "buffer": 20}))(
        prompt("1"), of_length(tokens)
    )
    assert part.value == pytest.approx(value, abs=1e-12)
    assert part.outcome is (Outcome.INCORRECT if value else Outcome.CORRECT)


def test_it_is_that_of_trl() -> None:
    theirs = pytest.importorskip("trl.rewards").get_soft_overlong_punishment(
        max_completion_len=64, soft_punish_cache=17
    )
    lengths = range(0, 80)
    expected = theirs([[1] * n for n in lengths])
    found = [soft_overlong(prompt("1"), of_length(n), limit=64, buffer=17).value for n in lengths]
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("buffer", [0, -1, 65])
def test_a_buffer_that_is_no_part_of_the_limit_is_refused(buffer: int) -> None:
    with pytest.raises(ValueError, match=f"buffer {buffer} must be from 1 to limit 64"):
        soft_overlong(prompt("1"), of_length(3), limit=64, buffer=buffer)
