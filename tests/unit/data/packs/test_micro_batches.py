"""Micro-batches by hand; whatever the sizes, each pack lies in one, within the room, and ranks have equally many."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pangu_rl.data.packs.batching import split_ranks
from pangu_rl.data.packs.micro_batches import Dealing, merge_packs
from pangu_rl.records import Pack, Picture
from tests.unit.data.groups import make_group, pack_groups
from tests.unit.learner.builders import join, plain_pack, tree_pack


def costs_dealt(costs: list[float], ranks: int, **dealing: object) -> list[list[list[float]]]:
    """Packs of one token each, by their costs."""
    shared = Dealing(**dealing).share([1] * len(costs), costs, ranks)
    return [[[costs[number] for number in numbers] for numbers in own] for own in shared]


def test_ranks_that_meet_at_the_end_get_the_same_work_in_all() -> None:
    """8 -> 0, 3 -> 1, 3 -> 1 (3 < 8), 2 -> 1 (6 < 8), which is full; 1 and 1 -> 0: 10 and 8."""
    assert costs_dealt([8, 3, 3, 2, 1, 1], 2) == [[[8], [1], [1]], [[3], [3], [2]]]


def test_ranks_that_meet_at_every_micro_batch_get_neighbours() -> None:
    """Rows 8 3, 3 2, 1 1; the heavier of each to the rank with less so far: they wait for 8 + 3 + 1, not 8 + 3 + 2."""
    assert costs_dealt([8, 3, 3, 2, 1, 1], 2, in_rows=True) == [[[8], [2], [1]], [[3], [3], [1]]]


def test_packs_share_micro_batches_as_few_as_have_room() -> None:
    """Seven packs of a token, two to a micro-batch, two ranks: 7 / (2 * 2) is two rows, four micro-batches.

    7 6 5 4 open them, 3 joins the 4 (7), 2 the 5 (7) and 1 the 6 (7): all weigh 7, and each rank has two.
    """
    dealt = costs_dealt([1, 2, 3, 4, 5, 6, 7], 2, micro_batch_tokens=2)
    assert sorted(sorted(packs) for own in dealt for packs in own) == [[1, 6], [2, 5], [3, 4], [7]]
    assert [len(own) for own in dealt] == [2, 2]


def test_packs_that_fit_nowhere_together_stay_alone() -> None:
    assert Dealing(micro_batch_tokens=10).share([6, 6, 6], [6, 6, 6], 1) == [[[0], [1], [2]]]
    assert Dealing(micro_batch_tokens=10).share([30, 2, 2], [9, 1, 1], 1) == [[[0], [1, 2]]]


def test_no_rank_is_left_idle_for_the_sake_of_a_full_micro_batch() -> None:
    """Four packs would fit into one; four ranks take one each."""
    assert Dealing(micro_batch_tokens=100).share([5, 5, 5, 5], [1, 1, 1, 1], 4) == [[[0]], [[1]], [[2]], [[3]]]


@given(
    sizes=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), max_size=40),
    ranks=st.integers(1, 5),
    capacity=st.none() | st.integers(20, 90),
    in_rows=st.booleans(),
)
def test_every_pack_once_in_equally_many_micro_batches(
    sizes: list[tuple[int, int]], ranks: int, capacity: int | None, in_rows: bool
) -> None:
    tokens, costs = [size for size, _ in sizes], [float(cost) for _, cost in sizes]
    shared = Dealing(micro_batch_tokens=capacity, in_rows=in_rows).share(tokens, costs, ranks)
    assert sorted(number for own in shared for numbers in own for number in numbers) == list(range(len(sizes)))
    [count] = {len(own) for own in shared}
    assert count <= max(1, -(-len(sizes) // ranks))
    for own in shared:
        loads = [sum(costs[number] for number in numbers) for numbers in own]
        assert loads == sorted(loads, reverse=True)
        for numbers in own:
            assert len(numbers) <= 1 or sum(tokens[number] for number in numbers) <= (capacity or 0)


INDICES = ("token_ids", "position_ids", "segment_starts", "segment_parents", "targets", "predictors", "sequence_ids")


def same(found: Pack, expected: Pack) -> None:
    for name in INDICES:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)


def test_a_merged_pack_is_its_packs_side_by_side() -> None:
    packs = [tree_pack([(6, [9, 4])]), tree_pack([(3, [2]), (5, [1, 1])], seed=1, first_sequence=2)]
    merged = merge_packs(packs)
    same(merged, join(packs))
    assert merged.columns["pack_ids"].tolist() == [0] * 13 + [1] * 4
    assert merged.columns["advantages"].tolist() == join(packs).columns["advantages"].tolist()
    assert merge_packs(packs[:1]) is packs[0]


def test_pictures_keep_their_places() -> None:
    """Prompts 1 2 3 whose second token a picture fills, one completion each: places 1, and 1 behind 5 tokens."""
    picture = Picture(path="a.png", sha256="a", grid=(1, 2, 2), patches=np.zeros((4, 588), np.uint8))
    packs = []
    for name in ("g", "h"):
        group = make_group(name, 3, [2], [1.0])
        group.pictures, group.prompt_positions = (picture,), np.arange(9).reshape(3, 3)
        packs += pack_groups([group], 100, frozenset({2}))
    merged = merge_packs(packs)
    assert merged.picture_tokens.tolist() == [1, 6]
    assert merged.pictures == (picture, picture)
    assert merged.position_ids.shape == (3, 10)


def test_a_mini_batch_has_merged_packs_and_fillers() -> None:
    packs = [plain_pack([[1, 2, 3]], [1]) for _ in range(3)]
    first, second = split_ranks(packs, 2, 6, 3, Dealing(micro_batch_tokens=6))
    assert [pack.num_tokens for pack in (*first.packs, *second.packs)] == [6, 3]
    (_, idle) = split_ranks(packs[:1], 2, 2, 1, Dealing(micro_batch_tokens=6))
    assert [(pack.num_tokens, len(pack.targets)) for pack in idle.packs] == [(1, 0)]
