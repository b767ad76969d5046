"""A small pack of made-up tokens that holds whatever packing may get wrong: vocabulary -> **pack** -> packing check.

Its sequences are many and so short that what leaks out of one reaches most tokens of the next; among them are trees (a
prompt with several completions) and, of a multimodal model, pictures. Letters: S segments, M targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from transformers import PreTrainedModel

from pangu_rl.learner.pictures import is_multimodal
from pangu_rl.records import Pack, Picture
from pretrain.models.positions import VisionTokens, multimodal_positions

SHAPES = ((3, ()), (2, ()), (5, (3, 2, 4)), (4, ()), (2, ()), (5, ()), (4, (2, 3)), (3, ()), (5, ()))
"""(tokens, tokens of each completion behind them) of every root segment."""
SHOWN = (3, 6)
"""Roots of a multimodal model that have a picture at their end: a sequence and a prompt."""
GRID = (1, 2, 4)


def trial_pack(lm: PreTrainedModel) -> Pack:
    """The same for the same vocabulary; every token is a target but the first of a root, pictures and their marks."""
    rng = np.random.default_rng(0)
    vision = VisionTokens.from_config_dict(lm.config.to_dict()) if is_multimodal(lm) else None
    marks = [] if vision is None else [vision.image, vision.video, vision.start, vision.end]
    words = np.setdiff1d(np.arange(lm.config.get_text_config().vocab_size), marks)
    patches = rng.integers(0, 256, (int(np.prod(GRID)), 588), dtype=np.uint8)
    picture = Picture(path="made up", sha256="made up", grid=GRID, patches=patches)
    segments: list[tuple[np.ndarray, int]] = []
    for number, (tokens, completions) in enumerate(SHAPES):
        root = rng.choice(words, tokens)
        if vision is not None and number in SHOWN:
            root = np.concatenate([root, [vision.start], [vision.image] * picture.tokens, [vision.end]])
        parent = len(segments)
        segments.append((root, -1))
        segments += [(rng.choice(words, count), parent) for count in completions]
    return _assembled(segments, vision, picture)


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


def _assembled(segments: Sequence[tuple[np.ndarray, int]], vision: VisionTokens | None, picture: Picture) -> Pack:
    """Of (token ids, parent) of every segment, no deeper than two."""
    starts = np.cumsum([0, *(len(ids) for ids, _ in segments)])
    positions, targets, predictors, sequences = [], [], [], []
    for number, (ids, parent) in enumerate(segments):
        behind = segments[parent][0] if parent >= 0 else ids[:0]
        positions.append(_positions(np.concatenate([behind, ids]), vision)[..., len(behind) :])
        own = np.arange(starts[number], starts[number + 1])
        before = np.append(starts[parent + 1] - 1 if parent >= 0 else -1, own[:-1])
        trained = (before >= 0) & ~_is_mark(ids, vision)
        targets.append(own[trained])
        predictors.append(before[trained])
        sequences.append(np.full(trained.sum(), number))
    token_ids = np.concatenate([ids for ids, _ in segments])
    places = np.flatnonzero(token_ids == vision.image) if vision else np.zeros(0, dtype=np.int64)
    return Pack(
        token_ids=token_ids,
        position_ids=np.concatenate(positions, axis=-1),
        segment_starts=starts,
        segment_parents=np.array([parent for _, parent in segments]),
        targets=np.concatenate(targets),
        predictors=np.concatenate(predictors),
        sequence_ids=np.concatenate(sequences),
        pictures=(picture,) * (len(places) // picture.tokens),
        picture_tokens=places,
    )


def _positions(ids: np.ndarray, vision: VisionTokens | None) -> np.ndarray:
    if vision is None:
        return np.arange(len(ids))
    return multimodal_positions(ids, [GRID] if (ids == vision.image).any() else [], vision)


def _is_mark(ids: np.ndarray, vision: VisionTokens | None) -> np.ndarray:
    """Tokens that are shown and never said."""
    return np.isin(ids, [] if vision is None else [vision.image, vision.video, vision.start, vision.end])
