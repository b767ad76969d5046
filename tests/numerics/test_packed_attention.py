"""Packed attention is the attention of each sequence alone: values, gradients, and no leak between neighbours."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import MistralConfig, MistralForCausalLM, PreTrainedModel

from pangu_rl.accelerators.attention.flash import FLASH
from pangu_rl.accelerators.attention.merged import over_trees
from pangu_rl.errors import ConfigError
from pangu_rl.learner.checks.packing_check import unpacked
from pangu_rl.learner.model import PackedCausalLM, PackTensors
from pangu_rl.learner.packed_attention import PACKED, attend_by, build_layout, packed_attention
from pangu_rl.records import Pack
from tests.unit.learner.builders import VOCABULARY, llama, plain_pack, tree_pack

ROUNDING = 2e-6
"""Float32 sums of some hundred terms of size 1, in another order."""


def log_probs(lm: PreTrainedModel, pack: Pack) -> Tensor:
    lm.set_attn_implementation(PACKED)
    batch = PackTensors.of(pack, "cpu")
    with attend_by(batch.layout):
        return PackedCausalLM(lm, temperature=1.0, chunk=7)(batch)[0]


def repeated(pack: Pack) -> tuple[Pack, np.ndarray]:
    """The same sequences without sharing, each with its prompt; and the order of its targets in the shared pack."""
    parts = list(unpacked(pack))
    sequences = [pack.token_ids[tokens] for tokens, _ in parts]
    starts = [len(tokens) - len(rows) for tokens, rows in parts]
    return plain_pack(sequences, starts), np.concatenate([rows for _, rows in parts])


def gradients(lm: PreTrainedModel, pack: Pack, weights: Tensor) -> dict[str, Tensor]:
    lm.zero_grad()
    (log_probs(lm, pack) * weights).sum().backward()
    return {name: parameter.grad.clone() for name, parameter in lm.named_parameters()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_changing_a_token_of_a_neighbour_leaves_log_probs_bit_equal(dtype: torch.dtype) -> None:
    lm = llama().to(dtype)
    pack = tree_pack([(6, [9, 4]), (11, [5, 7, 2])])
    second = pack.sequence_ids >= 2
    before = log_probs(lm, pack).detach().numpy()
    for place in (0, 5, 8, 18):  # prompt and completions of the first group, 19 tokens in all
        tokens = pack.token_ids.copy()
        tokens[place] = (tokens[place] + 1) % VOCABULARY
        after = log_probs(lm, replace(pack, token_ids=tokens)).detach().numpy()
        assert (after[second] == before[second]).all()
        assert (after[~second] != before[~second]).any()


def test_a_completion_does_not_see_its_siblings() -> None:
    lm = llama()
    pack = tree_pack([(6, [9, 4])])
    tokens = pack.token_ids.copy()
    tokens[8] += 1
    before, after = log_probs(lm, pack), log_probs(lm, replace(pack, token_ids=tokens))
    assert torch.equal(before[9:], after[9:])
    assert not torch.equal(before[:9], after[:9])


def test_packed_equals_unpacked_equals_padded() -> None:
    lm = llama()
    pack = tree_pack([(6, [9, 4]), (30, [5, 17]), (1, [3])])
    packed = log_probs(lm, pack)
    alone, order = repeated(pack)
    torch.testing.assert_close(log_probs(lm, alone), packed[order], atol=ROUNDING, rtol=0)

    sequences = [pack.token_ids[tokens] for tokens, _ in unpacked(pack)]
    longest = max(map(len, sequences))
    ids = torch.zeros(len(sequences), longest, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        ids[row, longest - len(sequence) :] = torch.from_numpy(sequence)
        mask[row, longest - len(sequence) :] = 1
    lm.set_attn_implementation("eager")
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    logits = lm(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False).logits
    padded = logits.log_softmax(-1)[:, :-1].gather(-1, ids[:, 1:, None])[..., 0]
    for row, (_, rows) in enumerate(unpacked(pack)):
        torch.testing.assert_close(padded[row, -len(rows) :], packed[rows], atol=ROUNDING, rtol=0)


def test_shared_prompt_has_the_gradient_of_repeated_prompts() -> None:
    lm = llama()
    pack = tree_pack([(12, [9, 4, 7, 1]), (5, [6, 6])])
    alone, order = repeated(pack)
    weights = torch.randn(len(pack.targets), generator=torch.Generator().manual_seed(0)) / len(pack.targets)
    shared = gradients(lm, pack, weights)
    unshared = gradients(lm, alone, weights[order])
    for name in shared:
        torch.testing.assert_close(shared[name], unshared[name], atol=1e-6, rtol=0)
    assert shared["model.layers.0.self_attn.k_proj.weight"].abs().max() > 1e-3


def test_gradient_checkpointing_recomputes_with_the_same_layout() -> None:
    lm, pack = llama(), tree_pack([(12, [9, 4])])
    weights = torch.ones(len(pack.targets))
    lm.set_attn_implementation(PACKED)
    batch, layers = PackTensors.of(pack, "cpu"), []
    lm.model.layers[0].register_forward_pre_hook(lambda *_: layers.append(1))

    def run() -> list[Tensor]:
        lm.zero_grad()
        with attend_by(batch.layout):
            (PackedCausalLM(lm, temperature=1.0, chunk=64)(batch)[0] * weights).sum().backward()
        return [parameter.grad.clone() for parameter in lm.parameters()]

    plain = run()
    lm.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    lm.train()
    for expected, found in zip(plain, run()):
        assert torch.equal(expected, found)
    assert len(layers) == 3, "once plain, then forwards and again in the backward pass"


def mistral(window: int | None) -> PreTrainedModel:
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=window,
    )
    return MistralForCausalLM(config).eval()


def test_a_window_hides_what_lies_further_back_across_the_tree() -> None:
    pack = tree_pack([(6, [9, 4]), (11, [5])])
    lm = mistral(window=7)
    packed = log_probs(lm, pack)
    lm.set_attn_implementation("eager")
    for tokens, rows in unpacked(pack):
        ids = torch.from_numpy(pack.token_ids[tokens])
        logits = lm(input_ids=ids.unsqueeze(0), use_cache=False).logits[0].log_softmax(-1)
        places = torch.from_numpy(np.searchsorted(tokens, pack.targets[rows]))
        torch.testing.assert_close(packed[rows], logits[places - 1, ids[places]], atol=ROUNDING, rtol=0)
    assert (log_probs(mistral(window=None), pack) - packed).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("option", "complaint"),
    [({"position_bias": torch.zeros(1)}, "position bias"), ({"is_causal": False}, None), ({"dropout": 0.1}, "dropout")],
)
def test_unsupported_attention_is_refused(option: dict[str, object], complaint: str | None) -> None:
    module = nn.Module()
    module.is_causal = False
    query, key = torch.zeros(1, 4, 3, 8), torch.zeros(1, 2, 3, 8)
    with attend_by(build_layout(tree_pack([(2, [1])]))), pytest.raises(ConfigError, match=complaint or "not causal"):
        packed_attention(module, query, key, key, None, **({"is_causal": True} | option))


def test_a_cap_that_the_kernel_lacks_is_refused_by_name() -> None:
    layout = build_layout(tree_pack([(2, [1])]), kernel=over_trees(FLASH))
    query, key = torch.zeros(1, 4, 3, 8), torch.zeros(1, 2, 3, 8)
    with attend_by(layout), pytest.raises(ConfigError, match=r"a soft cap of 50 .* by torch's flash attention"):
        packed_attention(nn.Module(), query, key, key, None, softcap=50.0)
