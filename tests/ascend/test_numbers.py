"""Part c: numbers behind torch-npu's schemas: every kernel of the table that an NPU has, against its reference.

Attention over trees has its own proofs, by the same operators, in `tests/numerics/test_tree_attention.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from pangu_rl.accelerators import ops
from tests.ascend.cpu_operators import AttentionCall, npu_operators


@pytest.fixture(autouse=True)
def calls() -> Iterator[list[AttentionCall]]:
    with npu_operators() as calls:
        yield calls


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def angles() -> tuple[Tensor, Tensor]:
    turn = normal(1, 20, 4, seed=3).repeat(1, 1, 2)
    return turn.cos(), turn.sin()


CASES: dict[str, tuple[ops.Operation, tuple[object, ...], tuple[int, ...]]] = {
    "rms_norm": (ops.rms_norm, (normal(2, 20, 24), normal(24, seed=1), 1e-5), (0, 1)),
    "silu": (ops.gated, (3 * normal(20, 24), normal(20, 24, seed=1), ops.SILU), (0, 1)),
    "gelu by tanh": (ops.gated, (3 * normal(20, 24), normal(20, 24, seed=1), ops.GELU_TANH), (0, 1)),
    "gelu": (ops.gelu, (3 * normal(20, 24),), (0,)),
    "rotary": (ops.rotary, (normal(2, 20, 3, 8).transpose(1, 2), *angles()), (0,)),
    # An empty group among them.
    "grouped": (ops.grouped_matmul, (normal(9, 8), normal(3, 8, 16, seed=1), torch.tensor([4, 4, 9]).int()), (0, 1)),
    "attention": (ops.attend_within, (*normal(3, 9, 2, 16), (4, 1, 4), 0.3), (0, 1, 2)),
}
"""Operation, its arguments, those that have gradients."""


def run(function: Callable[..., Tensor], args: tuple[object, ...], learned: tuple[int, ...]) -> list[Tensor]:
    leaves = [x.detach().clone().requires_grad_() if i in learned else x for i, x in enumerate(args)]
    result = function(*leaves)
    return [result.detach(), *torch.autograd.grad(result, [leaves[i] for i in learned], normal(*result.shape, seed=7))]


@pytest.mark.parametrize("name", CASES)
def test_a_kernel_and_its_gradients_equal_the_reference(name: str) -> None:
    """To float32's rounding; a wrong half, order, polarity or group is off by as much as the numbers are."""
    operation, args, learned = CASES[name]
    found = run(operation.kernels["npu"].call, args, learned)
    for mine, wanted in zip(found, run(operation.reference, args, learned), strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-5, atol=1e-5)


def test_every_kernel_of_an_npu_is_among_the_cases() -> None:
    with_kernel = {operation for operation in ops.OPERATIONS.values() if "npu" in operation.kernels}
    assert with_kernel == {operation for operation, *_ in CASES.values()}


def wrong_ends(x: Tensor) -> None:
    torch.ops.npu.npu_fusion_attention(x, x, x, 2, "TND", actual_seq_qlen=[4, 5], actual_seq_kvlen=[4, 5])


def shown_mask(x: Tensor) -> None:
    mask = torch.ones(2048, 2048, dtype=torch.bool).tril()
    ends = {"actual_seq_qlen": [4, 9], "actual_seq_kvlen": [4, 9]}
    torch.ops.npu.npu_fusion_attention(x, x, x, 2, "TND", atten_mask=mask, sparse_mode=3, **ends)


def own_statistics(x: Tensor) -> None:
    """In the default layout, which no merge of passes can read."""
    ends = {"actual_seq_qlen": [4, 9], "actual_seq_kvlen": [4, 9]}
    out, highest, total, *_ = torch.ops.npu.npu_fusion_attention(x, x, x, 2, "TND", **ends)
    statistics = {"softmax_max": highest, "softmax_sum": total, "attention_in": out}
    torch.ops.npu.npu_fusion_attention_grad(x, x, x, x, 2, "TND", **statistics, **ends)


def too_many(x: Tensor) -> None:
    ends = list(range(1, 1026))
    x = x.new_zeros(1025, 2, 16)
    torch.ops.npu.npu_fusion_attention(x, x, x, 2, "TND", actual_seq_qlen=ends, actual_seq_kvlen=ends)


def wide_gamma(x: Tensor) -> None:
    torch.ops.npu.npu_rms_norm(x.bfloat16(), x.new_ones(16))


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (wrong_ends, "ends are cumulative, without the leading 0"),
        (shown_mask, "the mask is 2048 x 2048, True is hidden"),
        (own_statistics, "statistics are merged in the order of the tokens"),
        (too_many, "1025 segments in a call, at most 1024"),
        (wide_gamma, "gamma of x's dtype, 2 to 8 axes"),
    ],
)
def test_a_planted_mistake_is_caught(mistake: Callable[[Tensor], None], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        mistake(normal(9, 2, 16))


def test_halves_of_a_rotation_the_wrong_way_round_are_caught() -> None:
    x, cos, sin = CASES["rotary"][1]
    turned = torch.ops.npu.npu_rotary_mul(x, sin.unsqueeze(1), cos.unsqueeze(1))
    assert (turned - ops.rotary.reference(x, cos, sin)).abs().max() > 0.1
