"""The weighted mean of tensors: hand-worked values, one rounding, and what has no mean."""

from __future__ import annotations

import pytest
import torch

from pangu_rl.algorithms.merge import normalised, weighted_mean


def test_by_hand() -> None:
    """(1 x 2 + 3 x 6) / 4 = 5 and (1 x 0 + 3 x 4) / 4 = 3."""
    mean = weighted_mean([torch.tensor([2.0, 0.0]), torch.tensor([6.0, 4.0])], [1.0, 3.0])
    assert mean.tolist() == [5.0, 3.0]


def test_the_mean_of_a_model_with_itself_is_that_model() -> None:
    """To the bit, in bf16 and with thirds as weights: summed in bf16 or fp32 it would not be for all values."""
    tensor = torch.randn(4096, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    shares = normalised([1, 1, 1])
    assert torch.equal(weighted_mean([tensor] * 3, shares), tensor)


def test_rounded_once_to_the_dtype() -> None:
    """In bf16 1 + 2^-8 is not representable: 1 + (2^-8 + 2^-8)/2 rounds to 1 (ties to even), not to 1 + 2^-7."""
    one, other = torch.tensor([1.0]).bfloat16(), torch.tensor([1.0 + 2**-7]).bfloat16()
    mean = weighted_mean([one, other], [0.5, 0.5])
    assert mean.dtype == torch.bfloat16
    assert mean.item() == 1.0
    assert weighted_mean([one, other], [0.25, 0.75]).item() == 1.0 + 2**-7


def test_a_weight_of_0_leaves_a_model_out() -> None:
    assert weighted_mean([torch.tensor([1.0]), torch.tensor([float("inf")])], [1.0, 0.0]).item() == 1.0


def test_integers_must_agree() -> None:
    same = torch.tensor([1, 2])
    assert torch.equal(weighted_mean([same, same.clone()], [0.5, 0.5]), same)
    with pytest.raises(ValueError, match="int64 values differ"):
        weighted_mean([same, same + 1], [0.5, 0.5])


@pytest.mark.parametrize("weights", [[0, 0], [1, -1], [float("nan"), 1], [float("inf"), 1]])
def test_weights_that_mean_nothing(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="each must be 0 or more"):
        normalised(weights)
