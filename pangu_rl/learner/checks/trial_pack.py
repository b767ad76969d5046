"""A small pack of made-up tokens that holds whatever packing may get wrong: vocabulary -> **pack** -> packing check.

Its sequences are many and so short that what leaks out of one reaches most tokens of the next; among them are trees (a
prompt with several completions) and, of a multimodal model, pictures. Letters: S segments, M targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from transformers import PreTrainedModel

from pangu_rl.learner.pictures import family_of_model
from pangu_rl.records import Pack
from pretrain.families.family import Family

SHAPES = ((3, ()), (2, ()), (5, (3, 2, 4)), (4, ()), (2, ()), (5, ()), (4, (2, 3)), (3, ()), (5, ()))
"""(tokens, tokens of each completion behind them) of every root segment."""
SHOWN = (3, 6)
"""Roots of a multimodal model that have a picture at their end: a sequence and a prompt."""


def trial_pack(lm: PreTrainedModel) -> Pack:
    """The same for the same vocabulary; every token is a target but the first of a root, pictures and their marks."""
    rng, family = np.random.default_rng(0), family_of_model(lm)
    words = np.setdiff1d(np.arange(lm.config.get_text_config().vocab_size), _marks(family))
    segments: list[tuple[np.ndarray, int]] = []
    for number, (tokens, completions) in enumerate(SHAPES):
        root = rng.choice(words, tokens)
        if family is not None and number in SHOWN:
            root = np.concatenate([root, *map(partial(_expanded, family), family.written)])
        parent = len(segments)
        segments.append((root, -1))
        segments += [(rng.choice(words, count), parent) for count in completions]
    return _assembled(segments, family, rng)


def reordered(pack: Pack) -> Pack:
    """`pack` with its trees, and the children of every segment, in reverse; the targets keep their order."""
    return _arranged(pack, {parent: own[::-1] for parent, own in _children(pack).items()})


def turned(pack: Pack) -> Pack:
    """`pack` with its first tree behind the others, which keep their neighbours; the targets keep their order."""
    children = _children(pack)
    return _arranged(pack, children | {-1: children[-1][1:] + children[-1][:1]})


def _children(pack: Pack) -> dict[int, list[int]]:
    """Segments by their parent, the roots under -1."""
    children: dict[int, list[int]] = {}
    for segment, parent in enumerate(pack.segment_parents.tolist()):
        children.setdefault(parent, []).append(segment)
    return children


def _arranged(pack: Pack, children: dict[int, list[int]]) -> Pack:
    """Every segment of `pack`, followed by its children in the order that is given."""
    order, waiting = [], children[-1][::-1]
    while waiting:
        order.append(waiting.pop())
        waiting += children.get(order[-1], [])[::-1]
    bounds = pack.segment_starts
    spans = [np.arange(bounds[segment], bounds[segment + 1]) for segment in order]
    tokens, rank = np.concatenate(spans), np.append(np.argsort(order), -1)
    place = np.argsort(tokens)
    first = np.cumsum([0, *(picture.tokens for picture in pack.pictures)])[:-1]
    return replace(
        pack,
        token_ids=pack.token_ids[tokens],
        position_ids=pack.position_ids[..., tokens],
        segment_starts=np.cumsum([0, *map(len, spans)]),
        segment_parents=rank[pack.segment_parents[order]],
        targets=place[pack.targets],
        predictors=place[pack.predictors],
        pictures=tuple(pack.pictures[number] for number in np.argsort(place[pack.picture_tokens[first]])),
        picture_tokens=np.sort(place[pack.picture_tokens]),
    )


def _assembled(segments: Sequence[tuple[np.ndarray, int]], family: Family | None, rng: np.random.Generator) -> Pack:
    """Of (token ids, parent) of every segment, no deeper than two; all show one picture of random pixels."""
    starts = np.cumsum([0, *(len(ids) for ids, _ in segments)])
    positions, targets, predictors, sequences = [], [], [], []
    for number, (ids, parent) in enumerate(segments):
        behind = segments[parent][0] if parent >= 0 else ids[:0]
        positions.append(_positions(np.concatenate([behind, ids]), family)[..., len(behind) :])
        own = np.arange(starts[number], starts[number + 1])
        before = np.append(starts[parent + 1] - 1 if parent >= 0 else -1, own[:-1])
        trained = (before >= 0) & ~np.isin(ids, _marks(family))
        targets.append(own[trained])
        predictors.append(before[trained])
        sequences.append(np.full(trained.sum(), number))
    token_ids = np.concatenate([ids for ids, _ in segments])
    pictures = ()
    if family is not None:
        patches = rng.integers(0, 256, (int(np.prod(family.smallest)), family.columns), dtype=np.uint8)
        pictures = (family.picture(patches, family.smallest, "made up", "made up"),) * len(SHOWN)
    return Pack(
        token_ids=token_ids,
        position_ids=np.concatenate(positions, axis=-1),
        segment_starts=starts,
        segment_parents=np.array([parent for _, parent in segments]),
        targets=np.concatenate(targets),
        predictors=np.concatenate(predictors),
        sequence_ids=np.concatenate(sequences),
        pictures=pictures,
        picture_tokens=np.flatnonzero(np.isin(token_ids, list(family.placeholders) if family else [])),
    )


def _positions(ids: np.ndarray, family: Family | None) -> np.ndarray:
    grids = [] if family is None or not np.isin(ids, list(family.placeholders)).any() else [family.smallest]
    positions = None if family is None else family.positions(ids, grids)
    return np.arange(len(ids)) if positions is None else positions


def _expanded(family: Family, token: int) -> list[int]:
    return family.run(token, family.smallest) if token in family.placeholders else [token]


def _marks(family: Family | None) -> list[int]:
    """Tokens that are shown and never said."""
    return [] if family is None else sorted({*family.written, *family.placeholders})
