"""openPangu-ViT against transformers' Qwen2.5-VL tower where the two agree, in float32.

The tolerance: values reach 20, float32 keeps 7 digits, and sums of up to 600 keys in another order lose one or two. A
window, a position or a pairing that is off by one changes values by more than 0.1.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLPatchMerger
from transformers.vision_utils import get_vision_attention_seqlens, get_vision_position_ids, get_vision_window_index

from pretrain.models.windows import lay_out_windows
from tests.numerics.vision_towers import GRIDS, SIZES, normalised_twice, pictures, qwen_pair, tower

TOLERANCE = 1e-4


def test_embeddings_are_equal_with_the_same_weights():
    ours, theirs = qwen_pair()
    pixels, grids = pictures(GRIDS)
    with torch.no_grad():
        expected = theirs(normalised_twice(pixels), grid_thw=grids).pooler_output
        assert (ours(pixels, grids) - expected).abs().max() < TOLERANCE
        assert (ours(normalised_twice(pixels), grids) - expected).abs().max() < TOLERANCE
    assert expected.abs().max() > 5.0


def test_gradients_are_equal_with_the_same_weights():
    ours, theirs = qwen_pair()
    pixels, grids = pictures(GRIDS)
    ours(pixels, grids).square().sum().backward()
    theirs(normalised_twice(pixels), grid_thw=grids).pooler_output.square().sum().backward()
    for name, parameter in ours.named_parameters():
        expected = theirs.get_parameter(name).grad
        assert (parameter.grad - expected).abs().max() < 1e-5 * expected.abs().max(), name


def test_the_hierarchical_connector_pairs_the_first_merger_with_the_deepest_block():
    """Qwen's blocks 1 and 3, hooked, through the norm and two of Qwen's mergers; then SiLU before the layer."""
    _, theirs = qwen_pair()
    ours = tower(hidden_act="silu")
    own = {name: tensor for name, tensor in theirs.state_dict().items() if not name.startswith("merger")}
    ours.load_state_dict(own, strict=False)
    found = {}
    for number in (1, 3):
        theirs.blocks[number].register_forward_hook(
            lambda module, args, out, number=number: found.update({number: out})
        )
    pixels, grids = pictures(GRIDS)
    with torch.no_grad():
        theirs(normalised_twice(pixels), grid_thw=grids)
        merged = 0
        for merger, number in zip(ours.merger, (3, 1), strict=True):
            qwens = Qwen2_5_VLPatchMerger(SIZES["out_hidden_size"], SIZES["hidden_size"])
            qwens.load_state_dict(merger.state_dict())
            features = nn.functional.rms_norm(found[number], (64,), ours.final_layernorm.weight, 1e-6)
            merged = merged + qwens(features)
        window_index, _ = get_vision_window_index(grids, 2, 112, 14)
        merged = merged[torch.argsort(window_index)]
        expected = ours.vision_projection.fc1(nn.functional.silu(merged))
        assert (ours(pixels, grids) - expected).abs().max() < TOLERANCE
        ours.merger[0], ours.merger[1] = ours.merger[1], ours.merger[0]
        assert (ours(pixels, grids) - expected).abs().max() > 0.1


@pytest.mark.parametrize("seed", range(20))
def test_windows_frames_and_positions_are_equal_on_random_grids(seed):
    generator = torch.Generator().manual_seed(seed)
    cells = torch.randint(1, 14, (int(torch.randint(1, 6, (), generator=generator)), 3), generator=generator)
    grids = cells * torch.tensor([1, 2, 2])
    layout = lay_out_windows([tuple(grid) for grid in grids.tolist()], window=4, merge=2)

    window_index, ends = get_vision_window_index(grids, spatial_merge_size=2, window_size=112, patch_size=14)
    assert layout.order.tolist() == window_index.tolist()
    assert [0, *torch.tensor(layout.window_lengths).cumsum(0).tolist()] == ends.tolist()
    frames, _ = get_vision_attention_seqlens(grids, None)
    assert [0, *torch.tensor(layout.frame_lengths).cumsum(0).tolist()] == frames.tolist()
    positions = get_vision_position_ids(grids, 2).view(-1, 4, 2)[window_index].view(-1, 2)
    assert layout.positions.tolist() == positions.tolist()
