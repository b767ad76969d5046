"""The vision tower with its connector: patches and grids -> **one embedding per 2x2 cell** -> language model.

openPangu-ViT as released with openPangu-VL-7B, and by configuration the tower of Qwen2.5-VL (arXiv 2502.13923) that
MindVL starts from: pictures of native resolution end to end, attention within windows of 112 pixels and in a few blocks
within the frame, rotary positions over rows and columns. Parameter names are those of the released checkpoints.
Letters: I pictures, P patches, K = P / 4 merged cells, H heads, D their size, W = H D, E width of the language model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pangu_rl.accelerators import ops
from pangu_rl.errors import ConfigError, DataError
from pretrain.models.connector import HierarchicalMerger, PatchMerger, VisionProjection
from pretrain.models.rms_norm import RMSNorm
from pretrain.models.varlen import varlen_attention
from pretrain.models.vision_rotary import rotate_, rotation
from pretrain.models.windows import Grid, lay_out_windows

if TYPE_CHECKING:
    from pretrain.models.configuration import PanguVisionConfig


class PatchEmbed(nn.Module):
    """A convolution whose kernel is its stride, as the matrix product that it is; `proj` only holds the weight."""

    def __init__(self, config: PanguVisionConfig) -> None:
        super().__init__()
        self.channels, self.mean, self.std = config.in_channels, config.image_mean, config.image_std
        kernel = (config.temporal_patch_size, config.patch_size, config.patch_size)
        self.proj = nn.Conv3d(config.in_channels, config.hidden_size, kernel, stride=kernel, bias=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """[P, 588] (a frame that stands for both of the kernel's) or [P, 1176], columns (C, T, 14, 14) -> [P, W].

        uint8 is rescaled to 0..1 and normalised in float32 here; floating point is taken as normalised already. For a
        frame that stands for both, the kernel's halves are summed first, which is exact up to one rounding.

        Raises:
            DataError: the columns fit neither.
        """
        weight = self.proj.weight
        if pixels.shape[1] * weight.shape[2] == weight[0].numel():
            weight = weight.sum(2)
        elif pixels.shape[1] != weight[0].numel():
            once, twice = weight[0].numel() // weight.shape[2], weight[0].numel()
            raise DataError(
                f"pixel_values has {pixels.shape[1]} columns: a patch has {once}, or {twice} with two frames"
            )
        if pixels.dtype == torch.uint8:
            pixels = self._normalise(pixels)
        return pixels.to(weight.dtype) @ weight.flatten(1).T

    def _normalise(self, pixels: Tensor) -> Tensor:
        mean, std = (
            torch.tensor(values, dtype=torch.float32, device=pixels.device).mul_(255).unsqueeze(1)
            for values in (self.mean, self.std)
        )
        channels = pixels.float().unflatten(1, (self.channels, -1))
        return channels.sub_(mean).div_(std).flatten(1)


class Attention(nn.Module):
    """Multi-head attention within segments."""

    def __init__(self, config: PanguVisionConfig) -> None:
        super().__init__()
        self.heads = config.num_heads
        self.size = config.hidden_size // config.num_heads
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor, lengths: Sequence[int], angles: tuple[Tensor, Tensor]) -> Tensor:
        """[P, W], segments' lengths, cos and sin [P, 1, D / 2] -> [P, W]."""
        qkv = rotate_(self.qkv(x), *angles).view(len(x), 3, self.heads, self.size)
        mixed = varlen_attention(*qkv.unbind(1), lengths, self.size**-0.5)
        return self.proj(mixed.flatten(1))


class Mlp(nn.Module):
    """gelu(up(x)) through down, or with a gate as in Qwen2.5-VL: silu(gate(x)) * up(x)."""

    def __init__(self, config: PanguVisionConfig) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        self.gate_proj = nn.Linear(width, inner) if config.hidden_act == "silu" else None
        self.up_proj = nn.Linear(width, inner)
        self.down_proj = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        """[P, W] -> [P, W]."""
        if self.gate_proj is None:
            return self.down_proj(ops.gelu(self.up_proj(x)))
        return self.down_proj(ops.gated(self.gate_proj(x), self.up_proj(x), ops.SILU))


class Block(nn.Module):
    """Attention and perceptron, each on a norm of the residual stream."""

    def __init__(self, config: PanguVisionConfig) -> None:
        super().__init__()
        self.norm1 = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.norm2 = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.attn = Attention(config)
        self.mlp = Mlp(config)

    def forward(self, x: Tensor, lengths: Sequence[int], angles: tuple[Tensor, Tensor]) -> Tensor:
        """[P, W] -> [P, W]; see `Attention.forward`."""
        x = x + self.attn(self.norm1(x), lengths, angles)
        return x + self.mlp(self.norm2(x))


@dataclass(frozen=True, slots=True)
class _Segments:
    """What the blocks need to know of the pictures."""

    angles: tuple[Tensor, Tensor]
    windows: tuple[int, ...]
    frames: tuple[int, ...]


class VisionModel(nn.Module):
    """The tower and the connector, `visual` in the checkpoints."""

    def __init__(self, config: PanguVisionConfig, text_hidden_size: int) -> None:
        """
        Raises:
            ConfigError: a value that no tower can have, such as selected blocks that do not descend.
        """
        super().__init__()
        self.config = config
        self.text_hidden_size = text_hidden_size
        self.gradient_checkpointing = False
        _check_config(config)
        self.selected = _selected_blocks(config)
        self.patch_embed = PatchEmbed(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.final_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps) if config.final_layernorm else None
        if config.connector == "hierarchical":
            self.merger: nn.Module = HierarchicalMerger(config)
            self.vision_projection = VisionProjection(config.out_hidden_size, text_hidden_size)
        else:
            self.merger = PatchMerger(config, text_hidden_size)
            self.vision_projection = None

    def forward(self, pixel_values: Tensor, grid_thw: Tensor) -> Tensor:
        """Embeddings of all pictures, end to end: [K, E], cells in raster order within a frame.

        pixel_values: uint8 [P, 588] as decoded, or floating point [P, 588 | 1176] as normalised, rows in the order
        (picture, frame, cell, patch of the cell); grid_thw: int64 [I, 3], frames, rows and columns in patches.

        Raises:
            DataError: the pixels do not match the grids.
        """
        features, inverse = self._features(pixel_values, grid_thw)
        if self.vision_projection is None:
            return self.merger(features[0])[inverse]
        return self.vision_projection(self.merger(features)[inverse])

    def patch_features(self, pixel_values: Tensor, grid_thw: Tensor) -> Tensor:
        """The deepest selected block's features [P, W], in the order of `pixel_values`: what vision-only stages train.

        Inputs and errors as in `forward`.
        """
        features, inverse = self._features(pixel_values, grid_thw)
        return features[0].unflatten(0, (len(inverse), -1))[inverse].flatten(0, 1)

    def _features(self, pixel_values: Tensor, grid_thw: Tensor) -> tuple[list[Tensor], Tensor]:
        """Features [P, W] of the selected blocks by window, the deepest first; int64 [K], the place of each cell."""
        grids = [tuple(grid) for grid in grid_thw.tolist()]
        self._check(pixel_values, grids)
        merge, device = self.config.spatial_merge_size, pixel_values.device
        layout = lay_out_windows(grids, self.config.window_size // self.config.patch_size // merge, merge)
        order, inverse = (torch.from_numpy(places).to(device) for places in (layout.order, layout.inverse))
        size = self.config.hidden_size // self.config.num_heads
        angles = rotation(torch.from_numpy(layout.positions).to(device), size)
        x = self.patch_embed(pixel_values)
        x = x.view(len(order), merge * merge, x.shape[1])[order].flatten(0, 1)
        return self._run_blocks(x, _Segments(angles, layout.window_lengths, layout.frame_lengths)), inverse

    def _run_blocks(self, x: Tensor, segments: _Segments) -> list[Tensor]:
        """The features [P, W] of the selected blocks, the deepest first."""
        features = []
        for number, block in enumerate(self.blocks):
            lengths = segments.frames if number in self.config.fullatt_block_indexes else segments.windows
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, lengths, segments.angles, use_reentrant=False)
            else:
                x = block(x, lengths, segments.angles)
            if number in self.selected:
                features.append(x if self.final_layernorm is None else self.final_layernorm(x))
        return features[::-1]

    def _check(self, pixels: Tensor, grids: Sequence[Grid]) -> None:
        merge = self.config.spatial_merge_size
        for _, rows, columns in grids:
            if rows % merge or columns % merge:
                raise DataError(f"a picture of {rows} x {columns} patches: both must be multiples of {merge}")
        expected = sum(frames * rows * columns for frames, rows, columns in grids)
        if len(pixels) != expected:
            raise DataError(
                f"pixel_values has {len(pixels)} rows, but the grids of {len(grids)} pictures have {expected} patches"
            )


def _check_config(config: PanguVisionConfig) -> None:
    width, heads, depth = config.hidden_size, config.num_heads, config.depth
    cell, full = config.patch_size * config.spatial_merge_size, list(config.fullatt_block_indexes)
    rules = (
        (config.hidden_act in ("gelu", "silu"), f"hidden_act is {config.hidden_act!r}: gelu, or silu with a gate"),
        (config.connector in ("hierarchical", "mlp"), f"connector is {config.connector!r}: hierarchical or mlp"),
        (width % (4 * heads) == 0, f"hidden_size is {width} for num_heads {heads}: heads of a multiple of 4 channels"),
        (config.window_size % cell == 0, f"window_size is {config.window_size}: a multiple of {cell} pixels"),
        (all(0 <= block < depth for block in full), f"fullatt_block_indexes is {full}, but depth is {depth}"),
    )
    for kept, rule in rules:
        if not kept:
            raise ConfigError(f"vision_config: {rule}")


def _selected_blocks(config: PanguVisionConfig) -> tuple[int, ...]:
    """0-based numbers of the selected blocks, the deepest first; entries below 0 count from the end."""
    listed = list(config.mm_unit_vision_select_layer)
    numbers = [entry + config.depth if entry < 0 else entry for entry in listed]
    descending = all(deep > shallow for deep, shallow in pairwise(numbers))
    if not numbers or not descending or numbers[0] >= config.depth or numbers[-1] < 0:
        raise ConfigError(
            f"mm_unit_vision_select_layer is {listed}: list some of the {config.depth} blocks, the deepest first, "
            "e.g. [-1, -3]"
        )
    if config.connector == "mlp" and len(numbers) > 1:
        raise ConfigError(f'mm_unit_vision_select_layer is {listed}, but connector "mlp" reads one block')
    return tuple(numbers)
