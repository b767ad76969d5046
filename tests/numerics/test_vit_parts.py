"""The vision tower's parts and promises: pixels, released names, independence of pictures and frames, checkpointing."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from pangu_rl.accelerators.ops import rms_norm
from pangu_rl.errors import ConfigError, DataError
from pretrain.models.configuration import PanguVisionConfig
from pretrain.models.vision_rotary import rotate_, rotation
from pretrain.models.vit import PatchEmbed, VisionModel
from pretrain.models.windows import lay_out_windows
from tests.numerics.vision_towers import GRIDS, SIZES, normalised_twice, pictures, tower


def expected_shapes(config: PanguVisionConfig, text: int) -> dict[str, tuple[int, ...]]:
    """Section by section the released checkpoint's `visual.*` without the prefix."""
    width, inner, out, cell = (
        config.hidden_size,
        config.intermediate_size,
        config.out_hidden_size,
        4 * config.hidden_size,
    )
    shapes = {"patch_embed.proj.weight": (width, 3, 2, 14, 14), "final_layernorm.weight": (width,)}
    for block in (f"blocks.{number}." for number in range(config.depth)):
        shapes |= {block + "norm1.weight": (width,), block + "norm2.weight": (width,)}
        shapes |= {block + "attn.qkv.weight": (3 * width, width), block + "attn.qkv.bias": (3 * width,)}
        shapes |= {block + "attn.proj.weight": (width, width), block + "attn.proj.bias": (width,)}
        shapes |= {block + "mlp.up_proj.weight": (inner, width), block + "mlp.up_proj.bias": (inner,)}
        shapes |= {block + "mlp.down_proj.weight": (width, inner), block + "mlp.down_proj.bias": (width,)}
    for merger in ("merger.0.", "merger.1."):
        shapes |= {merger + "ln_q.weight": (width,)}
        shapes |= {merger + "mlp.0.weight": (cell, cell), merger + "mlp.0.bias": (cell,)}
        shapes |= {merger + "mlp.2.weight": (out, cell), merger + "mlp.2.bias": (out,)}
    return shapes | {"vision_projection.fc1.weight": (text, out), "vision_projection.fc1.bias": (text,)}


def test_the_released_size_has_the_released_names_shapes_and_counts():
    """26 blocks of 23,608,320, patches 1,806,336 and the last norm: the paper's 615M; mergers and projection beside."""
    config = PanguVisionConfig()
    with torch.device("meta"):
        model = VisionModel(config, 4096)
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    assert shapes == expected_shapes(config, 4096)
    assert set(model.state_dict()) == set(shapes)
    counts = {name: math.prod(shape) for name, shape in shapes.items()}
    tower_names = ("patch_embed", "blocks", "final_layernorm")
    assert sum(count for name, count in counts.items() if name.startswith(tower_names)) == 615_624_192
    assert sum(counts.values()) == 749_868_544


def test_the_gated_variant_has_qwens_names():
    changes = {"hidden_act": "silu", "connector": "mlp", "final_layernorm": False, "mm_unit_vision_select_layer": [-1]}
    model = tower(text_hidden_size=40, **changes)
    names = {
        name for name, _ in model.named_parameters() if name.startswith(("blocks.0.mlp", "merger", "final", "vis"))
    }
    layers = (
        "blocks.0.mlp.gate_proj",
        "blocks.0.mlp.up_proj",
        "blocks.0.mlp.down_proj",
        "merger.mlp.0",
        "merger.mlp.2",
    )
    assert names == {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")} | {"merger.ln_q.weight"}
    assert model.merger.mlp[2].out_features == 40


def test_a_patch_is_the_convolution_of_a_doubled_normalised_frame():
    """The 588 columns meet the sum of the kernel's two frames; float32, sums of 1176 terms of size 1."""
    torch.manual_seed(0)
    embed = PatchEmbed(PanguVisionConfig(**SIZES))
    pixels, _ = pictures([(1, 6, 4)])
    doubled = normalised_twice(pixels)
    expected = embed.proj(doubled.view(-1, 3, 2, 14, 14)).flatten(1)
    torch.testing.assert_close(embed(pixels), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(embed(doubled), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(embed(doubled.view(-1, 3, 2, 196)[:, :, 0].flatten(1)), expected, rtol=0, atol=1e-5)


def test_two_different_frames_meet_the_kernels_two_halves():
    torch.manual_seed(0)
    embed = PatchEmbed(PanguVisionConfig(**SIZES))
    frames = torch.randn(8, 3, 2, 14, 14)
    torch.testing.assert_close(embed(frames.flatten(1)), embed.proj(frames).flatten(1), rtol=0, atol=1e-5)


def test_bfloat16_pixels_are_normalised_before_they_are_rounded():
    """(128 - 122.77) / 68.5 = 0.0763; with 122.77 rounded to bfloat16's 123 it would be 0.0730."""
    embed = PatchEmbed(PanguVisionConfig(**SIZES)).bfloat16()
    normal = embed._normalise(torch.full((1, 588), 128, dtype=torch.uint8))
    assert normal.dtype == torch.float32
    assert normal[0, 0].item() == pytest.approx((128 / 255 - 0.48145466) / 0.26862954, abs=1e-6)
    assert embed(torch.full((1, 588), 128, dtype=torch.uint8)).dtype == torch.bfloat16


def test_windows_of_a_small_grid_by_hand():
    """5 x 6 cells: the windows hold 4x4, 4x2, 1x4 and 1x2 cells, each 4 patches; a second frame follows the first."""
    layout = lay_out_windows([(2, 10, 12)], window=4, merge=2)
    assert layout.window_lengths == (64, 32, 16, 8) * 2
    assert layout.frame_lengths == (120, 120)
    assert layout.order[:8].tolist() == [0, 1, 2, 3, 6, 7, 8, 9]
    assert layout.order[16:20].tolist() == [4, 5, 10, 11]
    assert layout.order[30:34].tolist() == [30, 31, 32, 33]
    assert layout.positions[:6].tolist() == [[0, 0], [0, 1], [1, 0], [1, 1], [0, 2], [0, 3]]
    assert layout.positions[64:68].tolist() == [[0, 8], [0, 9], [1, 8], [1, 9]]


def test_angles_by_hand():
    """Head of 8: row and column have two frequencies each, 1 and 1/100; channel k turns with channel k + 4."""
    cos, sin = rotation(torch.tensor([[2, 3]]), 8)
    expected = torch.tensor([2.0, 0.02, 3.0, 0.03])
    torch.testing.assert_close(cos.flatten(), expected.cos())
    torch.testing.assert_close(sin.flatten(), expected.sin())
    qkv = torch.zeros(1, 24)
    qkv[0, 0], qkv[0, 8 + 6], qkv[0, 16] = 1.0, 1.0, 1.0  # q's channel 0, k's channel 6 (of pair 2), v's channel 0
    turned = rotate_(qkv, cos, sin)[0]
    assert turned[[0, 4]].tolist() == pytest.approx([math.cos(2), math.sin(2)])
    assert turned[[8 + 2, 8 + 6]].tolist() == pytest.approx([-math.sin(3), math.cos(3)])
    assert turned[16:].tolist() == [1.0] + [0.0] * 7


def test_angles_are_float32_in_a_bfloat16_tower():
    """Column 95 in bfloat16 has a spacing of 0.5: an angle would be off by up to 0.25."""
    cos, _ = rotation(torch.tensor([[0, 95]]), 96)
    assert cos.dtype == torch.float32
    assert cos[0, 0, 24].item() == pytest.approx(math.cos(95.0), abs=1e-5)


def test_rotation_and_norm_have_the_gradients_of_their_formulas():
    """Against autograd in float64; the weight's sums 600 terms. 600 rows are more than a CPU takes at once."""
    torch.manual_seed(0)
    x, weight = torch.randn(600, 16, requires_grad=True), torch.randn(16, requires_grad=True)
    probe = torch.randn(600, 16)
    (rms_norm(x, weight, 1e-6) * probe).sum().backward()
    wide, factor = x.detach().double().requires_grad_(), weight.detach().double().requires_grad_()
    (wide * (wide.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * factor * probe).sum().backward()
    torch.testing.assert_close(x.grad.double(), wide.grad, rtol=0, atol=1e-5)
    torch.testing.assert_close(weight.grad.double(), factor.grad, rtol=0, atol=1e-4)

    qkv, turn = torch.randn(600, 24, requires_grad=True), rotation(torch.randint(0, 50, (600, 2)), 8)
    probe = torch.randn(600, 24)
    (rotate_(qkv * 1, *turn) * probe).sum().backward()
    assert torch.allclose(rotate_(qkv.grad.clone(), *turn), probe, atol=1e-5)  # the transpose of a rotation undoes it


@pytest.mark.parametrize("changes", [{}, {"fullatt_block_indexes": [0, 1, 2, 3]}])
def test_a_picture_does_not_see_the_others(changes):
    """Up to the order of float32 sums: batches of another size block their matrix products otherwise."""
    model = tower(**changes)
    pixels, grids = pictures(GRIDS)
    with torch.no_grad():
        together = model(pixels, grids)
        pieces = pixels.split(grids.prod(dim=1).tolist())
        alone = torch.cat([model(piece, grid[None]) for piece, grid in zip(pieces, grids)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-4)


def test_a_frame_does_not_see_the_others_of_its_video():
    model = tower()
    pixels, grids = pictures([(3, 6, 10)])
    with torch.no_grad():
        video = model(pixels, grids)
        frames = [model(frame, torch.tensor([[1, 6, 10]])) for frame in pixels.split(60)]
    torch.testing.assert_close(video, torch.cat(frames), rtol=0, atol=1e-4)


def test_full_attention_reaches_beyond_the_window():
    """Two windows side by side: a change in the second reaches the first only through the full blocks."""
    pixels, grids = pictures([(1, 8, 16)])
    changed = pixels.clone()
    changed[16:32] = 255 - changed[16:32]  # the cells 4 to 7 of the first row
    reach = []
    for blocks in ([], [1, 3]):
        model = tower(fullatt_block_indexes=blocks)
        with torch.no_grad():
            difference = (model(pixels, grids) - model(changed, grids)).abs()
        reach.append(difference.view(4, 8, -1)[:, :4].max().item())
    assert reach[0] == 0.0
    assert reach[1] > 0.01


def test_checkpointing_changes_no_gradient():
    pixels, grids = pictures(GRIDS)
    plain, saving = tower(), tower()
    saving.gradient_checkpointing = True
    runs = []
    saving.blocks[0].register_forward_pre_hook(lambda *_: runs.append(1))
    for model in (plain, saving):
        model(pixels, grids).square().sum().backward()
    assert len(runs) == 2
    for one, other in zip(plain.parameters(), saving.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_picture_gives_no_embedding_and_no_gradient(dtype):
    model = tower().to(dtype)
    out = model(*pictures([]))
    assert (out.shape, out.dtype) == ((0, 40), dtype)
    out.sum().backward()
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in model.parameters())


def test_bfloat16_stays_near_float32():
    """Eight bits through four blocks: a relative error of 1e-2 is theirs; unrounded angles or windows are not."""
    model = tower()
    pixels, grids = pictures(GRIDS)
    with torch.no_grad():
        expected = model(pixels, grids)
        found = model.bfloat16()(pixels, grids).float()
    assert (found - expected).norm() < 0.05 * expected.norm()


def test_pixels_that_do_not_match_the_grids_are_refused_with_both_numbers():
    pixels, _ = pictures([(1, 4, 4)])
    with pytest.raises(DataError, match="16 rows, but the grids of 1 pictures have 24 patches"):
        tower()(pixels, torch.tensor([[1, 4, 6]]))
    with pytest.raises(DataError, match=r"4 x 3 patches.*multiples of 2"):
        tower()(pixels[:12], torch.tensor([[1, 4, 3]]))
    with pytest.raises(DataError, match="600 columns: a patch has 588, or 1176"):
        tower()(torch.zeros(16, 600), torch.tensor([[1, 4, 4]]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mm_unit_vision_select_layer": [-3, -1]}, r"\[-3, -1\].*deepest first"),
        ({"mm_unit_vision_select_layer": [-5]}, "4 blocks"),
        ({"mm_unit_vision_select_layer": []}, "deepest first"),
        ({"connector": "mlp"}, r"\[-1, -3\].*reads one block"),
        ({"connector": "linear"}, "'linear': hierarchical or mlp"),
        ({"hidden_act": "relu"}, "'relu': gelu, or silu"),
        ({"hidden_size": 72}, "72 for num_heads 4"),
        ({"window_size": 100}, "100: a multiple of 28"),
        ({"fullatt_block_indexes": [5]}, r"\[5\], but depth is 4"),
    ],
)
def test_a_configuration_that_means_nothing_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        tower(**changes)


def test_three_selected_blocks_have_three_mergers():
    model = tower(mm_unit_vision_select_layer=[3, -2, 0])
    assert model.selected == (3, 2, 0)
    pixels, grids = pictures([(1, 4, 4)])
    before = model(pixels, grids)
    nn.init.zeros_(model.merger[2].mlp[2].weight)
    assert not torch.equal(model(pixels, grids), before)
