"""Advantages by group id: hand-worked values, and what must not move them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pangu_rl.algorithms.grpo import group_advantages


def test_values_worked_by_hand() -> None:
    """Group a: rewards 1 0 0 1, mean 1/2, unbiased variance 4 * 1/4 / 3 = 1/3, std 0.577350; A = +-0.5 / 0.577350.
    Group b: rewards 0 3, mean 3/2, variance 2 * 9/4 / 1 = 9/2, std 2.121320; A = +-1.5 / 2.121320 = +-0.707107.
    """
    advantages = group_advantages([1, 0, 0, 0, 1, 3], ["a", "a", "a", "b", "a", "b"], eps=0.0)
    expected = torch.tensor([0.866025, -0.866025, -0.866025, -0.707107, 0.866025, 0.707107])
    torch.testing.assert_close(advantages, expected, rtol=0, atol=1e-6)


def test_eps_is_added_to_the_std() -> None:
    """Rewards 0 3: std 2.121320; with eps 1 the divisor is 3.121320 and A = +-1.5 / 3.121320 = +-0.480566."""
    torch.testing.assert_close(
        group_advantages([0, 3], [7, 7], eps=1.0), torch.tensor([-0.480566, 0.480566]), rtol=0, atol=1e-6
    )


def test_scale_none_only_centres() -> None:
    """Rewards 1 0 0, mean 1/3 (Dr. GRPO)."""
    expected = torch.tensor([2 / 3, -1 / 3, -1 / 3])
    torch.testing.assert_close(group_advantages([1, 0, 0], [0, 0, 0], scale="none"), expected)


@settings(deadline=None)
@given(reward=st.floats(-1e6, 1e6), size=st.integers(1, 64))
@example(reward=0.1 + 0.2, size=3)
@example(reward=1.1, size=7)
def test_equal_rewards_give_exact_zeros(reward: float, size: int) -> None:
    """Plain float arithmetic does not: sum([0.1] * 6) / 6 - 0.1 is 1.4e-17 below 0."""
    assert sum([0.1] * 6) / 6 != 0.1
    for scale in ("std", "none"):
        assert not group_advantages([reward] * size, [0] * size, scale=scale).any()


def test_parts_summed_in_another_order_are_equal_rewards() -> None:
    assert 0.1 + 0.2 != 0.3
    assert group_advantages([0.1 + 0.2, 0.3, 0.3, 0.1 + 0.2], [0] * 4, scale="none").tolist() == [0.0] * 4


def test_a_group_of_one_gets_zero() -> None:
    assert group_advantages([5.0, 1.0, 0.0], ["alone", "pair", "pair"])[0] == 0


def test_invalid_rows_leave_the_statistics() -> None:
    """Without row 2 the group is 1 0, so A = +-0.5 / 0.707107 = +-0.707107, whatever row 2 holds."""
    for held in (100.0, math.nan, math.inf):
        advantages = group_advantages(torch.tensor([1.0, 0.0, held]), [0, 0, 0], [True, True, False], eps=0.0)
        torch.testing.assert_close(advantages, torch.tensor([0.707107, -0.707107, 0.0]), rtol=0, atol=1e-6)


def test_a_reward_that_is_no_number_is_an_invalid_row() -> None:
    expected = group_advantages([1, 0], [0, 0])
    for missing in (None, math.nan, math.inf, -math.inf):
        advantages = group_advantages([1, missing, 0], [0, 0, 0])
        assert advantages.tolist() == [expected[0].item(), 0.0, expected[1].item()]


def test_a_group_left_with_one_valid_row_gets_zeros() -> None:
    assert group_advantages([1.0, 0.0], [0, 0], [True, False]).tolist() == [0.0, 0.0]
    assert group_advantages([1.0, 0.0], [0, 0], [False, False]).tolist() == [0.0, 0.0]


def test_uneven_groups_stay_groups() -> None:
    """Sizes 4, 3 and 4 must not fall back to one global group: each group's advantages sum to 0."""
    sizes = [4, 3, 4]
    ids = np.repeat([30, 10, 20], sizes)
    rewards = torch.tensor([1, 0, 0, 2, 5, 6, 9, 0, 1, 1, 0], dtype=torch.float32)
    advantages = group_advantages(rewards, ids)
    for part, alone in zip(advantages.split(sizes), rewards.split(sizes), strict=True):
        assert torch.equal(part, group_advantages(alone, [0] * len(alone)))
        assert abs(part.sum().item()) < 1e-5


def test_group_ids_of_any_kind() -> None:
    rewards = [1.0, 0.0, 2.0, 0.5]
    expected = group_advantages(rewards, [0, 0, 1, 1])
    for ids in (
        ["x", "x", "y", "y"],
        torch.tensor([9, 9, -3, -3]),
        np.array([5, 5, 2, 2]),
        [("a", 1)] * 2 + [None] * 2,
    ):
        assert torch.equal(group_advantages(rewards, ids), expected)


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="2 rewards, 3 group ids and 2 valid flags"):
        group_advantages([1.0, 0.0], [0, 0, 0])
    with pytest.raises(ValueError, match="2 rewards, 2 group ids and 1 valid flags"):
        group_advantages([1.0, 0.0], [0, 0], [True])


def test_unknown_scale_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown scale 'batch'"):
        group_advantages([1.0], [0], scale="batch")  # type: ignore[arg-type]


rows = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from([0.0, 0.1, 0.3, 1.0, 1.1, math.nan]), st.booleans()),
    min_size=1,
    max_size=24,
)


@settings(max_examples=100, deadline=None)
@given(rows=rows, data=st.data())
def test_order_does_not_matter_and_nan_never_leaks(rows: list[tuple[int, float, bool]], data: st.DataObject) -> None:
    """1e-6: a group's sums run in another order in float64, the result is rounded to float32."""
    order = data.draw(st.permutations(range(len(rows))))
    ids, rewards, valid = (list(column) for column in zip(*rows, strict=True))
    advantages = group_advantages(rewards, ids, valid)
    shuffled = group_advantages([rewards[i] for i in order], [ids[i] for i in order], [valid[i] for i in order])
    assert advantages.isfinite().all()
    torch.testing.assert_close(shuffled, advantages[order], rtol=1e-6, atol=1e-6)
    assert torch.equal(shuffled == 0, advantages[order] == 0)


@settings(max_examples=50, deadline=None)
@given(rows=rows)
def test_invalid_rows_might_as_well_be_absent(rows: list[tuple[int, float, bool]]) -> None:
    ids, rewards, valid = (list(column) for column in zip(*rows, strict=True))
    advantages = group_advantages(rewards, ids, valid)
    kept = [i for i, flag in enumerate(valid) if flag]
    alone = group_advantages([rewards[i] for i in kept], [ids[i] for i in kept])
    torch.testing.assert_close(advantages[kept], alone, rtol=0, atol=0)
    assert not advantages[[i for i, flag in enumerate(valid) if not flag]].any()
