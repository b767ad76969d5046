"""The compiled sampler, `draw`, and the gate of halves, against torch in float64."""

from __future__ import annotations

import math

import pytest
import torch

from pangu_rl.accelerators.native import load_native

pytestmark = pytest.mark.skipif(not load_native(), reason="the kernels are not compiled here")

BF16_HALF_UNIT = 2.0**-8
"""Half a unit in the last place of bfloat16, relative: a number that is rounded once is no further off."""


def draw(logits: torch.Tensor, uniform: list[float], temperature: float = 1.0) -> tuple[torch.Tensor, ...]:
    rows = len(uniform)
    return torch.ops.pangu_rl.draw(
        logits.expand(rows, -1).contiguous(),
        torch.full((rows,), temperature),
        torch.tensor(uniform, dtype=torch.float64),
    )


def test_worked_by_hand() -> None:
    """Shares 0.1, 0.2, 0.3, 0.4 end at 0.1, 0.3, 0.6 and 1; the token of share 0.4 has rank 1, that of 0.1 rank 4."""
    token, logp, rank = draw(torch.tensor([1.0, 2.0, 3.0, 4.0]).log(), [0.0, 0.09, 0.11, 0.29, 0.31, 0.59, 0.61, 0.999])
    assert token.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert logp.exp().tolist() == pytest.approx([0.1, 0.1, 0.2, 0.2, 0.3, 0.3, 0.4, 0.4], rel=1e-6)
    assert rank.tolist() == [4, 4, 3, 3, 2, 2, 1, 1]


def test_temperature_divides_the_logits() -> None:
    """At temperature 2, odds 1 : 16 become 1 : 4."""
    token, logp, _ = draw(torch.tensor([1.0, 16.0]).log(), [0.19, 0.21], temperature=2.0)
    assert token.tolist() == [0, 1]
    assert logp.exp().tolist() == pytest.approx([0.2, 0.8], rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tokens_of_every_block_are_drawn_as_often_as_they_should(dtype: torch.dtype) -> None:
    """Evenly spread uniforms hit each token n p times but for its two ends, whatever the block it lies in."""
    logits = torch.randn(2500, generator=torch.Generator().manual_seed(3)).mul(2).to(dtype)
    count = 40_000
    token, logp, _ = draw(logits, [(index + 0.5) / count for index in range(count)])
    expected = logits.double().softmax(-1)
    found = torch.bincount(token, minlength=2500)
    assert (found - expected * count).abs().max() <= 1.01
    # float32 sums of 1,024 powers are right to 1e-6 or so.
    assert torch.allclose(logp.double(), expected.log()[token], atol=1e-5)


def test_what_cannot_be_drawn_is_not() -> None:
    logits = torch.tensor([-math.inf, 0.0, -math.inf])
    token, logp, _ = draw(logits, [0.0 + 1e-12, 0.5, math.nextafter(1.0, 0.0)])
    assert token.tolist() == [1, 1, 1]
    assert logp.tolist() == pytest.approx([0.0] * 3, abs=1e-6)


def test_a_row_does_not_depend_on_threads_or_neighbours() -> None:
    logits = torch.randn(8, 3000, generator=torch.Generator().manual_seed(5)).bfloat16()
    uniform = torch.rand(8, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    heat = torch.ones(8)
    threads = torch.get_num_threads()
    together = torch.ops.pangu_rl.draw(logits, heat, uniform)
    try:
        torch.set_num_threads(1)
        alone = [torch.ops.pangu_rl.draw(logits[i : i + 1], heat[:1], uniform[i : i + 1]) for i in range(8)]
    finally:
        torch.set_num_threads(threads)
    for part, parts in zip(together, zip(*alone, strict=True), strict=True):
        assert torch.equal(part, torch.cat(parts))


def test_the_gate_of_halves() -> None:
    x = torch.randn(5, 2 * 100, generator=torch.Generator().manual_seed(7)).bfloat16()
    gate, up = x.double().chunk(2, -1)
    expected = torch.nn.functional.silu(gate) * up
    found = torch.ops.pangu_rl.gated_halves(x)
    assert found.shape == (5, 100) and found.dtype == torch.bfloat16
    # The exponential is right to 2 units of float32, which moves a bfloat16 across a rounding edge at most.
    assert ((found.double() - expected).abs() <= BF16_HALF_UNIT * 1.01 * expected.abs()).all()


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(RuntimeError, match="for 2 rows"):
        torch.ops.pangu_rl.draw(torch.zeros(2, 4), torch.ones(1), torch.zeros(2, dtype=torch.float64))
    with pytest.raises(RuntimeError, match="float32 or bfloat16"):
        torch.ops.pangu_rl.draw(torch.zeros(2, 4).half(), torch.ones(2), torch.zeros(2, dtype=torch.float64))
