"""Packs written out token by token; every token accounted for; ranks balanced; denominators as the recipe counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pangu_rl.data.packs.batching import (
    PairRow,
    empty_pack,
    loss_counts,
    pack_conversations,
    pack_counts,
    split_groups,
    split_ranks,
    valid_rows,
)
from pangu_rl.data.packs.bins import first_fit_decreasing
from pangu_rl.data.packs.layout import TrainingRow
from pangu_rl.errors import DataError
from pangu_rl.records import FinishReason, Group, Pack, Picture
from tests.unit.data.groups import make_group, pack_groups, pack_pairs


def rows(pack: Pack) -> dict[str, list[float]]:
    arrays = {
        "token_ids": pack.token_ids,
        "position_ids": pack.position_ids,
        "segment_starts": pack.segment_starts,
        "segment_parents": pack.segment_parents,
        "targets": pack.targets,
        "predictors": pack.predictors,
        "sequence_ids": pack.sequence_ids,
    }
    assert all(array.dtype == np.int64 for array in arrays.values())
    assert all(column.dtype == np.float32 for column in pack.columns.values())
    return {name: array.tolist() for name, array in (arrays | pack.columns).items()}


def test_the_example_of_the_record() -> None:
    """Prompt 1 2 3, completions 100 101 and 200."""
    (pack,) = pack_groups([make_group("g", 3, [2, 1], [0.5, -1.0])], 100)
    assert rows(pack) == {
        "token_ids": [1, 2, 3, 100, 101, 200],
        "position_ids": [0, 1, 2, 3, 4, 3],
        "segment_starts": [0, 3, 5, 6],
        "segment_parents": [-1, 0, 0],
        "targets": [3, 4, 5],
        "predictors": [2, 3, 2],
        "sequence_ids": [0, 0, 1],
        "advantages": [0.5, 0.5, -1.0],
        "sampler_logprobs": np.float32([-0.100, -0.101, -0.200]).tolist(),
    }


def test_two_groups_in_one_pack() -> None:
    """The second group's root is segment 3 at token 4: positions restart, its completions hang on it."""
    groups = [make_group("g", 2, [1, 1], [1.0, -1.0]), make_group("h", 1, [2], [1.0], first_token=700)]
    (pack,) = pack_groups(groups, 7)
    assert rows(pack) | {"advantages": [], "sampler_logprobs": []} == {
        "token_ids": [1, 2, 100, 200, 1, 700, 701],
        "position_ids": [0, 1, 2, 2, 0, 1, 2],
        "segment_starts": [0, 2, 3, 4, 5, 7],
        "segment_parents": [-1, 0, 0, -1, 3],
        "targets": [2, 3, 5, 6],
        "predictors": [1, 1, 4, 5],
        "sequence_ids": [0, 1, 2, 2],
        "advantages": [],
        "sampler_logprobs": [],
    }


def test_a_group_larger_than_a_pack_repeats_its_prompt() -> None:
    """Prompt of 2, completions of 4, 3, 2, 1; packs of 7 leave room for 5: 4 + 1 and 3 + 2."""
    packs = pack_groups([make_group("g", 2, [4, 3, 2, 1], [1.0, 2.0, 3.0, 4.0])], 7)
    assert [pack.token_ids.tolist() for pack in packs] == [
        [1, 2, 100, 101, 102, 103, 400],
        [1, 2, 200, 201, 202, 300, 301],
    ]
    assert [np.unique(pack.sequence_ids).tolist() for pack in packs] == [[0, 3], [1, 2]]


def test_a_completion_longer_than_a_pack_is_never_cut() -> None:
    packs = pack_groups([make_group("g", 2, [9, 2], [1.0, -1.0])], 6)
    assert [pack.num_tokens for pack in packs] == [11, 4]
    (pack,) = pack_groups([make_group("long-prompt", 9, [2], [1.0])], 6)
    assert pack.num_tokens == 11


def test_rows_without_advantage_and_groups_set_aside_cost_nothing() -> None:
    """The completions left are the group's second and the third group's first: sequence ids 1 and 5."""
    groups = [
        make_group("g", 2, [3, 2, 4], [0.0, 1.0, 0.0]),
        make_group("aside", 2, [3, 3], [0.0, 0.0], trained=False),
        make_group("h", 2, [1, 5], [-1.0, 0.0]),
        make_group("flat", 2, [3, 3], [0.0, 0.0]),
    ]
    (pack,) = pack_groups(groups, 100)
    assert pack.token_ids.tolist() == [1, 2, 200, 201, 1, 2, 100]
    assert pack.sequence_ids.tolist() == [1, 1, 5]


def test_rows_in_the_loss_may_be_named() -> None:
    """With a KL to a reference a row without advantage trains; one that is not valid does not."""
    flat = make_group("flat", 2, [3, 1, 2], [0.0, 0.5, -0.5])
    (pack,) = pack_groups([flat], 100, in_loss=lambda group: [True, False, True])
    assert Counter(pack.sequence_ids.tolist()) == {0: 3, 2: 2}
    assert pack.columns["advantages"].tolist() == [0.0] * 3 + [-0.5] * 2


def test_denominators_count_rows_of_advantage_zero_but_not_masked_ones() -> None:
    """g: 3 + 2 + 4 tokens; its first row has no verdict, its last was cut at the limit. flat: 3 + 3.
    train: 2 + 4 + 6 = 12 tokens, 4 rows; mask: 2 + 6 = 8 tokens, 3 rows. The group set aside is not counted.
    """
    group = make_group("g", 2, [3, 2, 4], [0.0, 1.0, 0.0])
    group.scores[0] = replace(group.scores[0], reward=None)
    group.completions[2] = replace(group.completions[2], finish_reason=FinishReason.LENGTH)
    aside = make_group("aside", 2, [9, 9], [0.0, 0.0], trained=False)
    groups = [group, aside, make_group("flat", 2, [3, 3], [0.0, 0.0])]
    assert valid_rows(group, "train") == [False, True, True]
    assert valid_rows(group, "mask") == [False, True, False]
    assert loss_counts(groups) == (12, 4)
    assert loss_counts(groups, "mask") == (8, 3)
    assert loss_counts([]) == (0, 0)


def test_nothing_to_train_makes_no_pack() -> None:
    assert pack_groups([], 10) == []
    assert pack_groups([make_group("flat", 2, [3, 3], [0.0, 0.0])], 10) == []


def test_log_probs_must_match_tokens() -> None:
    group = make_group("g", 2, [3], [1.0])
    group.completions[0] = replace(group.completions[0], logprobs=(-0.1,))
    with pytest.raises(ValueError, match="completion g/0 has 3 tokens and 1 log-probs"):
        pack_groups([group], 10)


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(ValueError, match="group g has an empty prompt"):
        pack_groups([make_group("g", 0, [3], [1.0])], 10)


def conversation(token_ids: Sequence[int], trained: Sequence[bool], **options: object) -> TrainingRow:
    return TrainingRow(token_ids=token_ids, trained=trained, **options)


def test_conversations_written_out() -> None:
    """Row 0 trains its tokens 2 3, row 1 has nothing to train, row 2's first token cannot be predicted: it trains 9."""
    conversations = [
        conversation((5, 6, 7, 8), (False, False, True, True)),
        conversation((1, 2), (False, False)),
        conversation((4, 9), (True, True)),
    ]
    packs = pack_conversations(conversations, 6)
    assert [rows(pack) for pack in packs] == [
        {
            "token_ids": [5, 6, 7, 8, 4, 9],
            "position_ids": [0, 1, 2, 3, 0, 1],
            "segment_starts": [0, 4, 6],
            "segment_parents": [-1, -1],
            "targets": [2, 3, 5],
            "predictors": [1, 2, 4],
            "sequence_ids": [0, 0, 2],
        }
    ]
    assert pack_counts(packs) == (3, 2)


def test_a_conversation_longer_than_a_pack_stands_alone() -> None:
    long, short = conversation((1,) * 9, (False,) + (True,) * 8), conversation((2, 3), (False, True))
    assert [pack.num_tokens for pack in pack_conversations([short, long, short], 6)] == [4, 9]


def test_conversation_mask_must_match() -> None:
    with pytest.raises(ValueError, match="row 1 has 3 token ids and a mask of 2"):
        pack_conversations([conversation((1, 2), (False, True)), conversation((1, 2, 3), (False, True))], 6)


def test_first_fit_decreasing_written_out() -> None:
    """Capacity 10. Falling: 7 6 5 4 3 2 2. 7|, 6|, 5|, 4 -> 6, 3 -> 7, 2 -> 5, 2 -> 5; 12 does not fit anywhere."""
    assert first_fit_decreasing([2, 7, 12, 5, 4, 6, 3, 2], 10) == [[0, 3, 7], [1, 6], [2], [4, 5]]


def test_bins_at_scale() -> None:
    """20,000 items, more than a step of the paper's recipe (4,096 rollouts): at least 99.5 % full."""
    sizes = np.random.default_rng(0).integers(16, 700, 20_000).tolist()
    bins = first_fit_decreasing(sizes, 4096)
    assert sum(sizes) / (len(bins) * 4096) > 0.995


sizes_lists = st.lists(st.integers(1, 30), max_size=40)


@settings(deadline=None)
@given(sizes=sizes_lists, capacity=st.integers(1, 25))
def test_bins_hold_every_item_once_and_no_bin_overflows(sizes: list[int], capacity: int) -> None:
    bins = first_fit_decreasing(sizes, capacity)
    assert sorted(item for items in bins for item in items) == list(range(len(sizes)))
    for items in bins:
        assert sum(sizes[item] for item in items) <= capacity or len(items) == 1
    # First fit leaves at most one bin half empty: two such would have been one.
    fitting = [sum(sizes[item] for item in items) for items in bins if sizes[items[0]] <= capacity]
    assert sum(load * 2 <= capacity for load in fitting) <= 1


@st.composite
def group_lists(draw: st.DrawFn) -> list[Group]:
    groups = []
    for number in range(draw(st.integers(1, 6))):
        lengths = draw(st.lists(st.integers(1, 12), min_size=1, max_size=6))
        advantages = draw(st.lists(st.sampled_from([0.0, 1.0, -0.5]), min_size=len(lengths), max_size=len(lengths)))
        groups.append(
            make_group(f"g{number}", draw(st.integers(1, 6)), lengths, advantages, first_token=1000 * (number + 1))
        )
    return groups


@settings(deadline=None)
@given(groups=group_lists(), pack_tokens=st.integers(1, 40), ranks=st.integers(1, 4))
def test_every_trained_token_stands_once_with_its_own_context(
    groups: list[Group], pack_tokens: int, ranks: int
) -> None:
    """Through packing and split: each completion is trained whole, once, behind its prompt, with its own columns."""
    completions = [(group, index) for group in groups for index in range(len(group.completions))]
    expected = Counter(i for i, (group, index) in enumerate(completions) if group.advantages[index] != 0)
    seen: Counter[int] = Counter()
    packs = pack_groups(groups, pack_tokens)
    for pack in (pack for batch in split_ranks(packs, ranks, 1, 1) for pack in batch.packs):
        assert pack.num_tokens == pack.segment_starts[-1]
        for sequence in dict.fromkeys(pack.sequence_ids.tolist()):
            group, index = completions[sequence]
            completion = group.completions[index]
            mine = pack.sequence_ids == sequence
            assert tuple(pack.token_ids[pack.targets[mine]]) == completion.token_ids
            assert context_of(pack, int(pack.targets[mine][-1])) == [*group.prompt_token_ids, *completion.token_ids]
            assert pack.columns["advantages"][mine].tolist() == [group.advantages[index]] * len(completion.token_ids)
            assert pack.columns["sampler_logprobs"][mine].tolist() == np.float32(completion.logprobs).tolist()
            for target, predictor in zip(pack.targets[mine].tolist(), pack.predictors[mine].tolist(), strict=True):
                assert context_of(pack, target)[:-1] == context_of(pack, predictor)
                assert pack.position_ids[target] == pack.position_ids[predictor] + 1 == len(context_of(pack, predictor))
            seen[sequence] += 1
        if pack.num_tokens > pack_tokens:
            assert len(set(pack.sequence_ids.tolist())) == 1
    assert seen == expected


def context_of(pack: Pack, token: int) -> list[int]:
    """The tokens that `token` attends to, itself last, by the definition of the tree."""
    segment = int(np.searchsorted(pack.segment_starts, token, side="right")) - 1
    own = pack.token_ids[pack.segment_starts[segment] : token + 1].tolist()
    parent = int(pack.segment_parents[segment])
    if parent < 0:
        return own
    return context_of(pack, int(pack.segment_starts[parent + 1]) - 1) + own


def pack_of(tokens: int) -> Pack:
    (pack,) = pack_conversations([conversation(range(tokens), [True] * tokens)], tokens)
    return pack


def loads(sizes: Sequence[int], ranks: int) -> list[list[int]]:
    batches = split_ranks([pack_of(size) for size in sizes], ranks, 10, 3)
    assert all((batch.loss_tokens, batch.loss_sequences) == (10, 3) for batch in batches)
    return [[pack.num_tokens for pack in batch.packs] for batch in batches]


def test_ranks_are_balanced_by_tokens_with_equal_pack_counts() -> None:
    """Falling 9 8 5 4 3 2: 9 -> 0, 8 -> 1, 5 -> 1 (8 < 9), 4 -> 0 (9 < 13), 3 -> 0 (tie at 13), and 2 -> 1."""
    assert loads([5, 9, 2, 4, 8, 3], 2) == [[9, 4, 3], [8, 5, 2]]


def test_short_ranks_are_filled_with_empty_packs() -> None:
    """Four packs on three ranks: two each; an empty pack is one token."""
    assert loads([7, 6, 5, 4], 3) == [[7, 1], [6, 1], [5, 4]]
    assert loads([7], 3) == [[7], [1], [1]]
    assert loads([], 2) == [[1], [1]]


def test_an_empty_pack_is_well_formed() -> None:
    (_, batch) = split_ranks(pack_groups([make_group("g", 2, [3], [1.0])], 10), 2, 3, 1)
    assert rows(batch.packs[0]) == {
        "token_ids": [0],
        "position_ids": [0],
        "segment_starts": [0, 1],
        "segment_parents": [-1],
        "targets": [],
        "predictors": [],
        "sequence_ids": [],
        "advantages": [],
        "sampler_logprobs": [],
    }
    assert rows(empty_pack()) == {
        name: values for name, values in rows(batch.packs[0]).items() if name not in ("advantages", "sampler_logprobs")
    }


PAD = 9
PICTURE = Picture(path="a.png", sha256="a", grid=(1, 2, 4), patches=np.zeros((8, 588), np.uint8))
OTHER = Picture(path="b.png", sha256="b", grid=(1, 2, 2), patches=np.zeros((4, 588), np.uint8))
POSITIONS = np.array([[0, 1, 1, 3], [0, 1, 1, 3], [0, 1, 2, 3]])
"""Of one text token, PICTURE's two tokens side by side, and a text token behind their widest position."""


def picture_group(name: str, completions: Sequence[int]) -> Group:
    group = make_group(name, 4, completions, [1.0, -1.0][: len(completions)])
    group.prompt_token_ids = (5, PAD, PAD, 6)
    group.pictures, group.prompt_positions = (PICTURE,), POSITIONS
    return group


def test_a_completion_goes_on_behind_the_largest_position_of_its_prompt() -> None:
    (pack,) = pack_groups([picture_group("g", [2, 1])], 100, frozenset({PAD}))
    assert pack.token_ids.tolist() == [5, PAD, PAD, 6, 100, 101, 200]
    assert pack.position_ids.tolist() == [[0, 1, 1, 3, 4, 5, 4], [0, 1, 1, 3, 4, 5, 4], [0, 1, 2, 3, 4, 5, 4]]
    assert pack.pictures == (PICTURE,)
    assert pack.picture_tokens.tolist() == [1, 2]


def test_text_beside_pictures_counts_alike_on_all_axes() -> None:
    """The packs hold 5 + 4 tokens at most, so the text prompt of 2 and its completion of 1 stand alone."""
    groups = [make_group("text", 2, [1], [1.0]), picture_group("g", [5])]
    packs = pack_groups(groups, 9, frozenset({PAD}))
    assert [pack.position_ids.tolist() for pack in packs] == [
        [[0, 1, 2]] * 3,
        [[*row, 4, 5, 6, 7, 8] for row in POSITIONS.tolist()],
    ]
    (both,) = pack_groups(groups, 100, frozenset({PAD}))
    assert both.picture_tokens.tolist() == [4, 5]
    filler = split_ranks(packs[:1], 2, 1, 1)[1].packs[0]
    assert (filler.position_ids.tolist(), len(filler.pictures)) == ([[0], [0], [0]], 0)


def test_a_group_spread_over_packs_takes_its_pictures_along() -> None:
    packs = pack_groups([picture_group("g", [4, 3])], 8, frozenset({PAD}))
    assert [(pack.pictures, pack.picture_tokens.tolist()) for pack in packs] == [((PICTURE,), [1, 2])] * 2


def test_a_sampled_placeholder_is_no_picture() -> None:
    group = picture_group("g", [2, 1])
    group.completions[0] = replace(group.completions[0], token_ids=(100, PAD))
    (pack,) = pack_groups([group], 100, frozenset({PAD}))
    assert pack.token_ids[5] == PAD
    assert pack.picture_tokens.tolist() == [1, 2]


def test_conversations_with_pictures_written_out() -> None:
    """Row 0 holds two pictures, the first known by the image's id and the second by the video's."""
    positions = np.array([[0, 0, 2, 3], [0, 0, 2, 3], [0, 1, 2, 3]])
    first = conversation((PAD, PAD, 8, 4), (False,) * 3 + (True,), positions=positions, pictures=(PICTURE, OTHER))
    second = conversation((4, 5), (False, True))
    (pack,) = pack_conversations([first, second], 100, frozenset({PAD, 8}))
    assert pack.position_ids.tolist() == [[0, 0, 2, 3, 0, 1], [0, 0, 2, 3, 0, 1], [0, 1, 2, 3, 0, 1]]
    assert pack.picture_tokens.tolist() == [0, 1, 2]
    assert pack.pictures == (PICTURE, OTHER)


def test_placeholders_must_be_as_many_as_the_pictures_fill() -> None:
    group = picture_group("g", [1])
    with pytest.raises(DataError, match="group g has 0 picture placeholder tokens, and its 1 pictures fill 2"):
        pack_groups([group], 100)
    group.pictures = (OTHER,)
    with pytest.raises(DataError, match="group g has 2 picture placeholder tokens, and its 1 pictures fill 1"):
        pack_groups([group], 100, frozenset({PAD}))


def test_positions_must_cover_the_tokens() -> None:
    row = conversation((1, 2, 3), (True,) * 3, positions=POSITIONS)
    with pytest.raises(ValueError, match=r"row 0 has 3 token ids and positions of shape \(3, 4\)"):
        pack_conversations([row], 100)


@settings(deadline=None)
@given(sizes=st.lists(st.integers(2, 64), min_size=1, max_size=24), ranks=st.integers(1, 6))
def test_no_pack_is_lost_and_counts_are_equal(sizes: list[int], ranks: int) -> None:
    split = loads(sizes, ranks)
    assert len({len(rank) for rank in split}) == 1
    assert sorted(size for rank in split for size in rank if size > 1) == sorted(sizes)
    assert all(rank == sorted(rank, reverse=True) for rank in split)


def test_mini_batches_split_trained_groups_evenly() -> None:
    groups = [make_group(str(i), 1, [1], [1.0], trained=i != 2) for i in range(8)]
    names = [[group.group for group in part] for part in split_groups(groups, 3)]
    assert names == [["0", "1"], ["3", "4"], ["5", "6", "7"]]
    assert split_groups(groups[:2], 3) == [[groups[0]], [groups[1]]]
    assert split_groups([], 2) == []


def pair(prompt: int, chosen: int, rejected: int, reference: tuple[float, float] = (-6.0, -2.0)) -> PairRow:
    """Prompt ids 1, 2, ...; chosen ids 100, 101, ...; rejected ids 200, 201, ..."""
    row = TrainingRow(token_ids=range(1, prompt + 1), trained=(False,) * prompt)
    return PairRow(
        prompt=row, chosen=range(100, 100 + chosen), rejected=range(200, 200 + rejected), reference=reference
    )


def test_a_pair_and_an_sft_row_in_one_pack() -> None:
    """The reference is spread over a response's tokens: -6 / 2 and -2 / 1. The row is sequence 2, after the pair's."""
    sft = TrainingRow(token_ids=[7, 8, 9], trained=[False, True, True])
    (pack,) = pack_pairs([pair(3, 2, 1)], 100, rows=[sft])
    assert rows(pack) == {
        "token_ids": [1, 2, 3, 100, 101, 200, 7, 8, 9],
        "position_ids": [0, 1, 2, 3, 4, 3, 0, 1, 2],
        "segment_starts": [0, 3, 5, 6, 9],
        "segment_parents": [-1, 0, 0, -1],
        "targets": [3, 4, 5, 7, 8],
        "predictors": [2, 3, 2, 6, 7],
        "sequence_ids": [0, 0, 1, 2, 2],
        "reference": [-3.0, -3.0, -2.0, 0.0, 0.0],
    }


@given(
    st.lists(st.tuples(*[st.integers(1, 20)] * 3), min_size=1, max_size=12),
    st.lists(st.integers(0, 20), max_size=6),
    st.integers(1, 60),
)
@settings(max_examples=60, deadline=None)
def test_no_pair_is_parted_and_every_token_stands_once(
    sizes: list[tuple[int, int, int]], answers: list[int], pack_tokens: int
) -> None:
    """A row of one token has no target and is left out."""
    sft = [TrainingRow(token_ids=[5] * (length + 1), trained=[True] * (length + 1)) for length in answers]
    packs = pack_pairs([pair(*size) for size in sizes], pack_tokens, rows=sft)
    where: dict[int, set[int]] = {}
    for number, pack in enumerate(packs):
        assert pack.num_tokens <= pack_tokens or len(set(pack.sequence_ids // 2)) == 1
        for sequence in set(pack.sequence_ids.tolist()):
            where.setdefault(sequence, set()).add(number)
    assert all(len(numbers) == 1 for numbers in where.values())
    assert all(where[2 * index] == where[2 * index + 1] for index in range(len(sizes)))
    kept = [length for length in answers if length]
    assert sum(pack.num_tokens for pack in packs) == sum(map(sum, sizes)) + sum(kept) + len(kept)
    tokens, sequences = pack_counts(packs)
    assert (tokens, sequences) == (
        sum(chosen + rejected for _, chosen, rejected in sizes) + sum(kept),
        2 * len(sizes) + len(kept),
    )
