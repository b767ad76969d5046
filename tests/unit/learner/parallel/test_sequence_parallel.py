"""How a pack is cut for the ranks that share it, by hand, and degrees that cannot be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pangu_rl.config.load import checked
from pangu_rl.config.sections.learner import LearnerConfig
from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.errors import ConfigError
from pangu_rl.learner.parallel.sequence_parallel import SequenceGroup, check_heads, padded, share_targets
from tests.unit.learner.builders import plain_pack, save_llama, tree_pack
from tests.unit.learner.vl_builders import group, packed, save_pangu_vl


def test_a_pack_is_padded_by_a_segment_of_its_own() -> None:
    pack = plain_pack([[5, 6, 7], [8, 9]], [1, 1])
    longer = padded(pack, 4)
    assert longer.token_ids.tolist() == [5, 6, 7, 8, 9, 0, 0, 0]
    assert longer.position_ids.tolist() == [0, 1, 2, 0, 1, 0, 1, 2]
    assert longer.segment_starts.tolist() == [0, 3, 5, 8]
    assert longer.segment_parents.tolist() == [-1, -1, -1]
    assert longer.targets is pack.targets
    assert padded(longer, 4) is longer
    [shown] = packed([group("text", [], [4, 4])])
    assert padded(shown, 16).position_ids[:, -1].tolist() == [0, 0, 0]


def test_a_target_belongs_to_the_slice_that_predicts_it() -> None:
    """A prompt of 3 tokens with completions of 3 and 2, so 8 tokens: tokens 2, 3, 4 predict 3, 4, 5, then the prompt's
    last predicts 6, and 6 predicts 7. The slice of tokens 0 to 3 predicts the 1st, 2nd and 4th target, token 4 too,
    which stands in the other slice."""
    pack = tree_pack([(3, [3, 2])])
    assert pack.predictors.tolist() == [2, 3, 4, 2, 6]
    cuts = [
        share_targets(pack, SequenceGroup(group=None, size=2, rank=rank), "cpu")  # type: ignore[arg-type]
        for rank in (0, 1)
    ]
    assert [own.tolist() for own, _ in cuts] == [[0, 1, 3], [2, 4]]
    for _, shares in cuts:
        assert shares.counts == (3, 2)
        gathered = np.array([0, 1, 3, 2, 4])
        assert gathered[shares.places].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("save", "degree", "message"),
    [
        (save_llama, 3, r"sequence_parallel 3 does not divide the 4 attention heads of .*: choose one of 1, 2, 4"),
        (save_pangu_vl, 4, r"sequence_parallel 4 does not divide the 2 attention heads of .*: choose one of 1, 2"),
    ],
)
def test_heads_that_cannot_be_dealt_are_refused(tmp_path: Path, save, degree: int, message: str) -> None:
    folder = ModelConfig(path=str(save(tmp_path / "model")))
    check_heads(folder, 2)
    with pytest.raises(ConfigError, match=message):
        check_heads(folder, degree)


def test_ranks_that_are_no_groups_are_refused() -> None:
    assert LearnerConfig(ranks=6, sequence_parallel=2).groups == 3
    with pytest.raises(ConfigError, match="ranks 3 are no groups of sequence_parallel 2: make them a multiple"):
        checked(LearnerConfig, {"ranks": 3, "sequence_parallel": 2}, "test")
    with pytest.raises(ConfigError, match="sequence_parallel is 0"):
        checked(LearnerConfig, {"sequence_parallel": 0}, "test")
