"""Shared reductions on values small enough to see."""

from __future__ import annotations

import torch

from pangu_rl.algorithms.token_ops import dense_index, masked_max, rank_in_segment, segment_sum


def test_segment_sum_keeps_empty_segments() -> None:
    sums = segment_sum(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([2, 0, 2]), 4)
    assert sums.tolist() == [2, 0, 5, 0]


def test_dense_index_of_sparse_labels() -> None:
    index, count = dense_index(torch.tensor([70, -3, 70, 5]))
    assert (index.tolist(), count) == ([2, 0, 2, 1], 3)


def test_rank_counts_the_counted_tokens_before_each_of_its_segment() -> None:
    """Segment 0 is at positions 0 2 3 5 with flags 1 0 1 1: ranks 0 1 1 2; segment 1 at 1 4, flags 1 1: ranks 0 1."""
    index = torch.tensor([0, 1, 0, 0, 1, 0])
    counted = torch.tensor([1, 1, 0, 1, 1, 1], dtype=torch.bool)
    assert rank_in_segment(index, counted).tolist() == [0, 0, 1, 1, 1, 2]


def test_masked_max_of_nothing_is_zero() -> None:
    assert masked_max(torch.zeros(0), torch.zeros(0, dtype=torch.bool)) == 0
    assert masked_max(torch.tensor([3.0, 9.0]), torch.tensor([True, False])) == 3
