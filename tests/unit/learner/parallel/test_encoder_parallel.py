"""The tower shared by the ranks of a pack: the deal, and features and gradients equal to those of one rank."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from pangu_rl.learner.parallel.encoder_parallel import deal_frames, encode_dealt, encoder_cost
from pretrain.models.configuration import PanguVisionConfig
from pretrain.models.vit import VisionModel
from pretrain.packing.cost import OPENPANGU_VIT, EncoderCost
from tests.gloo_ranks import on_ranks

VISION = {"depth": 4, "hidden_size": 32, "num_heads": 2, "intermediate_size": 48, "out_hidden_size": 40}
LINEAR = EncoderCost(per_patch=1.0, per_pair=0.0)
GRIDS = {"mixed": [(1, 4, 6), (5, 4, 4), (1, 10, 2), (1, 2, 2)], "one": [(1, 4, 2)]}
"""Stills and a video of five frames; and fewer pictures than ranks."""


def test_a_deal_by_hand():
    """Patches 24, five of 16, 20 and 4. Rank 0 takes 24, rank 1 20 and 16 (36), rank 0 16 (40), rank 1 16 (52), rank 0
    16 (56), rank 1 16 (68), rank 0 the 4 (60)."""
    sizes = np.array([(4, 6), *[(4, 4)] * 5, (10, 2), (2, 2)])
    assert deal_frames(sizes, LINEAR, 2) == [[0, 2, 4, 7], [1, 3, 5, 6]]


def test_ranks_beyond_the_frames_get_none():
    assert deal_frames(np.array([(2, 2), (4, 4)]), LINEAR, 4) == [[1], [0], [], []]


def test_the_deal_is_within_a_third_of_the_mean_and_usually_equal():
    """Graham's bound for longest first is 4/3; drawn packs of 60 pictures come within 2 %."""
    rng = np.random.default_rng(0)
    ratios = []
    for _ in range(50):
        sizes = 2 * rng.integers(2, 48, (60, 2))
        flops = OPENPANGU_VIT.flops(sizes.prod(axis=1), np.ones(60, dtype=int))
        loads = [flops[part].sum() for part in deal_frames(sizes, OPENPANGU_VIT, 4)]
        ratios.append(max(loads) / np.mean(loads))
    assert max(ratios) < 1.05
    assert np.mean(ratios) < 1.02


def test_the_cost_of_the_released_tower_is_the_planners():
    with torch.device("meta"):
        visual = VisionModel(PanguVisionConfig(), 4096)
    assert encoder_cost(visual) == OPENPANGU_VIT


def inputs(name: str) -> tuple[VisionModel, Tensor, Tensor, Tensor]:
    """Tower, patches, grids and a weight for every feature."""
    torch.manual_seed(0)
    visual = VisionModel(PanguVisionConfig(**VISION, fullatt_block_indexes=[1, 3]), 24).double()
    rng = np.random.default_rng(0)
    grids = torch.tensor(GRIDS[name])
    patches = torch.from_numpy(rng.integers(0, 256, (int(grids.prod(1).sum()), 588), dtype=np.uint8))
    return visual, patches, grids, torch.randn(int(grids.prod(1).sum()) // 4, 24).double()


def gradients(visual: VisionModel) -> dict[str, Tensor]:
    return {name: parameter.grad.clone() for name, parameter in visual.named_parameters()}


def whole(name: str) -> tuple[Tensor, dict[str, Tensor]]:
    """One rank: sum of the weighted squares of all features."""
    visual, patches, grids, weight = inputs(name)
    features = visual(patches, grids)
    (weight * features.square()).sum().backward()
    return features.detach(), gradients(visual)


def dealt(rank: int, ranks: int, group: dist.ProcessGroup | None = None) -> dict[str, list]:
    """Features and summed gradients of each case; the loss of a rank is that of every `ranks`-th feature, which leaves
    later ranks without any in the small case."""
    found = {}
    for name in GRIDS:
        visual, patches, grids, weight = inputs(name)
        features = encode_dealt(visual, patches, grids, group)
        (weight * features.square())[rank::ranks].sum().backward()
        for parameter in visual.parameters():
            dist.all_reduce(parameter.grad, group=group)
        found[name] = [features.detach(), gradients(visual)]
    return found


def on_four_and_on_two(rank: int, ranks: int) -> dict[int, dict[str, list]]:
    found = {ranks: dealt(rank, ranks)}
    pair = dist.new_group([0, 2])
    return found | {2: dealt(dist.get_rank(pair), 2, pair)} if rank in (0, 2) else found


def test_features_and_gradients_are_those_of_one_rank(tmp_path: Path):
    found = on_ranks(4, on_four_and_on_two, tmp_path)
    for name in GRIDS:
        features, expected = whole(name)
        assert all(gradient.abs().max() > 0 for gradient in expected.values())
        for outcome in (outcome for rank in found for outcome in rank.values()):
            theirs, summed = outcome[name]
            torch.testing.assert_close(theirs, features, atol=1e-12, rtol=1e-12)
            for parameter, gradient in expected.items():
                # The norms add up in float32.
                limit = 1e-6 * gradient.abs().max().item()
                torch.testing.assert_close(summed[parameter], gradient, atol=limit, rtol=0, msg=parameter)
