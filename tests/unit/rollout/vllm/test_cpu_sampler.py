"""Which requests the compiled sampler draws, and that all others come out as vLLM's own sampler draws them."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from pangu_rl.accelerators.native import load_native

pytest.importorskip("vllm")

pytestmark = [
    pytest.mark.slow,  # the import alone takes longer than a quick test may
    pytest.mark.skipif(not load_native(), reason="the kernels are not compiled here"),
]

ROWS, VOCABULARY = 3, 50


def metadata(**changes: Any) -> Any:
    """Of requests as rollouts make them: a seed each, a temperature, the log-prob of the token that is drawn."""
    from vllm.v1.sample.logits_processor import LogitsProcessors
    from vllm.v1.sample.metadata import SamplingMetadata

    penalties = {f"{name}_penalties": torch.zeros(ROWS) for name in ("frequency", "presence", "repetition")}
    plain = {
        "temperature": torch.full((ROWS,), 0.7),
        "all_greedy": False,
        "all_random": True,
        "top_p": None,
        "top_k": None,
        "generators": seeds(range(ROWS)),
        "max_num_logprobs": 0,
        "no_penalties": True,
        "prompt_token_ids": None,
        **penalties,
        "output_token_ids": [[] for _ in range(ROWS)],
        "allowed_token_ids_mask": None,
        "bad_words_token_ids": {},
        "logitsprocs": LogitsProcessors(),
    }
    return SamplingMetadata(**plain | changes)


def logits() -> torch.Tensor:
    return 2 * torch.randn(ROWS, VOCABULARY, generator=torch.Generator().manual_seed(11))


def vllm_sampler() -> Any:
    from vllm.v1.sample.sampler import Sampler

    return Sampler(logprobs_mode="processed_logprobs")


def both(**changes: Any) -> tuple[Any, Any]:
    """What our sampler and vLLM's own make of the same step; vLLM's noise comes from the seeds, or from torch's."""
    from rollout.vllm.cpu_sampler import CpuSampler

    found = []
    for sampler in (CpuSampler(vllm_sampler()), vllm_sampler()):
        torch.manual_seed(5)
        made = {name: value() if callable(value) else value for name, value in changes.items()}
        found.append(sampler(logits(), metadata(**made)))
    return tuple(found)


def seeds(rows: range, base: int = 0) -> dict[int, torch.Generator]:
    return {row: torch.Generator().manual_seed(base + row) for row in rows}


@pytest.mark.parametrize(
    "changes",
    [
        {"top_k": torch.tensor([2, 2, 2])},
        {"top_p": torch.full((ROWS,), 0.3)},
        {"generators": dict},
        {"generators": lambda: seeds(range(1, ROWS))},
        {"all_random": False, "all_greedy": True, "temperature": None, "generators": dict},
        {"max_num_logprobs": 4},
    ],
    ids=["top-k", "top-p", "no seed", "one row without a seed", "greedy", "more log-probs"],
)
def test_what_the_kernel_does_not_draw_is_vllms_to_the_bit(changes: dict[str, Any]) -> None:
    ours, theirs = both(**changes)
    assert torch.equal(ours.sampled_token_ids, theirs.sampled_token_ids)
    for name in ("logprob_token_ids", "logprobs", "selected_token_ranks"):
        assert torch.equal(getattr(ours.logprobs_tensors, name), getattr(theirs.logprobs_tensors, name))


def test_top_k_is_kept_by_the_way_back() -> None:
    """Else equality with vLLM's sampler could be that of two that ignore it."""
    best = logits().topk(2).indices
    for turn in range(20):
        ours, _ = both(top_k=torch.tensor([2, 2, 2]), generators=partial(seeds, range(ROWS), base=ROWS * turn))
        assert all(token in best[row] for row, token in enumerate(ours.sampled_token_ids.flatten()))


def test_a_seed_a_row_and_a_temperature_are_drawn_by_the_kernel() -> None:
    """By inversion, so by other noise than vLLM's, with the log-probs of logits / temperature and ranks from 1."""
    ours, _ = both()
    uniform = torch.stack([torch.rand(1, dtype=torch.float64, generator=metadata().generators[r]) for r in range(ROWS)])
    expected = (logits().double() / 0.7).log_softmax(-1)
    token = (expected.exp().cumsum(-1) > uniform).int().argmax(-1)
    assert ours.sampled_token_ids.flatten().tolist() == token.tolist()
    logp = expected.gather(-1, token[:, None])
    torch.testing.assert_close(ours.logprobs_tensors.logprobs.double(), logp, rtol=0, atol=1e-5)
    assert ours.logprobs_tensors.selected_token_ranks.tolist() == (expected >= logp).sum(-1).tolist()


def test_what_else_an_engine_asks_its_sampler_for_is_vllms() -> None:
    from rollout.vllm.cpu_sampler import CpuSampler

    inner = vllm_sampler()
    sampler = CpuSampler(inner)
    assert sampler.compute_logprobs == inner.compute_logprobs and sampler.logprobs_mode == "processed_logprobs"
    with pytest.raises(AttributeError):
        _ = sampler.not_there
