"""Attention over a tree of segments by every kernel, against one dense softmax in float64: values and gradients."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from pangu_rl.accelerators.attention.compiled import COMPILED
from pangu_rl.accelerators.attention.flash import FLASH
from pangu_rl.accelerators.attention.fusion import FUSION
from pangu_rl.accelerators.attention.kernel import AttentionKernel, Scores
from pangu_rl.accelerators.attention.merged import over_trees
from pangu_rl.accelerators.attention.plain import PLAIN
from pangu_rl.accelerators.native import load_native
from pangu_rl.accelerators.ops import take_fallbacks
from pangu_rl.learner.packed_attention import Layout, build_layout, tree_attention
from tests.ascend.cpu_operators import npu_operators
from tests.numerics.flash_on_cpu import flash_operators
from tests.unit.learner.builders import tree_pack

KERNELS = {
    "compiled": COMPILED,
    "plain": PLAIN,
    # Their operators are computed in float32 here.
    "flash": replace(over_trees(FLASH), dtypes=(torch.float32,)),
    "fusion": over_trees(FUSION),
}
TREES = {
    "group": ([0, 5, 9, 10, 17], [-1, 0, 0, 0]),
    "grandchild sees both": ([0, 4, 7, 12, 13, 20], [-1, 0, 1, 1, -1]),
    "longer than a tile": ([0, 300, 700, 730], [-1, 0, -1]),
    "an empty segment": ([0, 3, 3, 8, 9], [-1, 0, 1, -1]),
    "one token": ([0, 1], [-1]),
}
FOREST = (
    [0, *itertools.accumulate([129, 17, 16, 15, 112, 113, 33, 1, 144, 48])],
    [-1, 0, -1, -1, 3, -1, -1, -1, -1, -1],
)
"""So many trees that heads which share keys are computed together, and lengths beside those of vectors and tiles."""
RELATIVE = 1e-5
"""Of the norm (absolute where it is below 1), in float32: sums of 700 terms in another order come to some 1e-7."""


@pytest.fixture(scope="module", autouse=True)
def operators():
    assert load_native(), "make setup compiles the kernels"
    with flash_operators(), npu_operators():
        yield


@dataclass
class Case:
    """Random inputs for a tree in float64, and what a dense softmax makes of them."""

    layout: Layout
    scores: Scores
    inputs: list[Tensor]
    upstream: Tensor
    expected: list[Tensor]
    """Output, and the gradients of query, key, value and, if there are any, sinks."""


def case(
    tree: tuple[list[int], list[int]],
    scores: Scores,
    *,
    heads: tuple[int, int] = (4, 2),
    sizes: tuple[int, int] = (8, 8),
    sinks: bool = False,
    seed: int = 0,
) -> Case:
    starts, parents = tree
    pack = replace(tree_pack([(1, [])]), segment_starts=np.array(starts), segment_parents=np.array(parents))
    generator = torch.Generator().manual_seed(seed)
    shapes = [(starts[-1], heads[0], sizes[0]), (starts[-1], heads[1], sizes[0]), (starts[-1], heads[1], sizes[1])]
    shapes += [(heads[0],)] if sinks else []
    inputs = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    upstream = torch.randn(starts[-1], heads[0], sizes[1], generator=generator, dtype=torch.float64)
    exact = [x.clone().requires_grad_() for x in inputs]
    out = dense(*exact, allowed=visible(starts, parents, scores.window), scores=scores)
    return Case(build_layout(pack), scores, inputs, upstream, [out, *torch.autograd.grad(out, exact, upstream)])


def visible(starts: list[int], parents: list[int], window: int) -> Tensor:
    """bool [T, T]: does the token of the row see that of the column?"""
    allowed = torch.zeros(starts[-1], starts[-1], dtype=torch.bool)
    for segment, (start, end) in enumerate(itertools.pairwise(starts)):
        chain: list[int] = []
        ancestor = segment
        while (ancestor := parents[ancestor]) >= 0:
            chain = [*range(starts[ancestor], starts[ancestor + 1]), *chain]
        for token in range(start, end):
            chain.append(token)
            allowed[token, chain[-window:] if window else chain] = True
    return allowed


def dense(q: Tensor, k: Tensor, v: Tensor, sinks: Tensor | None = None, *, allowed: Tensor, scores: Scores) -> Tensor:
    group = q.shape[1] // k.shape[1]
    logits = torch.einsum("qhd,khd->hqk", q, k.repeat_interleave(group, 1)) * scores.scale
    if scores.cap:
        logits = scores.cap * torch.tanh(logits / scores.cap)
    logits = logits.masked_fill(~allowed, -torch.inf)
    if sinks is not None:
        logits = torch.cat([logits, sinks[:, None, None].expand(-1, len(q), 1)], -1)
    probs = logits.softmax(-1)[..., : len(k)]
    return torch.einsum("hqk,khd->qhd", probs, v.repeat_interleave(group, 1))


def results(case: Case, kernel: AttentionKernel, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    inputs = [x.to(dtype).requires_grad_() for x in case.inputs]
    layout = replace(case.layout, kernel=kernel)
    out = tree_attention(*inputs[:3], layout, case.scores, *inputs[3:])
    return [out.detach(), *torch.autograd.grad(out, inputs, case.upstream.to(dtype))]


def distances(found: list[Tensor], expected: list[Tensor]) -> list[float]:
    return [((f.double() - e).norm() / e.norm().clamp(min=1)).item() for f, e in zip(found, expected, strict=True)]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("tree", TREES)
def test_every_kernel_equals_one_softmax(kernel: str, tree: str) -> None:
    wanted = case(TREES[tree], Scores(scale=0.3))
    assert max(distances(results(wanted, KERNELS[kernel]), wanted.expected)) < RELATIVE


def test_a_dtype_that_the_kernel_does_not_take_runs_in_plain_torch_and_is_counted() -> None:
    wanted = case(TREES["group"], Scores(scale=0.3))
    take_fallbacks()
    assert max(distances(results(wanted, COMPILED, torch.float64), wanted.expected)) < RELATIVE
    assert take_fallbacks() == 1
    results(wanted, COMPILED)
    assert take_fallbacks() == 0


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("window", [1, 6, 250])
def test_windows_reach_across_the_tree(kernel: str, window: int) -> None:
    for tree in TREES.values():
        wanted = case(tree, Scores(scale=0.3, window=window))
        assert max(distances(results(wanted, KERNELS[kernel]), wanted.expected)) < RELATIVE


@pytest.mark.parametrize("kernel", KERNELS)
def test_sinks_take_their_share(kernel: str) -> None:
    wanted = case(TREES["grandchild sees both"], Scores(scale=0.3, window=9), sinks=True)
    assert max(distances(results(wanted, KERNELS[kernel]), wanted.expected)) < RELATIVE


@pytest.mark.parametrize("kernel", ["compiled", "plain"])
def test_caps_bend_scores_and_their_slopes(kernel: str) -> None:
    wanted = case(TREES["longer than a tile"], Scores(scale=2.0, cap=3.0, window=200))
    assert max(distances(results(wanted, KERNELS[kernel]), wanted.expected)) < RELATIVE


@pytest.mark.parametrize("kernel", ["compiled", "plain"])
def test_a_score_far_beyond_its_cap_is_the_cap(kernel: str) -> None:
    """The second token has scores of -1000 and 1000, capped -2 and 2: 1 / (1 + e^-4) = 0.98201 of it is itself."""
    query, key = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[-1.0, 0.0], [1.0, 0.0]])
    value = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    pack = replace(tree_pack([(1, [])]), segment_starts=np.array([0, 2]), segment_parents=np.array([-1]))
    layout = build_layout(pack, kernel=KERNELS[kernel])
    out = tree_attention(*(x.unsqueeze(1) for x in (query, key, value)), layout, Scores(scale=1000.0, cap=2.0))
    torch.testing.assert_close(out[:, 0, 0], torch.tensor([0.0, 0.9820138]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("kernel", ["compiled", "plain"])
@pytest.mark.parametrize("cap", [0.0, 3.0])
def test_what_is_not_a_number_is_not_hidden(kernel: str, cap: float) -> None:
    """Or a step would be taken that is to be skipped."""
    wanted = case(TREES["group"], Scores(scale=0.3, cap=cap))
    # With all of its bits set, as no computation makes it.
    wanted.inputs[0][2] = torch.tensor([-1], dtype=torch.int64).view(torch.float64)
    out, grad_query, grad_key, _ = results(wanted, KERNELS[kernel])
    assert out.isnan().any(-1).any(-1).nonzero().flatten().tolist() == [2]
    assert grad_query[2].isnan().all() and grad_key[:3].isnan().all()
    wanted = case(TREES["group"], Scores(scale=0.3, cap=cap))
    wanted.inputs[1][4] = torch.nan
    out, grad_query, *_ = results(wanted, KERNELS[kernel])
    assert out[:4].isfinite().all() and out[4:].isnan().all() and grad_query[4:].isnan().all()


def test_segments_that_are_not_those_of_the_tokens_are_an_error_and_not_a_read_elsewhere() -> None:
    tokens = torch.zeros(3, 1, 8)
    with pytest.raises(RuntimeError, match="2 segments that do not end at token 3"):
        torch.ops.pangu_rl.tree_attention(tokens, tokens, tokens, torch.tensor([0, 2, 4]), torch.tensor([-1, 0]), 1.0)
    with pytest.raises(RuntimeError, match=r"queries \[3, 3, 8\], keys \[3, 2, 8\]"):
        torch.ops.pangu_rl.tree_attention(
            *(torch.zeros(3, heads, 8) for heads in (3, 2, 2)), torch.tensor([0, 3]), torch.tensor([-1]), 1.0
        )
    for starts, parents in (([0, 5, 3], [-1, -1]), ([1, 2, 3], [-1, -1]), ([0, 2, 3], [-1, 1]), ([0, 2, 3], [-2, 0])):
        with pytest.raises(RuntimeError, match=r"segment \d from token \d to \d behind segment"):
            torch.ops.pangu_rl.tree_attention(tokens, tokens, tokens, torch.tensor(starts), torch.tensor(parents), 1.0)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    ("heads", "sizes"),
    [
        ((6, 6), (16, 16)),
        ((8, 1), (64, 64)),
        ((14, 2), (40, 40)),
        ((4, 4), (24, 16)),
        ((2, 1), (5, 7)),
        ((1, 1), (768, 8)),
    ],
    ids=["alone", "one key head", "seven a key head", "narrow values", "wide values", "wide heads"],
)
def test_shapes_of_heads(kernel: str, heads: tuple[int, int], sizes: tuple[int, int]) -> None:
    wanted = case(TREES["group"], Scores(scale=0.2), heads=heads, sizes=sizes)
    assert max(distances(results(wanted, KERNELS[kernel]), wanted.expected)) < RELATIVE


@pytest.mark.parametrize("heads", [(2, 1), (3, 1), (4, 1), (8, 1)])
def test_heads_that_share_keys_are_computed_together(heads: tuple[int, int]) -> None:
    """Two, three, four and four at once: `Shape` in the kernel. Windows end beside vectors and tiles."""
    bounds = [(0, 0.0), (2, 4.0), (15, 0.0), (16, 4.0), (17, 0.0), (33, 0.0), (100, 4.0), (2**32, 0.0)]
    for window, cap in bounds:
        wanted = case(FOREST, Scores(scale=0.3, window=window, cap=cap), heads=heads, sizes=(16, 16))
        assert max(distances(results(wanted, COMPILED), wanted.expected)) < RELATIVE, (window, cap)


@pytest.mark.parametrize("seed", range(8))
def test_random_trees_with_grouped_heads_and_windows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lengths = rng.choice([0, 1, 2, 31, 32, 33, 127, 128, 129, 200], size=rng.integers(1, 7))
    starts = [0, *np.cumsum([*lengths, 1]).tolist()]
    parents = [-1, *(int(rng.integers(-1, segment)) for segment in range(1, len(starts) - 1))]
    scores = Scores(scale=0.3, window=int(rng.choice([0, 3, 100])), cap=float(rng.choice([0.0, 4.0])))
    wanted = case((starts, parents), scores, heads=(6, int(rng.choice([1, 2, 3, 6]))), sizes=(32, 32), seed=seed)
    assert max(distances(results(wanted, COMPILED), wanted.expected)) < RELATIVE


@pytest.mark.parametrize("kernel", ["compiled", "plain"])
def test_bfloat16_rounds_inputs_and_probabilities_and_nothing_else(kernel: str) -> None:
    """A bf16 value is known to 2^-9 = 0.002 of itself; outputs carry one or two such roundings, slopes some more."""
    wanted = case(TREES["longer than a tile"], Scores(scale=0.125), sizes=(64, 64))
    exact = replace(wanted, inputs=[x.bfloat16().double() for x in wanted.inputs])
    reference = results(exact, PLAIN, torch.float64)
    assert max(distances(results(exact, KERNELS[kernel], torch.bfloat16), reference)) < 6e-3


@pytest.mark.parametrize(("size", "window", "cap"), [(2, 3, 0.0), (6, 0, 4.0), (24, 17, 0.0), (40, 100, 4.0)])
def test_bfloat16_of_every_shape(size: int, window: int, cap: float) -> None:
    """As above, for heads computed together, sizes that are no whole vectors, and odd numbers of hidden keys."""
    wanted = case(FOREST, Scores(scale=size**-0.5, window=window, cap=cap), heads=(3, 1), sizes=(size, size))
    exact = replace(wanted, inputs=[x.bfloat16().double() for x in wanted.inputs])
    reference = results(exact, PLAIN, torch.float64)
    assert max(distances(results(exact, COMPILED, torch.bfloat16), reference)) < 6e-3


@pytest.mark.skipif(not torch.cpu._is_avx512_bf16_supported(), reason="a processor without AVX-512 BF16")
def test_bfloat16_is_right_where_onednn_is_kept_from_its_instructions() -> None:
    """Products of bf16 do not run then: they are noticed before the first pass, and float32 takes their place."""
    one = f"{__file__}::{test_bfloat16_rounds_inputs_and_probabilities_and_nothing_else.__name__}[compiled]"
    others = f"{__file__}::{test_bfloat16_of_every_shape.__name__}"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", one, others]
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE", "PYTEST_ADDOPTS": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "5 passed" in done.stdout


def test_the_compiled_kernel_gives_the_same_bits_again_and_for_any_number_of_threads() -> None:
    threads = torch.get_num_threads()
    for tree in (TREES["longer than a tile"], FOREST):
        wanted = case(tree, Scores(scale=0.3), heads=(6, 2), sizes=(32, 32))
        runs = []
        try:
            for count in (1, 2, 2):
                torch.set_num_threads(count)
                runs.append(results(wanted, COMPILED, torch.bfloat16))
        finally:
            torch.set_num_threads(threads)
        for run in runs[1:]:
            assert all(torch.equal(one, other) for one, other in zip(runs[0], run, strict=True))


def test_what_is_kept_for_the_backward_pass_is_linear_in_the_tokens() -> None:
    def kept(tokens: int) -> int:
        wanted = case(([0, tokens], [-1]), Scores(scale=0.3), heads=(2, 1))
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.nbytes) or x, lambda x: x):
            inputs = [x.float().requires_grad_() for x in wanted.inputs]
            tree_attention(*inputs, wanted.layout, wanted.scores)
        return sum(sizes)

    assert kept(512) == 2 * kept(256)
