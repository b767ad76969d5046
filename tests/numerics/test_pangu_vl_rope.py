"""Rotary angles against the modules of vLLM (openPangu's) and of transformers (Qwen2.5-VL's), in float32."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, Qwen2_5_VLTextConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLRotaryEmbedding

from pretrain.models.rope import MultimodalRope, default_sections, interleaved_axes


def rows(highest: int) -> torch.Tensor:
    return torch.randint(0, highest, (3, 1, 64), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("head_size", "theta"), [(128, 64e6), (64, 1e4), (32, 1e5)])
def test_interleaved_angles_are_vllms(head_size: int, theta: float) -> None:
    """To the bit: the same float32 frequencies, products and cosines."""
    from vllm.config import VllmConfig, set_current_vllm_config
    from vllm.model_executor.layers.rotary_embedding.mrope_interleaved import MRotaryEmbeddingInterleaved

    sections = default_sections(head_size // 2, interleaved=True)
    with set_current_vllm_config(VllmConfig()):
        vllm = MRotaryEmbeddingInterleaved(head_size, head_size, 256, theta, True, torch.float32, sections)
    positions = rows(1024)
    expected, _ = vllm._rebuild_pos_emb(positions[:, 0])
    rope = MultimodalRope({"mrope_section": sections, "mrope_interleaved": True, "rope_theta": theta}, head_size)
    cos, sin = rope(torch.zeros(1, 64, head_size), positions)
    half = head_size // 2
    assert torch.equal(torch.cat([cos[0, :, :half], sin[0, :, :half]], -1), expected)
    assert torch.equal(cos[..., :half], cos[..., half:])


@pytest.mark.parametrize(
    ("sections", "interleaved", "axes"),
    [
        ((0, 3, 3), True, [1, 2, 1, 2, 1, 0]),  # 2D: rows and columns by turns, the lowest is of time
        ((0, 3, 3), False, [1, 1, 1, 2, 2, 2]),
        ((2, 2, 2), False, [0, 0, 1, 1, 2, 2]),  # 3D, not interleaved
        ((2, 2, 2), True, [0, 1, 2, 1, 2, 0]),  # 3D, interleaved: both the highest and the lowest are of time
    ],
)
def test_the_axes_of_figure_5b(sections: tuple[int, int, int], interleaved: bool, axes: list[int]) -> None:
    """Two tokens that differ in time alone turn apart in the frequencies of time alone, and likewise of rows."""
    rope = MultimodalRope({"mrope_section": sections, "mrope_interleaved": interleaved, "rope_theta": 100.0}, 12)
    assert list(rope.axes) == axes
    places = torch.zeros(3, 1, 3, dtype=torch.int64)
    places[0, 0, 1], places[1, 0, 2] = 1, 1
    cos, _ = rope(torch.zeros(1, 3, 12), places)
    apart = [(cos[0, index, :6] != cos[0, 0, :6]).tolist() for index in (1, 2)]
    assert apart == [[axis == wanted for axis in axes] for wanted in (0, 1)]


@pytest.mark.parametrize("sections", [[0, 16, 16], [4, 14, 14]])
def test_axes_are_dealt_as_vllm_deals_them(sections: list[int]) -> None:
    from vllm.model_executor.layers.rotary_embedding.mrope_interleaved import MRotaryEmbeddingInterleaved

    dealt = MRotaryEmbeddingInterleaved.get_mrope_interleaved_id_list(*sections, force_last=True)
    assert interleaved_axes(sections) == dealt


def test_chunked_angles_are_qwens() -> None:
    """With the released sections; Qwen's own module deals the frequencies to the axes."""
    parameters = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
    config = Qwen2_5_VLTextConfig(
        hidden_size=256, num_attention_heads=2, num_hidden_layers=1, max_window_layers=1, rope_parameters=parameters
    )
    positions, x = rows(5000), torch.zeros(1, 64, 128)
    ours = MultimodalRope(parameters, 128)(x, positions)
    for found, expected in zip(ours, Qwen2_5_VLRotaryEmbedding(config)(x, positions), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("interleaved", [True, False])
def test_equal_rows_are_plain_rope(interleaved: bool) -> None:
    config = LlamaConfig(
        hidden_size=256, num_attention_heads=4, rope_parameters={"rope_type": "default", "rope_theta": 1e4}
    )
    positions, x = torch.arange(64).unsqueeze(0) * 97, torch.zeros(1, 64, 64)
    sections = default_sections(32, interleaved=interleaved)
    rope = MultimodalRope({"mrope_section": sections, "mrope_interleaved": interleaved, "rope_theta": 1e4}, 64)
    for given in (positions, positions.expand(3, 1, 64)):
        for found, expected in zip(rope(x, given), LlamaRotaryEmbedding(config)(x, positions), strict=True):
            assert torch.equal(found, expected)
