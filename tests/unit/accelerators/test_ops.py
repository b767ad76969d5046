"""Every fused operation against its reference, with gradients; what a kernel refuses, what a fallback leaves behind."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from pangu_rl.accelerators import ops
from pangu_rl.accelerators.ops import table
from pangu_rl.accelerators.ops.products import weight_gradient
from pangu_rl.accelerators.ops.table import Kernel, Operation, uncompiled

compiled = pytest.mark.skipif(uncompiled() is not None, reason="no compiled kernels")

TOKENS, WIDTH = 203, 72
"""No multiple of a vector, a tile or a piece."""


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def angles() -> tuple[Tensor, Tensor]:
    turn = normal(1, TOKENS, 4, seed=3)
    turn = torch.cat((turn, turn), -1)
    return turn.cos(), turn.sin()


CASES: dict[str, tuple[Operation, tuple[object, ...], tuple[int, ...]]] = {
    "rms_norm": (ops.rms_norm, (normal(2, TOKENS, WIDTH), normal(WIDTH, seed=1), 1e-5), (0, 1)),
    "silu": (ops.gated, (3 * normal(TOKENS, WIDTH), normal(TOKENS, WIDTH, seed=1), ops.SILU), (0, 1)),
    "gelu": (ops.gated, (3 * normal(TOKENS, WIDTH), normal(TOKENS, WIDTH, seed=1), ops.GELU_TANH), (0, 1)),
    "rotary": (ops.rotary, (normal(2, TOKENS, 3, 8).transpose(1, 2), *angles()), (0,)),
}
"""Operation, its arguments, those that have gradients."""


def run(function: Callable[..., Tensor], args: tuple[object, ...], learned: tuple[int, ...]) -> list[Tensor]:
    """The result and the gradients of `learned` for one fixed upstream gradient."""
    leaves = [x.detach().clone().requires_grad_() if i in learned else x for i, x in enumerate(args)]
    result = function(*leaves)
    upstream = normal(*result.shape, seed=7).to(result.dtype)
    return [result.detach(), *torch.autograd.grad(result, [leaves[i] for i in learned], upstream)]


def cast(args: tuple[object, ...], dtype: torch.dtype) -> tuple[object, ...]:
    return tuple(x.to(dtype) if isinstance(x, Tensor) else x for x in args)


def distance(x: Tensor, y: Tensor) -> float:
    return float((x.double() - y.double()).norm() / y.double().norm())


@compiled
@pytest.mark.parametrize("name", CASES)
def test_a_compiled_operation_equals_its_reference_in_float32(name: str) -> None:
    operation, args, learned = CASES[name]
    for mine, theirs in zip(run(operation, args, learned), run(operation.reference, args, learned), strict=True):
        assert distance(mine, theirs) < 1e-6


@compiled
@pytest.mark.parametrize("name", CASES)
def test_in_bfloat16_it_is_no_further_from_float32_than_the_reference(name: str) -> None:
    """Within 2 %: where both round once, chance decides which is nearer."""
    operation, args, learned = CASES[name]
    half = cast(args, torch.bfloat16)
    exact = run(operation.reference, cast(half, torch.float32), learned)
    for mine, theirs, wanted in zip(
        run(operation, half, learned), run(operation.reference, half, learned), exact, strict=True
    ):
        assert mine.dtype is torch.bfloat16
        assert distance(mine, wanted) < 1.02 * distance(theirs, wanted)


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@compiled
@pytest.mark.parametrize("name", CASES)
def test_the_number_of_threads_changes_no_bit(name: str) -> None:
    operation, args, learned = CASES[name]
    args = cast(args, torch.bfloat16)
    results = []
    for count in (1, 1, 2, 3):
        with threads(count):
            results.append(run(operation, args, learned))
    for other in results[1:]:
        assert all(torch.equal(x, y) for x, y in zip(results[0], other, strict=True))


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("reference", [pytest.param(False, marks=compiled), True])
def test_the_head_reads_log_probs_and_entropy_off_and_leaves_probabilities(reference: bool, temperature: float) -> None:
    logits, targets = 4 * normal(5, 5003), torch.tensor([0, 1, 4096, 5002, 17])
    exact = torch.log_softmax(logits.double() / temperature, -1)
    logp, entropy, probs = torch.empty(5), torch.empty(5), logits.clone()
    function = ops.softmax_head_.reference if reference else ops.softmax_head_
    function(probs, targets, logp, entropy, temperature)
    torch.testing.assert_close(probs.double(), exact.exp(), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(logp.double(), exact.gather(1, targets[:, None])[:, 0], atol=1e-5, rtol=1e-6)
    torch.testing.assert_close(entropy.double(), -(exact.exp() * exact).sum(-1), atol=1e-5, rtol=1e-6)


@pytest.mark.parametrize("reference", [pytest.param(False, marks=compiled), True])
def test_slopes_of_the_logits_by_hand(reference: bool) -> None:
    """-2 * (0.25, 0.5, 0.25), with 1.5 = 2 (1 - 0.25) at the target."""
    probs = torch.tensor([[0.25, 0.5, 0.25]])
    function = ops.logit_slopes_.reference if reference else ops.logit_slopes_
    function(probs, torch.tensor([2]), torch.tensor([2.0]), torch.tensor([1.5]))
    assert probs.tolist() == [[-0.5, -1.0, 1.5]]


@compiled
@pytest.mark.parametrize("target", [-1, 8])
def test_a_target_outside_the_vocabulary_is_an_error_and_not_a_write_elsewhere(target: int) -> None:
    scores, targets, column = normal(2, 8), torch.tensor([0, target]), torch.empty(2)
    with pytest.raises(RuntimeError, match=f"target {target} of a vocabulary of 8"):
        ops.softmax_head_(scores, targets, column, column, 1.0)
    with pytest.raises(RuntimeError, match=f"target {target} of a vocabulary of 8"):
        ops.logit_slopes_(scores, targets, column, column)


@compiled
def test_a_choice_made_for_one_shape_reads_no_further_than_another() -> None:
    """Kernels are chosen by the last axes alone."""
    ops.gated(normal(4, 8), normal(4, 8), ops.SILU)
    with pytest.raises(RuntimeError, match="gate"):
        ops.gated(normal(4, 8), normal(1, 8), ops.SILU)
    ops.rotary(normal(1, 2, 3, 8), normal(1, 3, 8), normal(1, 3, 8))
    with pytest.raises(RuntimeError, match="angles"):
        ops.rotary(normal(1, 2, 3, 8), normal(1, 1, 8), normal(1, 1, 8))


@compiled
@pytest.mark.parametrize(("tokens", "outputs"), [(203, 130), (64, 64), (33, 1031), (333, 1031), (0, 70)])
def test_a_weight_gradient_is_the_product_with_the_transpose(
    tokens: int, outputs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pangu_rl.accelerators.ops.products.STRIP", 4096)
    grad, x = normal(tokens, outputs).bfloat16(), normal(tokens, WIDTH, seed=1).bfloat16()
    found, wanted = weight_gradient(grad, x), grad.float().t() @ x.float()
    # bfloat16 knows 2^-9 of a number; a row or a column in the wrong place would be off by as much as it is.
    torch.testing.assert_close(found.float(), wanted, rtol=2**-8, atol=2**-8)


def test_a_linear_layer_has_torchs_gradients() -> None:
    args = (normal(2, TOKENS, 66), normal(70, 66, seed=1), normal(70, seed=2))
    mine, theirs = run(ops.linear, args, (0, 1, 2)), run(torch.nn.functional.linear, args, (0, 1, 2))
    for x, y in zip(mine, theirs, strict=True):
        assert distance(x, y) < 1e-6


def test_a_linear_layer_learns_under_autocast() -> None:
    x, weight = normal(5, 66), normal(70, 66, seed=1).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        out = ops.linear(x, weight)
    out.float().sum().backward()
    assert (out.dtype, weight.grad.dtype) == (torch.bfloat16, torch.float32)
    # Of a sum the slope of each row is the sum of the inputs, each of which bfloat16 knows to 2^-9 of itself.
    torch.testing.assert_close(weight.grad[0], x.sum(0), atol=2**-6, rtol=2**-6)


def test_without_a_kernel_the_reference_computes_counts_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    kernel = Kernel(name="none", call=torch.neg, refuses=lambda x: None, missing=lambda: "no compiler")
    doubled = Operation("doubled", lambda x: 2 * x, {"cpu": kernel})
    ops.take_fallbacks()
    with caplog.at_level(logging.INFO, table.__name__):
        assert [doubled(torch.tensor([value])).item() for value in (1.0, 2.0)] == [2.0, 4.0]
    assert ops.take_fallbacks() == 2
    assert ops.take_fallbacks() == 0
    assert [record.getMessage() for record in caplog.records] == ["doubled on cpu, float32: plain torch (no compiler)"]
    del ops.OPERATIONS["doubled"]


@pytest.mark.parametrize(
    ("operation", "device", "args"),
    [
        (ops.rms_norm, "cpu", (normal(2, 8).half(), normal(8).half(), 1e-5)),
        (ops.rms_norm, "npu", (normal(2, 8).bfloat16(), normal(8), 1e-5)),
        (ops.rms_norm, "cuda", (normal(2, 8), normal(4), 1e-5)),
        (ops.gated, "cpu", (normal(2, 8), normal(2, 8).bfloat16(), ops.SILU)),
        (ops.gated, "npu", (normal(2, 8), normal(1, 8), ops.GELU_TANH)),
        (ops.gelu, "npu", (normal(2, 8).double(),)),
        (ops.grouped_matmul, "npu", (normal(2, 8), normal(1, 8, 4).bfloat16(), torch.tensor([2]))),
        (ops.grouped_matmul, "npu", (torch.zeros(1, 8), torch.zeros(1, 8, 65536), torch.tensor([1]))),
        (ops.rotary, "cpu", (normal(1, 2, 3, 8), normal(1, 3, 4), normal(1, 3, 4))),
        (ops.rotary, "npu", (normal(1, 1, 2, 896), normal(1, 2, 896), normal(1, 2, 896))),
        (weight_gradient, "cpu", (normal(4, 80).half(), normal(4, 8).half())),
        (ops.softmax_head_, "cpu", (normal(2, 8).half(), None, None, None, 1.0)),
    ],
)
def test_a_kernel_refuses_what_it_cannot_take(operation: Operation, device: str, args: tuple[object, ...]) -> None:
    assert operation.kernels[device].refuses(*args)
