"""Scored groups or conversations -> **packs, and their split over ranks** -> learner.

Sequences are laid end to end until a pack is full; none is ever cut. A group's prompt stands once in a pack and its
completions hang on it (see `records.Pack`). Everything here is a deterministic function of its input.

A multimodal model is packed by the same calls: a `Group` or `TrainingRow` brings its pictures and their positions, and
`placeholders`, the ids of the model's picture tokens, tells where the pictures' features go. Only prompts and rows are
searched for them: a completion that samples such an id has drawn a plain token. If any row of a call has positions of
its own, all packs of the call have three rows of positions.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from pangu_rl.data.bins import first_fit_decreasing
from pangu_rl.errors import DataError
from pangu_rl.records import Completion, FinishReason, Group, MiniBatch, Pack, Picture


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRow:
    """One conversation, ready to be packed."""

    token_ids: Sequence[int]
    """[T], every picture's placeholder repeated once per token of it."""
    trained: Sequence[bool]
    """[T], which tokens are in the loss: those that the assistant writes."""
    positions: np.ndarray | None = None
    """int64 [3, T] of a multimodal model (time, height, width); None counts 0, 1, 2, ..."""
    pictures: tuple[Picture, ...] = ()
    """In the order of their placeholders."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Segment:
    token_ids: np.ndarray
    """int64 [T]"""
    trained: np.ndarray
    """int64 [M], indices into `token_ids` of the tokens in the loss."""
    sequence: int
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    """float32 [M] each."""
    positions: np.ndarray | None = None
    """int64 [3, T], of a root alone."""
    pictures: tuple[Picture, ...] = ()
    picture_tokens: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """int64 [K], indices into `token_ids`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tree:
    """A root and the segments that hang on it: what a pack holds whole."""

    root: _Segment
    children: tuple[_Segment, ...] = ()

    @property
    def num_tokens(self) -> int:
        return sum(len(segment.token_ids) for segment in (self.root, *self.children))


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


def pack_counts(packs: Sequence[Pack]) -> tuple[int, int]:
    """(loss tokens, loss sequences) of packs that hold every sequence of the batch, as conversations do."""
    sequences = {int(sequence) for pack in packs for sequence in np.unique(pack.sequence_ids)}
    return sum(len(pack.targets) for pack in packs), len(sequences)


def split_groups(groups: Sequence[Group], parts: int) -> list[list[Group]]:
    """The trained groups in order, in at most `parts` mini-batches whose numbers of groups differ by one at most."""
    trained = [group for group in groups if group.trained]
    bounds = [len(trained) * part // parts for part in range(parts + 1)]
    return [trained[start:end] for start, end in itertools.pairwise(bounds) if end > start]


def pack_groups(groups: Sequence[Group], pack_tokens: int, placeholders: frozenset[int] = frozenset()) -> list[Pack]:
    """Groups with advantages -> packs of at most `pack_tokens`, with columns `advantages` and `sampler_logprobs`.

    Rows with an advantage of exactly 0 and groups set aside add nothing to the loss and are left out; `loss_counts`
    still counts what the recipe counts. A group that does not fit is spread over several packs, each with its prompt;
    a completion that does not fit with its prompt gets a longer pack of its own. `sequence_ids` number the completions
    of `groups` in order, those left out included.

    Raises:
        DataError: a prompt's placeholder tokens are not as many as its pictures fill.
    """
    trees: list[_Tree] = []
    sequence = 0
    for group in groups:
        rows = []
        for completion, advantage in zip(group.completions, group.advantages, strict=True):
            if group.trained and advantage != 0 and completion.token_ids:
                rows.append(_completion_segment(completion, advantage, sequence))
            sequence += 1
        trees += _group_trees(group, rows, pack_tokens, placeholders)
    return _pack_trees(trees, pack_tokens)


def pack_conversations(
    rows: Sequence[TrainingRow], pack_tokens: int, placeholders: frozenset[int] = frozenset()
) -> list[Pack]:
    """Rows -> packs of at most `pack_tokens`; `sequence_ids` are row numbers.

    A row's first token has nothing that predicts it and is never a target; a row without targets is left out; a row
    longer than `pack_tokens` gets a pack of its own.

    Raises:
        DataError: a row's placeholder tokens are not as many as its pictures fill.
    """
    roots = [_root(row, f"row {number}", number, placeholders) for number, row in enumerate(rows)]
    return _pack_trees([_Tree(root=root) for root in roots if len(root.trained)], pack_tokens)


def split_ranks(packs: Sequence[Pack], ranks: int, loss_tokens: int, loss_sequences: int) -> list[MiniBatch]:
    """One mini-batch per rank: equal numbers of packs, tokens balanced, short ranks filled up with empty packs.

    The largest pack goes to the rank with the fewest tokens that has room (longest processing time first), so that
    every rank's packs also come in falling size: where ZeRO 2 and 3 meet at each micro-batch, they meet at like ones.
    """
    per_rank = max(1, -(-len(packs) // ranks))
    assigned: list[list[Pack]] = [[] for _ in range(ranks)]
    loads = [(0, rank) for rank in range(ranks)]
    for pack in sorted(packs, key=lambda pack: -pack.num_tokens):
        load, rank = heapq.heappop(loads)
        assigned[rank].append(pack)
        if len(assigned[rank]) < per_rank:
            heapq.heappush(loads, (load + pack.num_tokens, rank))
    filler = empty_pack(tuple(packs[0].columns), packs[0].position_ids.shape[:-1]) if packs else empty_pack()
    return [
        MiniBatch(
            packs=(*own, *[filler] * (per_rank - len(own))), loss_tokens=loss_tokens, loss_sequences=loss_sequences
        )
        for own in assigned
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


def _completion_segment(completion: Completion, advantage: float, sequence: int) -> _Segment:
    length = len(completion.token_ids)
    if len(completion.logprobs) != length:
        raise ValueError(f"completion {completion.uid} has {length} tokens and {len(completion.logprobs)} log-probs")
    return _Segment(
        token_ids=np.asarray(completion.token_ids, dtype=np.int64),
        trained=np.arange(length),
        sequence=sequence,
        columns={
            "advantages": np.full(length, advantage, dtype=np.float32),
            "sampler_logprobs": np.asarray(completion.logprobs, dtype=np.float32),
        },
    )


def _root(row: TrainingRow, name: str, sequence: int, placeholders: frozenset[int]) -> _Segment:
    length = len(row.token_ids)
    if len(row.trained) != length:
        raise ValueError(f"{name} has {length} token ids and a mask of {len(row.trained)}")
    if row.positions is not None and row.positions.shape != (3, length):
        raise ValueError(f"{name} has {length} token ids and positions of shape {row.positions.shape}")
    token_ids = np.asarray(row.token_ids, dtype=np.int64)
    picture_tokens = np.flatnonzero(np.isin(token_ids, tuple(placeholders)))
    expected = sum(picture.tokens for picture in row.pictures)
    if len(picture_tokens) != expected:
        raise DataError(
            f"{name} has {len(picture_tokens)} picture placeholder tokens, and its {len(row.pictures)} pictures fill "
            f"{expected}"
        )
    trained = np.flatnonzero(np.asarray(row.trained, dtype=bool))
    return _Segment(
        token_ids=token_ids,
        trained=trained[trained > 0],
        sequence=sequence,
        positions=row.positions,
        pictures=row.pictures,
        picture_tokens=picture_tokens,
    )


def _group_trees(group: Group, rows: Sequence[_Segment], pack_tokens: int, placeholders: frozenset[int]) -> list[_Tree]:
    if not group.prompt_token_ids:
        raise ValueError(f"group {group.group} has an empty prompt: nothing predicts its first tokens")
    row = TrainingRow(
        token_ids=group.prompt_token_ids,
        trained=(False,) * len(group.prompt_token_ids),
        positions=group.prompt_positions,
        pictures=group.pictures,
    )
    prompt = _root(row, f"group {group.group}", -1, placeholders)
    shares = first_fit_decreasing([len(row.token_ids) for row in rows], pack_tokens - len(prompt.token_ids))
    return [_Tree(root=prompt, children=tuple(rows[index] for index in share)) for share in shares]


def _pack_trees(trees: Sequence[_Tree], pack_tokens: int) -> list[Pack]:
    bins = first_fit_decreasing([tree.num_tokens for tree in trees], pack_tokens)
    axes = (3,) if any(tree.root.positions is not None for tree in trees) else ()
    return [_lay_out([trees[index] for index in items], axes) for items in bins]


def _lay_out(trees: Sequence[_Tree], axes: tuple[int, ...]) -> Pack:
    segments: list[_Segment] = []
    parents: list[int] = []
    targets: list[np.ndarray] = []
    predictors: list[np.ndarray] = []
    picture_tokens: list[np.ndarray] = []
    start = 0
    for tree in trees:
        root, root_start, root_length = len(segments), start, len(tree.root.token_ids)
        picture_tokens.append(start + tree.root.picture_tokens)
        for segment in (tree.root, *tree.children):
            indices = start + segment.trained
            segments.append(segment)
            parents.append(-1 if segment is tree.root else root)
            targets.append(indices)
            # A child's first token is predicted from the root's last state, every other from the token before it.
            predictors.append(np.where(segment.trained > 0, indices - 1, root_start + root_length - 1))
            start += len(segment.token_ids)
    lengths = [len(segment.token_ids) for segment in segments]
    trained = [segment for segment in segments if len(segment.trained)]
    return Pack(
        token_ids=np.concatenate([segment.token_ids for segment in segments]),
        position_ids=np.concatenate([part for tree in trees for part in _positions(tree, axes)], axis=-1),
        segment_starts=np.cumsum([0, *lengths], dtype=np.int64),
        segment_parents=np.asarray(parents, dtype=np.int64),
        targets=np.concatenate(targets).astype(np.int64),
        predictors=np.concatenate(predictors).astype(np.int64),
        sequence_ids=np.concatenate(
            [np.full(len(segment.trained), segment.sequence, dtype=np.int64) for segment in trained]
        ),
        columns={name: np.concatenate([segment.columns[name] for segment in trained]) for name in trained[0].columns},
        pictures=tuple(picture for tree in trees for picture in tree.root.pictures),
        picture_tokens=np.concatenate(picture_tokens),
    )


def _positions(tree: _Tree, axes: tuple[int, ...]) -> Iterator[np.ndarray]:
    """int64 [*axes, T] of the root, then of every child, which goes on after the root's largest position."""

    def count(segment: _Segment, first: int) -> np.ndarray:
        row = np.arange(first, first + len(segment.token_ids), dtype=np.int64)
        return np.broadcast_to(row, (*axes, len(row)))

    root = count(tree.root, 0) if tree.root.positions is None else tree.root.positions
    yield root
    for child in tree.children:
        yield count(child, int(root.max()) + 1)
