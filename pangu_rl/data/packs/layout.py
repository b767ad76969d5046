"""Trees of segments -> **outlines of packs**, and packs, laid out token by token -> batching.

An outline says which trees a pack holds and refers to their tokens; it is laid out where the pack is used, by a rank.
Letters: N packs, S segments, T tokens, M targets, K placeholder tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np

from pangu_rl.data.packs.bins import first_fit_decreasing
from pangu_rl.errors import DataError
from pangu_rl.records import Pack, Picture


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
class Segment:
    """A run of tokens that attends to itself causally, and to its parent."""

    token_ids: np.ndarray
    """int32 or int64 [T]"""
    trained: np.ndarray | None
    """int32 [M], indices into `token_ids` of the tokens in the loss; None when it is all of them."""
    sequence: int
    columns: dict[str, np.ndarray | float] = field(default_factory=dict)
    """float32 [M] each, or what stands M times."""
    positions: np.ndarray | None = None
    """int64 [3, T], of a root alone."""
    pictures: tuple[Picture, ...] = ()
    picture_tokens: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """int64 [K], indices into `token_ids`."""

    @property
    def num_targets(self) -> int:
        return len(self.token_ids if self.trained is None else self.trained)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A root and the segments that hang on it: what a pack holds whole."""

    root: Segment
    children: tuple[Segment, ...] = ()

    @property
    def segments(self) -> tuple[Segment, ...]:
        return (self.root, *self.children)

    @property
    def num_tokens(self) -> int:
        return sum(len(segment.token_ids) for segment in self.segments)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """Packs that share a micro-batch, before they are laid out: a `records.PackLike`."""

    packs: tuple[tuple[Tree, ...], ...]
    """The trees of each pack."""
    axes: tuple[int, ...] = ()
    """(3,) for packs of three rows of positions."""
    pictures: tuple[Picture, ...] = ()
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    """float32 [M] each, beside those of the segments."""

    @property
    def num_tokens(self) -> int:
        return sum(tree.num_tokens for tree in chain(*self.packs))

    @property
    def num_targets(self) -> int:
        return sum(segment.num_targets for segment in self._segments())

    @property
    def segment_starts(self) -> np.ndarray:
        """int64 [S + 1]"""
        return np.cumsum([0, *(len(segment.token_ids) for segment in self._segments())], dtype=np.int64)

    @property
    def segment_parents(self) -> np.ndarray:
        """int64 [S]"""
        parents: list[int] = []
        for tree in chain(*self.packs):
            parents += [-1] + [len(parents)] * len(tree.children)
        return np.asarray(parents, dtype=np.int64)

    @property
    def sequence_ids(self) -> np.ndarray:
        """int64 [M]"""
        return _sequence_ids(self._segments())

    def lay_out(self) -> Pack:
        """As `merge_packs` of the packs laid out one by one."""
        whole = _lay_out(list(chain(*self.packs)), self.axes)
        columns = whole.columns
        if len(self.packs) > 1:
            targets = [sum(segment.num_targets for tree in trees for segment in tree.segments) for trees in self.packs]
            columns = columns | {"pack_ids": np.repeat(np.arange(len(self.packs), dtype=np.float32), targets)}
        return replace(whole, pictures=self.pictures, columns=columns | self.columns)

    def _segments(self) -> Iterator[Segment]:
        return (segment for tree in chain(*self.packs) for segment in tree.segments)


def root_segment(row: TrainingRow, name: str, sequence: int, placeholders: frozenset[int]) -> Segment:
    """`row` as a root; its first token has nothing that predicts it and is never a target.

    Raises:
        DataError: its placeholder tokens are not as many as its pictures fill; `name` says whose.
    """
    length = len(row.token_ids)
    if len(row.trained) != length:
        raise ValueError(f"{name} has {length} token ids and a mask of {len(row.trained)}")
    if row.positions is not None and row.positions.shape != (3, length):
        raise ValueError(f"{name} has {length} token ids and positions of shape {row.positions.shape}")
    token_ids = np.asarray(row.token_ids, dtype=np.int32)
    picture_tokens = np.flatnonzero(np.isin(token_ids, tuple(placeholders)))
    expected = sum(picture.tokens for picture in row.pictures)
    if len(picture_tokens) != expected:
        raise DataError(
            f"{name} has {len(picture_tokens)} picture placeholder tokens, and its {len(row.pictures)} pictures fill "
            f"{expected}"
        )
    trained = np.flatnonzero(np.asarray(row.trained, dtype=bool)).astype(np.int32)
    return Segment(
        token_ids=token_ids,
        trained=trained[trained > 0],
        sequence=sequence,
        positions=row.positions,
        pictures=row.pictures,
        picture_tokens=picture_tokens,
    )


def outline_trees(trees: Sequence[Tree], pack_tokens: int) -> list[Outline]:
    """Whole trees in packs of at most `pack_tokens`; a larger tree gets a pack of its own."""
    bins = first_fit_decreasing([tree.num_tokens for tree in trees], pack_tokens)
    axes = (3,) if any(tree.root.positions is not None for tree in trees) else ()
    return [_outline(tuple(trees[index] for index in items), axes) for items in bins]


def _outline(trees: tuple[Tree, ...], axes: tuple[int, ...]) -> Outline:
    return Outline(packs=(trees,), axes=axes, pictures=tuple(chain(*(tree.root.pictures for tree in trees))))


def _lay_out(trees: Sequence[Tree], axes: tuple[int, ...]) -> Pack:
    """Without pictures, which an outline has."""
    segments: list[Segment] = []
    parents: list[int] = []
    targets: list[np.ndarray] = []
    predictors: list[np.ndarray] = []
    picture_tokens: list[np.ndarray] = []
    start = 0
    for tree in trees:
        root, root_start, root_length = len(segments), start, len(tree.root.token_ids)
        picture_tokens.append(start + tree.root.picture_tokens)
        for segment in tree.segments:
            length = len(segment.token_ids)
            trained = np.arange(length) if segment.trained is None else segment.trained
            segments.append(segment)
            parents.append(-1 if segment is tree.root else root)
            targets.append(start + trained)
            # A child's first token is predicted from the root's last state, every other from the token before it.
            predictors.append(np.where(trained > 0, start + trained - 1, root_start + root_length - 1))
            start += length
    trained = [segment for segment in segments if segment.num_targets]
    return Pack(
        token_ids=np.concatenate([segment.token_ids for segment in segments], dtype=np.int64),
        position_ids=np.concatenate([part for tree in trees for part in _positions(tree, axes)], axis=-1),
        segment_starts=np.cumsum([0, *(len(segment.token_ids) for segment in segments)], dtype=np.int64),
        segment_parents=np.asarray(parents, dtype=np.int64),
        targets=np.concatenate(targets).astype(np.int64, copy=False),
        predictors=np.concatenate(predictors).astype(np.int64, copy=False),
        sequence_ids=_sequence_ids(trained),
        columns={name: np.concatenate([_column(segment, name) for segment in trained]) for name in trained[0].columns},
        picture_tokens=np.concatenate(picture_tokens),
    )


def _sequence_ids(segments: Iterable[Segment]) -> np.ndarray:
    numbers = np.array([(segment.sequence, segment.num_targets) for segment in segments], dtype=np.int64)
    return np.repeat(*numbers.T)


def _column(segment: Segment, name: str) -> np.ndarray:
    """float32 [M]"""
    column = segment.columns[name]
    return column if isinstance(column, np.ndarray) else np.full(segment.num_targets, column, dtype=np.float32)


def _positions(tree: Tree, axes: tuple[int, ...]) -> Iterator[np.ndarray]:
    """int64 [*axes, T] of the root, then of every child, which goes on after the root's largest position."""

    def count(segment: Segment, first: int) -> np.ndarray:
        row = np.arange(first, first + len(segment.token_ids), dtype=np.int64)
        return np.broadcast_to(row, (*axes, len(row)))

    root = count(tree.root, 0) if tree.root.positions is None else tree.root.positions
    yield root
    for child in tree.children:
        yield count(child, int(root.max()) + 1)
