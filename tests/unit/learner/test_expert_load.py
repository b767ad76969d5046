"""Shares and loads of experts, worked by hand, and that every route through a real layer is counted."""

from __future__ import annotations

import pytest
import torch

from pangu_rl.learner.expert_load import ExpertLoad, load_metrics
from tests.unit.learner.builders import llama
from tests.unit.learner.families import tiny


def test_shares_and_load_by_hand() -> None:
    """Routes 1, 2, 3, 2 of 8: shares 1/8 to 3/8, the busiest has 3/8 x 4 = 1.5 times the mean. The second layer sends
    all 4 to one of two: share 1 and 0, load 2."""
    one = load_metrics([torch.tensor([1, 2, 3, 2])])
    assert one == {"expert_share_max": 3 / 8, "expert_share_min": 1 / 8, "expert_load_max": 1.5}
    both = load_metrics([torch.tensor([1, 2, 3, 2]), torch.tensor([4, 0])])
    assert both == {"expert_share_max": 1.0, "expert_share_min": 0.0, "expert_load_max": 2.0}


@pytest.mark.parametrize("family", ["qwen3_moe", "mixtral"])
def test_every_route_of_every_layer_is_counted(family: str) -> None:
    """7 tokens, 2 experts each, in 2 layers."""
    lm = tiny(family)
    load = ExpertLoad(lm)
    lm(input_ids=torch.arange(4, 11)[None], use_cache=False)
    assert [counts.sum().item() for counts in load._counts] == [14, 14]
    found = load.take(ranks=1)
    assert found["expert_load_max"] == pytest.approx(4 * found["expert_share_max"])
    assert not any(counts.any() for counts in load._counts)


def test_a_dense_model_has_none() -> None:
    assert ExpertLoad(llama()).take(ranks=1) == {}
