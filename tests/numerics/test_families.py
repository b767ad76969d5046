"""The gradient of packed log-probs is that of the model's own forward, in families that compute something of their own:
heads that scale or cap, experts, sinks, values of another width than keys."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from pangu_rl.learner.checks.packing_check import unpacked
from pangu_rl.learner.checks.trial_pack import trial_pack
from pangu_rl.learner.model import PackedCausalLM, PackTensors
from pangu_rl.learner.packed_attention import PACKED, attend_by
from pangu_rl.records import Pack
from tests.unit.learner.families import tiny

TEMPERATURE = 0.7


def packed_loss(lm: PreTrainedModel, pack: Pack) -> Tensor:
    lm.set_attn_implementation(PACKED)
    batch = PackTensors.of(pack, "cpu")
    with attend_by(batch.layout):
        loss = -PackedCausalLM(lm, temperature=TEMPERATURE, chunk=16)(batch)[0].mean()
        loss.backward()
    return loss.detach()


def own_loss(lm: PreTrainedModel, pack: Pack) -> Tensor:
    """Every sequence alone, full logits, torch's own autograd."""
    lm.set_attn_implementation("eager")
    logps = []
    for tokens, rows in unpacked(pack):
        ids = torch.from_numpy(pack.token_ids[tokens])
        logp = (lm(input_ids=ids[None], use_cache=False).logits[0] / TEMPERATURE).log_softmax(-1)
        # Targets are the last of a sequence, one after the other.
        logps.append(logp[-len(rows) - 1 : -1].gather(1, ids[-len(rows) :, None])[:, 0])
    loss = -torch.cat(logps).mean()
    loss.backward()
    return loss.detach()


@pytest.mark.parametrize(
    "family",
    [
        *("granite", "cohere2", "gemma2", "nanochat", "qwen3_moe"),
        *("minicpm3", "deepseek_v3", "gpt_oss"),
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("cohere", "granitemoe", "hyperclovax")),
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("gemma4_text", "gemma3n_text", "deepseek_v2")),
        pytest.param("glm4_moe_lite", marks=pytest.mark.slow),
    ],
)
def test_gradients_are_the_models_own(family: str) -> None:
    lm = tiny(family)
    pack = trial_pack(lm)
    ours = packed_loss(lm, pack)
    found = {name: parameter.grad for name, parameter in lm.named_parameters()}
    lm.zero_grad(set_to_none=True)
    theirs = own_loss(lm, pack)
    torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=0)
    for name, parameter in lm.named_parameters():
        if parameter.grad is None:
            assert found[name] is None or not found[name].any(), name
            continue
        # Float32 sums in another order, of embeddings times 4; a slope or a scale that is left out changes every digit.
        limit = 1e-4 * parameter.grad.abs().max().item() + 1e-8
        torch.testing.assert_close(found[name], parameter.grad, atol=limit, rtol=0, msg=name)
