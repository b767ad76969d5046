"""How the driver deals packs to the ranks of a model: by its FLOPs, and alike where ranks meet."""

from __future__ import annotations

from pathlib import Path

import pytest

from pangu_rl.config.sections.learner import LearnerConfig
from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.data.packs.batching import pack_counts, split_ranks
from pangu_rl.learner.spec import LearnerSpec
from pangu_rl.loops.actors.learners import dealing
from tests.unit.learner.builders import plain_pack, save_llama


def spec(path: Path, **learner: object) -> LearnerSpec:
    return LearnerSpec(
        model=ModelConfig(path=str(path)), learner=LearnerConfig(**learner), objective="sft", total_steps=1
    )


def test_one_long_sequence_is_more_work_than_many_short_ones(tmp_path: Path) -> None:
    """Each rank has one long sequence first and thirty short ones then; by tokens the packs are alike."""
    short, long = plain_pack([[3] * 10] * 30, [1] * 30), plain_pack([[3] * 300], [1])
    packs = [long, short, long, short]
    rule = dealing(spec(save_llama(tmp_path), zero_stage=2))
    assert rule.cost(long) > 1.2 * rule.cost(short)
    batches = split_ranks(packs, 2, *pack_counts(packs), rule)
    assert [[len(pack.segment_parents) for pack in batch.packs] for batch in batches] == [[1, 30], [1, 30]]


@pytest.mark.parametrize(("stage", "in_rows"), [(0, False), (1, False), (2, True), (3, True)])
def test_the_stage_says_where_ranks_meet(tmp_path: Path, stage: int, in_rows: bool) -> None:
    rule = dealing(spec(save_llama(tmp_path), zero_stage=stage, micro_batch_tokens=4096))
    assert (rule.in_rows, rule.micro_batch_tokens) == (in_rows, 4096)
