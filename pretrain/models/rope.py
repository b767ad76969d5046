"""3D interleaved M-RoPE: positions of three axes -> **cos and sin per channel** -> the backbone's attention.

Each frequency belongs to one axis. openPangu-VL deals them out evenly, period t h w h w h w, so that both the highest
and the lowest are temporal; Qwen2.5-VL gives each axis a run. With equal rows both are plain RoPE.
Letters: B batch, T tokens, D head size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pangu_rl.errors import ConfigError

PLAIN_TYPES = {None, "default", "mrope", "openpangu"}
"""Rope types whose frequencies are theta^(-2k/D), unscaled."""


def interleaved_axes(sections: Sequence[int]) -> list[int]:
    """Axis of each frequency: evenly dealt out, never one axis twice running unless it must, the first axis last.

    Example: [10, 27, 27] -> [0, 1, 2, 1, 2, 1, 2] * 9 + [0].
    """
    counts = [sections[0] - 1, *sections[1:]]
    placed = [0] * len(counts)
    axes: list[int] = []
    for _ in range(sum(counts)):
        left = [axis for axis, count in enumerate(counts) if placed[axis] < count]
        others = [axis for axis in left if not axes or axis != axes[-1]]
        axis = min(others or left, key=lambda axis: (placed[axis] / counts[axis], axis))
        placed[axis] += 1
        axes.append(axis)
    return [*axes, 0]


def chunked_axes(sections: Sequence[int]) -> list[int]:
    """Qwen2.5-VL's map: [2, 3, 3] -> [0, 0, 1, 1, 1, 2, 2, 2]."""
    return [axis for axis, count in enumerate(sections) for _ in range(count)]


def default_sections(frequencies: int, *, interleaved: bool) -> list[int]:
    """Sections in the proportion of [10, 27, 27] (interleaved) or [16, 24, 24], rows and columns equal."""
    time = max(frequencies * (10 if interleaved else 16) // 64, 1)
    if (frequencies - time) % 2:
        time += 1 if time <= 1 else -1
    side = (frequencies - time) // 2
    return [time, side, side]


class MultimodalRope(nn.Module):
    """Stands where the backbone's own rotary embedding stood.

    The backbone's mask code would read the repeats in a picture's positions as packed sequences, so it is given none
    and the three rows come by `at`. Angles are float32, whatever the model's dtype.
    """

    def __init__(self, rope: dict[str, Any], head_size: int) -> None:
        """
        Raises:
            ConfigError: sections that are not half the head size, or a scaled rope type.
        """
        super().__init__()
        sections = rope["mrope_section"]
        if sum(sections) != head_size // 2:
            raise ConfigError(
                f"rope_parameters.mrope_section {sections} adds up to {sum(sections)}: heads of {head_size} have "
                f"{head_size // 2} frequencies"
            )
        if rope.get("rope_type") not in PLAIN_TYPES:
            raise ConfigError(f"rope_parameters.rope_type is {rope['rope_type']!r}: only unscaled RoPE has three axes")
        self.axes = interleaved_axes(sections) if rope.get("mrope_interleaved") else chunked_axes(sections)
        self.theta = float(rope["rope_theta"])
        self._positions: Tensor | None = None

    @contextmanager
    def at(self, positions: Tensor | None) -> Iterator[None]:
        """Use `positions`, int64 [3, B, T] or [B, T], in the forward pass within; None leaves the backbone's own."""
        self._positions = positions
        try:
            yield
        finally:
            self._positions = None

    def forward(self, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """(cos, sin) [B, T, D] each, in the dtype of `x`; position_ids: int64 [B, T] or [3, B, T]."""
        positions = position_ids if self._positions is None else self._positions
        rows = positions.float() if positions.dim() == 3 else positions.float().expand(3, *positions.shape)
        count = len(self.axes)
        # As transformers and vLLM write it, so that the angles are theirs to the bit.
        frequencies = 1.0 / self.theta ** (torch.arange(0, 2 * count, 2, device=x.device).float() / (2 * count))
        angles = rows.to(x.device)[self.axes].permute(1, 2, 0) * frequencies
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos().to(x.dtype), angles.sin().to(x.dtype)
