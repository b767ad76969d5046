"""Elementwise mathematics a few rows at a time, where that is what makes it fast."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

ROWS = 512
"""Rows at a time on a CPU: intermediates of this size stay in the cache. With whole ones, which are paged in anew at
every call, a norm or a rotation of a large picture takes twice as long."""


def row_pieces(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Views of the same rows of every tensor, piece by piece on a CPU, all at once elsewhere."""
    rows = ROWS if tensors[0].device.type == "cpu" else max(len(tensors[0]), 1)
    return zip(*(tensor.split(rows) for tensor in tensors), strict=True)
