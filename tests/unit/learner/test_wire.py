"""What ranks receive is what was packed, to the bit, in a fraction of the bytes."""

from __future__ import annotations

import pickle
from dataclasses import fields

import numpy as np
import pytest

from pangu_rl.data.batching import empty_pack, pack_groups
from pangu_rl.learner.wire import Narrow, Runs, compact, decode, encode, expand
from pangu_rl.records import Completion, FinishReason, Group, MiniBatch, Pack, Prompt


def group(uid: str, tokens: int, axes: bool) -> Group:
    rng = np.random.default_rng(tokens)
    completions = [
        Completion(
            uid=f"{uid}/{index}",
            group=uid,
            prompt_uid=uid,
            token_ids=tuple(rng.integers(0, 150_000, tokens).tolist()),
            logprobs=tuple(rng.normal(-1, 1, tokens).tolist()),
            text="",
            finish_reason=FinishReason.STOP,
            weight_versions=(1,) * tokens,
        )
        for index in range(2)
    ]
    return Group(
        prompt=Prompt(uid=uid, messages=(), answer=""),
        group=uid,
        prompt_token_ids=(1, 5, 9),
        completions=completions,
        scores=[],
        advantages=[1.5, -0.25],
        prompt_positions=np.array([[0, 1, 1], [0, 1, 2], [0, 4, 1]]) if axes else None,
    )


def assert_same(left: Pack, right: Pack) -> None:
    for field in fields(Pack):
        ours, theirs = getattr(left, field.name), getattr(right, field.name)
        pairs = [(ours, theirs)] if isinstance(ours, np.ndarray) else []
        if field.name == "columns":
            assert ours.keys() == theirs.keys()
            pairs = [(ours[name], theirs[name]) for name in ours]
        for mine, other in pairs:
            assert (mine.dtype, mine.shape, mine.tobytes()) == (other.dtype, other.shape, other.tobytes())
        if not pairs:
            assert ours == theirs


@pytest.mark.parametrize("axes", [False, True])
def test_packs_arrive_as_they_left(axes: bool) -> None:
    packs = pack_groups([group("a", 2000, axes), group("b", 700, axes), group("c", 3, axes)], 3000)
    batch = MiniBatch(packs=(*packs, empty_pack(tuple(packs[0].columns))), loss_tokens=9, loss_sequences=4)
    [arrived] = expand(pickle.loads(pickle.dumps(compact([batch]))))
    assert (arrived.loss_tokens, arrived.loss_sequences, len(arrived.packs)) == (9, 4, len(batch.packs))
    for ours, theirs in zip(batch.packs, arrived.packs, strict=True):
        assert_same(ours, theirs)
    assert len(pickle.dumps(compact([batch]))) < len(pickle.dumps([batch])) / 4


def test_packs_that_never_were_compact_stay() -> None:
    batch = MiniBatch(packs=(empty_pack(),), loss_tokens=0, loss_sequences=0)
    assert expand([batch])[0].packs[0] is batch.packs[0]


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (np.repeat(np.array([3, 7, 7, -1]), 20), Runs),
        (np.concatenate([np.arange(5, 40), np.arange(2**40, 2**40 + 30)]), Runs),
        (np.repeat(np.array([0.5, -0.0, 0.0, np.inf], dtype=np.float32), 20), Runs),
        (np.array([1, 5, 2, 9] * 9), Narrow),
        (np.array([1, 2**31, 2, 9] * 9), np.ndarray),
        (np.array([1, -(2**31) - 1, 2, 9] * 9), np.ndarray),
        (np.array([0.5, 0.25] * 9, dtype=np.float32), np.ndarray),
        (np.zeros(0, dtype=np.int64), Narrow),
        (np.concatenate([np.arange(3000) * 7 % 13, np.arange(9000)]), Narrow),
        (np.concatenate([np.arange(9000), np.arange(3000) * 7 % 13]), Narrow),
        (np.full(30, np.nan, dtype=np.float32), Runs),
        (np.arange(60).reshape(3, 20), Runs),
    ],
)
def test_every_array_comes_back(array: np.ndarray, kind: type) -> None:
    encoded = encode(array)
    found = decode(encoded)
    assert isinstance(encoded, kind)
    assert (found.dtype, found.shape, found.tobytes()) == (array.dtype, array.shape, array.tobytes())
