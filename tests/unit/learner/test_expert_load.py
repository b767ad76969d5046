"""Shares and loads of experts, worked by hand, and that every route through a real layer is counted."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pangu_rl.learner.expert_load import ExpertLoad, load_metrics
from tests.gloo_ranks import on_ranks
from tests.unit.learner.builders import llama
from tests.unit.learner.expert_ranks import experts_of_rank
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
    """7 tokens, 2 of 4 experts each, in 2 layers: those that the router's weights like best, counted here again."""
    lm, liked = tiny(family), []

    def count(router: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        best = (args[0].reshape(-1, router.weight.shape[1]) @ router.weight.T).topk(2).indices
        liked.append([(best == expert).sum().item() for expert in range(4)])

    for layer in lm.model.layers:
        layer.mlp.gate.register_forward_pre_hook(count)
    load = ExpertLoad(lm)
    lm(input_ids=torch.arange(4, 11)[None], use_cache=False)
    assert [counts.tolist() for counts in load._counts] == liked
    assert [sum(counts) for counts in liked] == [14, 14]
    assert len({tuple(counts) for counts in liked}) == 2, "the layers differ, and are not mixed up"
    assert load.take(ranks=1) == load_metrics(list(map(torch.tensor, liked)))
    assert not any(counts.any() for counts in load._counts)


def test_ranks_count_together(tmp_path: Path) -> None:
    """Rank 0 sends 1, 0, 1 tokens and rank 1 sends 0, 4, 2 to three experts: 1, 4, 3 of 8, and 4/8 x 3 = 1.5."""
    found = on_ranks(2, experts_of_rank, tmp_path)
    assert found == [{"expert_share_max": 0.5, "expert_share_min": 0.125, "expert_load_max": 1.5}] * 2


def test_a_dense_model_has_none() -> None:
    assert ExpertLoad(llama()).take(ranks=1) == {}
