"""What transformers' families hide from a packed pass: noise of layers that train, windows, narrow values."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers.modeling_layers import GradientCheckpointingLayer

from pangu_rl.accelerators.collective import free_port
from pangu_rl.learner.model import PackedCausalLM, PackTensors, checkpoint_layers, without_dropout
from pangu_rl.learner.packed_attention import PACKED, attend_by
from pangu_rl.learner.parallel.sequence_parallel import SequenceGroup
from tests.unit.learner.builders import plain_pack
from tests.unit.learner.families import tiny

SEQUENCES = [list(range(3, 33)), list(range(40, 60))]
PACK = plain_pack(SEQUENCES, [1, 1])


def packed(lm: torch.nn.Module, sequence: SequenceGroup | None = None) -> Tensor:
    """The log-probs of all tokens but the first of each sequence, with the gradient of their sum in `lm`."""
    batch = PackTensors.of(PACK, "cpu", sequence)
    with attend_by(batch.layout):
        logp, _ = PackedCausalLM(lm, temperature=1.0, chunk=64)(batch)
        logp.sum().backward()
    return logp.detach()


def gradients(lm: torch.nn.Module) -> dict[str, Tensor]:
    return {name: p.grad for name, p in lm.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("opt", {"dropout": 0.5, "attention_dropout": 0.5}),
        ("phimoe", {"router_jitter_noise": 0.3, "attention_dropout": 0.5}),
        pytest.param("seed_oss", {"attention_dropout": 0.5, "residual_dropout": 0.5}, marks=pytest.mark.slow),
        pytest.param("biogpt", {"layerdrop": 0.5, "activation_dropout": 0.5}, marks=pytest.mark.slow),
    ],
)
def test_checkpointed_layers_run_twice_and_draw_nothing(family: str, options: dict[str, float]) -> None:
    """Also where dropout is a function that asks whether its module trains, and where a router draws its experts."""
    lm, twin = (without_dropout(tiny(family, attention=PACKED, **options)) for _ in range(2))
    checkpoint_layers(lm)
    runs = []
    layer = next(module for module in lm.modules() if isinstance(module, GradientCheckpointingLayer))
    next(layer.children()).register_forward_hook(lambda *_: runs.append(1))
    assert torch.equal(packed(lm), packed(twin))
    assert len(runs) == 2, "a checkpointed layer runs again in the backward pass"
    for name, gradient in gradients(twin).items():
        assert torch.equal(gradient, gradients(lm)[name]), name


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("phimoe", {}),
        ("qwen2_moe", {"use_sliding_window": True, "max_window_layers": 1}),
        pytest.param("mistral", {}, marks=pytest.mark.slow),
    ],
)
def test_a_window_that_is_in_the_mask_alone_is_kept(family: str, options: dict[str, object]) -> None:
    """Rows of 30 and 20 tokens with a window of 6, against the model's own eager attention, row by row. Without the
    window the log-probs are several tenths of a nat away."""
    windowed, own, full = (
        tiny(family, attention=attention, sliding_window=window, **options)
        for attention, window in ((PACKED, 6), ("eager", 6), ("eager", 256))
    )
    found = packed(windowed)

    def alone(lm: torch.nn.Module) -> Tensor:
        rows = []
        for ids in SEQUENCES:
            with torch.no_grad():
                logits = lm(torch.tensor([ids]), use_cache=False).logits[0]
            rows.append(logits.log_softmax(-1)[:-1].gather(1, torch.tensor(ids[1:]).unsqueeze(1)).squeeze(1))
        return torch.cat(rows)

    # float32, two layers: rounding alone.
    torch.testing.assert_close(found, alone(own), atol=2e-4, rtol=0)
    assert (found - alone(full)).abs().max() > 0.1


def test_values_narrower_than_keys_pass_the_exchange_of_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Multi-head latent attention (keys of 24, values of 16), exchanged within a group of one rank."""
    import torch.distributed as dist

    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(free_port()))
    begun = dist.is_initialized()
    if not begun:
        dist.init_process_group("gloo", rank=0, world_size=1)
    try:
        alone, shared = (tiny("deepseek_v3", attention=PACKED) for _ in range(2))
        group = SequenceGroup(group=dist.group.WORLD, size=1, rank=0)
        torch.testing.assert_close(packed(shared, group), packed(alone), atol=1e-6, rtol=0)
        for name, gradient in gradients(alone).items():
            torch.testing.assert_close(gradients(shared)[name], gradient, atol=1e-4, rtol=1e-4)
    finally:
        if not begun:
            dist.destroy_process_group()
