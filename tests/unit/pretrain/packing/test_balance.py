"""Equal numbers of packs, near-equal loads, nothing lost."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.packing.balance import deal, global_batches, imbalance


@given(st.integers(1, 60), st.integers(1, 6), st.integers(1, 3), st.integers(0, 9))
@settings(max_examples=100, deadline=None)
def test_every_pack_is_trained_on_or_carried_over(packs, ranks, each, seed):
    random = np.random.default_rng(seed)
    loads, fills = random.random(packs), random.integers(1, 100, packs)
    trained, carried = global_batches(loads, fills, ranks, ranks * each, (seed,))
    assert sorted([*trained, *carried]) == list(range(packs))
    assert len(trained) % ranks == 0
    assert len(carried) < ranks
    assert not len(carried) or fills[carried].max() <= fills[trained].min(initial=100)
    for start in range(0, len(trained), ranks * each):
        parts = deal(loads[trained[start : start + ranks * each]], ranks)
        assert sorted(parts.ravel().tolist()) == list(range(parts.size))


def test_a_batch_is_of_rows_of_neighbours_and_batches_come_at_random():
    """Loads 0 to 79 are 20 rows of 4; heavy and light rows meet, so each of the 10 batches has the same load."""
    loads = np.random.default_rng(0).permutation(80).astype(float)
    trained, carried = global_batches(loads, np.ones(80), 4, 8, key=(0,))
    rows = loads[trained].reshape(10, 2, 4)
    assert len(carried) == 0
    assert (np.ptp(rows, axis=2) == 3).all()
    assert (rows.sum(axis=(1, 2)) == 8 * 39.5).all()
    assert imbalance(loads[trained], 4, 8) == 1.0
    firsts = rows[:, 0, 0].tolist()
    assert firsts not in (sorted(firsts), sorted(firsts, reverse=True))
    assert global_batches(loads, np.ones(80), 4, 8, key=(1,))[0].tolist() != trained.tolist()


def test_the_last_batch_may_be_shorter_and_is_an_average_one():
    """Three rows of 2, two to a batch: (5, 4) with (1, 0), and (3, 2) alone."""
    trained, carried = global_batches(np.arange(6.0), np.ones(6), 2, 4, key=(0,))
    assert trained.tolist() == [5, 4, 1, 0, 3, 2]
    assert len(carried) == 0


def test_the_emptiest_packs_are_carried_over():
    _, carried = global_batches(np.zeros(6), np.array([9, 2, 9, 9, 3, 9]), 4, 4, key=(0,))
    assert carried.tolist() == [1, 4]


@given(st.lists(st.integers(0, 50), min_size=1, max_size=6), st.integers(1, 3), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_rows_wait_least_for_their_largest(loads, ranks, seed):
    """No order of the packs has a smaller sum over rows of the largest in a row."""
    drawn = np.array([*loads, *[0] * (-len(loads) % ranks)], dtype=float)
    dealt = deal(drawn, ranks, in_rows=True)
    assert sorted(dealt.ravel().tolist()) == list(range(len(drawn)))
    waited = drawn[dealt].max(axis=0).sum()
    assert waited == min(
        np.array(order).reshape(-1, ranks).max(axis=1).sum() for order in itertools.permutations(drawn)
    )


def test_in_rows_the_heavier_goes_to_the_rank_with_less():
    """Rows 9 5, 4 3, 2 1: 4 to the second (5 < 9), 3 to the first, 2 to the second (9 < 12)."""
    assert deal(np.array([1.0, 9.0, 3.0, 2.0, 5.0, 4.0]), 2, in_rows=True).tolist() == [[1, 2, 0], [4, 5, 3]]


def test_dealing_by_hand():
    """8 to the first, 7 to the second, 5 to the second (7 < 8), 4 to the first: 12 and 12."""
    assert deal(np.array([4.0, 8.0, 5.0, 7.0]), 2).tolist() == [[1, 0], [3, 2]]


@pytest.mark.parametrize("seed", range(20))
def test_dealing_against_the_best_of_all_deals(seed):
    """At most 4/3 of the optimum, also with equally many for each (Babel, Kellerer and Kotov 1998)."""
    loads = np.random.default_rng(seed).uniform(1, 10, 8)
    best = min(
        max(loads[list(half)].sum(), loads.sum() - loads[list(half)].sum())
        for half in itertools.combinations(range(8), 4)
    )
    # The sums are taken in other orders: as much as float64 rounds.
    assert best * (1 - 1e-12) <= loads[deal(loads, 2)].sum(axis=1).max() <= 4 / 3 * best


def test_imbalance_by_hand():
    """Batches (3, 1) and (2, 2) and one without pictures: (1.5 + 1 + 1) / 3."""
    assert imbalance(np.array([3.0, 1, 2, 2, 0, 0]), ranks=2, packs=2) == pytest.approx(3.5 / 3)
    assert imbalance(np.zeros(0), ranks=2, packs=2) == 1.0
    assert imbalance(np.array([3.0, 1, 2, 2]), ranks=2, packs=4) == 1.0
