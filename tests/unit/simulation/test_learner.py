"""Packs in seconds: against the FLOPs that the learner itself counts, and dealing by hand."""

from __future__ import annotations

import numpy as np
import pytest

from pangu_rl.learner.measure.flops import ModelFlops
from pangu_rl.records import Pack
from pangu_rl.simulation.learner import LearnerCost
from pangu_rl.simulation.lengths import DrawnGroup

TOKENS_ALONE = ModelFlops(per_token=1.0, per_pair=0.0, per_target=0.0)


def cost(**changes: object) -> LearnerCost:
    return LearnerCost(**{"flops": TOKENS_ALONE, "group_flops": 3.0, "groups": 1, "pack_tokens": 10} | changes)


def test_a_pack_costs_what_the_learner_counts():
    flops = ModelFlops(per_token=7.0, per_pair=0.5, per_target=11.0)
    # A prompt of 4 and answers of 3 and 2; an answer's tokens are its targets.
    pack = Pack(
        token_ids=np.zeros(9, dtype=np.int64),
        position_ids=np.zeros(9, dtype=np.int64),
        segment_starts=np.array([0, 4, 7, 9]),
        segment_parents=np.array([-1, 0, 0]),
        targets=np.arange(4, 9),
        predictors=np.arange(3, 8),
        sequence_ids=np.array([0, 0, 0, 1, 1]),
        columns={},
    )
    tokens, work = cost(flops=flops).packs([DrawnGroup(4, (3, 2))])
    assert tokens == [9] and work == [pytest.approx(flops.of_training(pack, ("language",)))]


def test_ranks_wait_for_the_fullest():
    """Packs of 10, 10 and 8 tokens, three operations each at 3 a second: 10, 10 and 8 s. Two ranks: 18 and 10."""
    drawn = [DrawnGroup(2, (8,)), DrawnGroup(2, (8,)), DrawnGroup(2, (6,))]
    training = cost(groups=2).training(drawn)
    assert training.packs == 3
    assert training.seconds == pytest.approx(18.0) and training.computing == pytest.approx(14.0)


def test_zero_2_waits_at_every_micro_batch():
    """Rows of (10, 10) and (8, 0), 1 s of communication after each: 10 + 1 + 8 + 1; beside the arithmetic: 10 + 8."""
    drawn = [DrawnGroup(2, (8,)), DrawnGroup(2, (8,)), DrawnGroup(2, (6,))]
    rows = cost(groups=2, in_rows=True, micro_batch_s=1.0)
    assert rows.training(drawn).seconds == pytest.approx(20.0)
    beside = cost(groups=2, in_rows=True, micro_batch_s=1.0, overlapped=True)
    assert beside.training(drawn).seconds == pytest.approx(18.0)


def test_mini_batches_take_a_forward_pass_more_and_checkpointing_another():
    """Two groups of 10 tokens: 20 s at once; as two updates 4/3 of that and twice the 0.5 s of an update."""
    drawn = [DrawnGroup(2, (8,))] * 2
    assert cost(update_s=0.5).training(drawn).seconds == pytest.approx(20.5)
    assert cost(update_s=0.5, mini_batches=2).training(drawn).seconds == pytest.approx(20 * 4 / 3 + 1.0)
    assert cost(recomputed=True).training(drawn).seconds == pytest.approx(20 * 4 / 3)


def test_nothing_to_train_takes_no_time():
    assert cost(update_s=5.0).training([]).seconds == 0.0
