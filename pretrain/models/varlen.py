"""Attention over pictures laid end to end: each patch attends to its segment alone, with the device's own kernel."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from pangu_rl.accelerators import ops


def varlen_attention(
    query: Tensor, key: Tensor, value: Tensor, lengths: Sequence[int] | Tensor, scale: float
) -> Tensor:
    """softmax(scale * q k^T) v within each segment, not causal.

    query, key, value: [P, H, D] of one dtype; lengths: patches of each segment in order, on the host. Returns
    [P, H, D]. The device of the tensors decides how it is computed (`ops.attend_within`).

    Raises:
        ValueError: the lengths do not sum to P.
    """
    segments = tuple(lengths.tolist()) if isinstance(lengths, Tensor) else tuple(lengths)
    if sum(segments) != len(query):
        raise ValueError(f"segments of {sum(segments)} tokens in all for queries of {len(query)}")
    if not segments:
        return query
    return ops.attend_within(query, key, value, segments, scale)
