"""An outline is what its packs hold, at the size of their tokens; packs themselves are tested in `test_batching`."""

from __future__ import annotations

import pickle
from dataclasses import fields, replace

import numpy as np
import pytest

from pangu_rl.data.packs.batching import outline_groups
from pangu_rl.data.packs.layout import Outline
from pangu_rl.data.packs.micro_batches import merge_packs
from pangu_rl.records import Group, MiniBatch, Pack, Picture
from tests.unit.data.groups import make_group

PICTURE = Picture(path="a.png", sha256="a", grid=(1, 2, 2), patches=np.zeros((4, 588), np.uint8))
PLACEHOLDER = 2


def outlines(*, pictures: bool = False) -> list[Outline]:
    """Packs of a whole group, of one that is spread over two of them, and of one with a row that is left out."""
    groups = [
        make_group("a", 3, [200, 80], [1.0, -1.0]),
        make_group("b", 4, [300, 250], [0.5, -0.25]),
        make_group("c", 3, [7, 5, 3], [1.5, 0.0, -0.75]),
    ]
    for group in groups if pictures else []:
        show(group)
    return outline_groups(groups, 400, frozenset({PLACEHOLDER}) if pictures else frozenset())


def show(group: Group) -> None:
    length = len(group.prompt_token_ids)
    group.pictures, group.prompt_positions = (PICTURE,), np.arange(3 * length).reshape(3, length)


def assert_same(found: Pack, expected: Pack) -> None:
    for field in fields(Pack):
        ours, theirs = getattr(found, field.name), getattr(expected, field.name)
        arrays = {"": (ours, theirs)} if isinstance(theirs, np.ndarray) else {}
        if field.name == "columns":
            assert ours.keys() == theirs.keys()
            arrays = {name: (ours[name], theirs[name]) for name in theirs}
        for name, (mine, other) in arrays.items():
            assert (mine.dtype, mine.shape) == (other.dtype, other.shape), f"{field.name} {name}"
            assert mine.tobytes() == other.tobytes(), f"{field.name} {name}"
    assert [picture.sha256 for picture in found.pictures] == [picture.sha256 for picture in expected.pictures]


@pytest.mark.parametrize("pictures", [False, True])
def test_packs_are_laid_out_behind_the_way_as_before_it(pictures: bool) -> None:
    whole = outlines(pictures=pictures)
    batch = MiniBatch(packs=tuple(whole), loss_tokens=9, loss_sequences=4)
    arrived = pickle.loads(pickle.dumps(batch))
    assert (arrived.loss_tokens, arrived.loss_sequences, len(arrived.packs)) == (9, 4, len(whole))
    for found, expected in zip(arrived.packs, whole, strict=True):
        assert_same(found.lay_out(), expected.lay_out())


def test_a_column_of_its_own_stands_beside_those_of_the_tokens() -> None:
    """As a learner adds the log-probs before the first update."""
    for outline in (*(whole := outlines()), merge_packs(whole)):
        old = np.arange(outline.num_targets, dtype=np.float32)
        expected = replace(pack := outline.lay_out(), columns=pack.columns | {"old_logprobs": old})
        assert_same(replace(outline, columns=outline.columns | {"old_logprobs": old}).lay_out(), expected)


@pytest.mark.parametrize("pictures", [False, True])
def test_merged_outlines_are_merged_packs(pictures: bool) -> None:
    """Also of outlines that were merged before: a pack is a unit of the loss however often it changed hands."""
    whole = outlines(pictures=pictures)
    assert len(whole) > 2
    expected = merge_packs([outline.lay_out() for outline in whole])
    assert_same(merge_packs(whole).lay_out(), expected)
    assert_same(merge_packs([merge_packs(whole[:2]), *whole[2:]]).lay_out(), expected)
    assert merge_packs(whole[:1]) is whole[0]


@pytest.mark.parametrize("pictures", [False, True])
def test_an_outline_knows_what_its_pack_holds(pictures: bool) -> None:
    for outline in (*(whole := outlines(pictures=pictures)), merge_packs(whole)):
        pack = outline.lay_out()
        assert (outline.num_tokens, outline.num_targets) == (pack.num_tokens, pack.num_targets)
        assert outline.segment_starts.tolist() == pack.segment_starts.tolist()
        assert outline.segment_parents.tolist() == pack.segment_parents.tolist()
        assert outline.sequence_ids.tolist() == pack.sequence_ids.tolist()
        assert outline.pictures == pack.pictures


def test_a_token_travels_as_its_id_and_its_log_prob() -> None:
    """8 bytes; a kilobyte a pack is for the rest."""
    [outline] = outline_groups([make_group("g", 3, [5000, 5000], [1.0, -1.0])], 20_000)
    assert len(pickle.dumps(outline)) < 8 * 10_003 + 1024


def test_a_pack_is_its_own_layout() -> None:
    pack = outlines()[0].lay_out()
    assert pack.lay_out() is pack
