"""Scored groups, conversations or pairs -> **outlines of packs, and their split over ranks** -> learner.

Ranks wait while this runs, and a rank lays its packs out itself: groups are packed without a look at their tokens.
Sequences are laid end to end until a pack is full; none is ever cut. A group's prompt stands once in a pack and its
completions hang on it (see `records.Pack`). Everything here is a deterministic function of its input.

A multimodal model is packed by the same calls: a `Group` or `TrainingRow` brings its pictures and their positions, and
`placeholders`, the ids of the model's picture tokens, tells where the pictures' features go. Only prompts and rows are
searched for them: a completion that samples such an id has drawn a plain token. If any row of a call has positions of
its own, all packs of the call have three rows of positions.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from pangu_rl.data.packs.bins import first_fit_decreasing
from pangu_rl.data.packs.layout import Outline, Segment, TrainingRow, Tree, outline_trees, root_segment
from pangu_rl.data.packs.micro_batches import BY_TOKENS, Dealing, merge_packs
from pangu_rl.records import Completion, FinishReason, Group, MiniBatch, Pack, PackLike


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRow:
    """A prompt with two responses to it, ready to be packed."""

    prompt: TrainingRow
    """Nothing in it is trained."""
    chosen: Sequence[int]
    """[T] ids, all trained; they follow those of the prompt."""
    rejected: Sequence[int]
    reference: tuple[float, float] = (0.0, 0.0)
    """Summed log-probs of `chosen` and `rejected` under the start model."""

    @property
    def num_tokens(self) -> int:
        """Of the prompt with the longer response."""
        return len(self.prompt.token_ids) + max(len(self.chosen), len(self.rejected))


def valid_rows(group: Group, overlong: Literal["train", "mask"]) -> list[bool]:
    """Which completions [N] take part in the statistics and the loss: those with a verdict, and under `mask` whole."""
    return [
        score.reward is not None and not (overlong == "mask" and completion.finish_reason is FinishReason.LENGTH)
        for completion, score in zip(group.completions, group.scores, strict=True)
    ]


def loss_counts(groups: Sequence[Group], overlong: Literal["train", "mask"] = "train") -> tuple[int, int]:
    """(loss tokens, loss sequences) of a mini-batch: the global denominators.

    A valid row counts also when its advantage is 0 and no pack holds it; a group set aside (`trained` False) does not.
    """
    lengths = [
        len(completion.token_ids)
        for group in groups
        if group.trained
        for completion, valid in zip(group.completions, valid_rows(group, overlong), strict=True)
        if valid and completion.token_ids
    ]
    return sum(lengths), len(lengths)


def pack_counts(packs: Sequence[PackLike]) -> tuple[int, int]:
    """(loss tokens, loss sequences) of packs that hold every sequence of the batch, as conversations do."""
    sequences = {int(sequence) for pack in packs for sequence in np.unique(pack.sequence_ids)}
    return sum(pack.num_targets for pack in packs), len(sequences)


def root_count(packs: Sequence[PackLike]) -> float:
    """Sum over the sequences of the root of their targets, of packs that hold every sequence of the batch."""
    sequences = np.concatenate([np.zeros(0, dtype=np.int64), *(pack.sequence_ids for pack in packs)])
    return float(np.sqrt(np.unique(sequences, return_counts=True)[1]).sum())


def split_groups(groups: Sequence[Group], parts: int) -> list[list[Group]]:
    """The trained groups in order, in at most `parts` mini-batches whose numbers of groups differ by one at most."""
    trained = [group for group in groups if group.trained]
    bounds = [len(trained) * part // parts for part in range(parts + 1)]
    return [trained[start:end] for start, end in itertools.pairwise(bounds) if end > start]


def with_advantage(group: Group) -> list[bool]:
    """Which completions [N] have an advantage."""
    return [advantage != 0 for advantage in group.advantages]


def outline_groups(
    groups: Sequence[Group],
    pack_tokens: int,
    placeholders: frozenset[int] = frozenset(),
    in_loss: Callable[[Group], list[bool]] = with_advantage,
) -> list[Outline]:
    """Groups with advantages -> packs of at most `pack_tokens`, with columns `advantages` and `sampler_logprobs`.

    Rows that are not `in_loss`, by default those with an advantage of exactly 0, and groups set aside add nothing to
    the loss and are left out; `loss_counts` still counts what the recipe counts. A group that does not fit is spread
    over several packs, each with its prompt; a completion that does not fit with its prompt gets a longer pack of its
    own. `sequence_ids` number the completions of `groups` in order, those left out included.

    Raises:
        DataError: a prompt's placeholder tokens are not as many as its pictures fill.
    """
    trees: list[Tree] = []
    sequence = 0
    for group in groups:
        rows = []
        for completion, advantage, trains in zip(group.completions, group.advantages, in_loss(group), strict=True):
            if group.trained and trains and completion.token_ids:
                rows.append(_completion_segment(completion, advantage, sequence))
            sequence += 1
        trees += _group_trees(group, rows, pack_tokens, placeholders)
    return outline_trees(trees, pack_tokens)


def outline_conversations(
    rows: Sequence[TrainingRow], pack_tokens: int, placeholders: frozenset[int] = frozenset()
) -> list[Outline]:
    """Rows -> packs of at most `pack_tokens`; `sequence_ids` are row numbers.

    A row's first token has nothing that predicts it and is never a target; a row without targets is left out; a row
    longer than `pack_tokens` gets a pack of its own.

    Raises:
        DataError: a row's placeholder tokens are not as many as its pictures fill.
    """
    roots = [root_segment(row, f"row {number}", number, placeholders) for number, row in enumerate(rows)]
    return outline_trees([Tree(root=root) for root in roots if root.num_targets], pack_tokens)


def pack_conversations(
    rows: Sequence[TrainingRow], pack_tokens: int, placeholders: frozenset[int] = frozenset()
) -> list[Pack]:
    """As `outline_conversations`, laid out."""
    return [outline.lay_out() for outline in outline_conversations(rows, pack_tokens, placeholders)]


def outline_pairs(
    pairs: Sequence[PairRow],
    pack_tokens: int,
    placeholders: frozenset[int] = frozenset(),
    rows: Sequence[TrainingRow] = (),
) -> list[Outline]:
    """Pairs, and SFT rows beside them, -> packs of at most `pack_tokens`, with the column `reference`.

    A pair lies whole in one pack, its prompt and pictures once; one longer than `pack_tokens` gets a pack of its own.
    Of pair p the chosen response is sequence 2p, the rejected one 2p + 1; the rows go on from there. `reference` is a
    response's summed log-prob under the start model over its length, and 0 in the rows.

    Raises:
        DataError: a prompt's placeholder tokens are not as many as its pictures fill.
    """
    trees = [_pair_tree(pair, number, placeholders) for number, pair in enumerate(pairs)]
    for number, row in enumerate(rows):
        root = root_segment(row, f"SFT row {number}", 2 * len(pairs) + number, placeholders)
        if root.num_targets:
            trees.append(Tree(root=replace(root, columns={"reference": 0.0})))
    return outline_trees(trees, pack_tokens)


def split_ranks(
    packs: Sequence[PackLike],
    ranks: int,
    loss_tokens: int,
    loss_sequences: int,
    dealing: Dealing = BY_TOKENS,
) -> list[MiniBatch]:
    """One mini-batch per rank: equally many micro-batches, work balanced, short ranks filled up with empty packs."""
    costs = [dealing.cost(pack) for pack in packs]
    shared = dealing.share([pack.num_tokens for pack in packs], costs, ranks)
    filler = None if all(map(all, shared)) else _filler(packs)
    return [
        MiniBatch(
            packs=tuple(merge_packs([packs[number] for number in numbers]) if numbers else filler for numbers in own),
            loss_tokens=loss_tokens,
            loss_sequences=loss_sequences,
        )
        for own in shared
    ]


def empty_pack(columns: Sequence[str] = (), axes: tuple[int, ...] = ()) -> Pack:
    """One token of id 0 and no target: a forward and a backward run, and the gradient is 0.

    `axes` is (3,) beside packs of three rows of positions.
    """
    none = np.zeros(0, dtype=np.int64)
    return Pack(
        token_ids=np.zeros(1, dtype=np.int64),
        position_ids=np.zeros((*axes, 1), dtype=np.int64),
        segment_starts=np.array([0, 1], dtype=np.int64),
        segment_parents=np.array([-1], dtype=np.int64),
        targets=none,
        predictors=none,
        sequence_ids=none,
        columns={name: np.zeros(0, dtype=np.float32) for name in columns},
    )


def _filler(packs: Sequence[PackLike]) -> Pack:
    """An empty pack of the kind of `packs`."""
    if not packs:
        return empty_pack()
    first = packs[0].lay_out()
    return empty_pack(tuple(first.columns), first.position_ids.shape[:-1])


def _completion_segment(completion: Completion, advantage: float, sequence: int) -> Segment:
    token_ids, logprobs = completion.arrays
    return Segment(
        token_ids=token_ids,
        trained=None,
        sequence=sequence,
        columns={"advantages": advantage, "sampler_logprobs": logprobs},
    )


def _pair_tree(pair: PairRow, number: int, placeholders: frozenset[int]) -> Tree:
    responses = []
    for sequence, (ids, logp) in enumerate(zip((pair.chosen, pair.rejected), pair.reference), start=2 * number):
        ids = np.asarray(ids, dtype=np.int64)
        columns = {"reference": logp / len(ids)}
        responses.append(Segment(token_ids=ids, trained=None, sequence=sequence, columns=columns))
    return Tree(root=root_segment(pair.prompt, f"pair {number}", -1, placeholders), children=tuple(responses))


def _group_trees(group: Group, rows: Sequence[Segment], pack_tokens: int, placeholders: frozenset[int]) -> list[Tree]:
    if not group.prompt_token_ids:
        raise ValueError(f"group {group.group} has an empty prompt: nothing predicts its first tokens")
    row = TrainingRow(
        token_ids=group.prompt_token_ids,
        trained=(False,) * len(group.prompt_token_ids),
        positions=group.prompt_positions,
        pictures=group.pictures,
    )
    prompt = root_segment(row, f"group {group.group}", -1, placeholders)
    shares = first_fit_decreasing([len(row.token_ids) for row in rows], pack_tokens - len(prompt.token_ids))
    return [Tree(root=prompt, children=tuple(rows[index] for index in share)) for share in shares]
