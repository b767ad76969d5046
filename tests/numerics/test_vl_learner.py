"""A packed multimodal group is its sequences one by one, each with its own pictures through the model's own forward.

Everything in float32; the tolerances are those of float32 sums in another order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from pangu_rl.data.packs.batching import pack_conversations
from pangu_rl.data.packs.layout import TrainingRow
from pangu_rl.errors import DataError
from pangu_rl.learner.checks.packing_check import PackingCheck, check_packing
from pangu_rl.learner.checks.trial_pack import trial_pack
from pangu_rl.learner.model import PackedCausalLM, PackTensors
from pangu_rl.learner.packed_attention import PACKED, attend_by
from pangu_rl.learner.pictures import family_of_model
from pangu_rl.records import Group, Pack
from pretrain.models.configuration import MindVLConfig
from pretrain.models.mindvl import MindVLForConditionalGeneration
from pretrain.models.positions import multimodal_positions
from tests.unit.learner.vl_builders import (
    END,
    IMAGE,
    PLACEHOLDERS,
    START,
    TOKENS,
    VIDEO,
    group,
    packed,
    pangu_vl,
    picture,
)

WIDE, TALL, LARGE = picture("wide", 2, 3), picture("tall", 4, 1), picture("large", 5, 6)
"""5 x 6 cells are four windows of the tower, two of them cut."""
GRADIENT = 1e-5

MIXTURES = {
    "one picture": [group("one", [WIDE], [5, 3, 4])],
    "two sizes": [group("two", [WIDE, LARGE], [5, 3])],
    "text among pictures": [group("a", [TALL], [2, 6]), group("text", [], [4, 4]), group("b", [LARGE], [3])],
    "a picture of two prompts": [group("a", [WIDE, TALL], [4]), group("b", [TALL], [3, 5])],
    "two of one size": [group("a", [TALL, picture("tall too", 4, 1)], [4, 2])],
    "a picture twice in one prompt": [group("a", [WIDE, WIDE], [4, 2])],
}


def loss_of(logp: Tensor, advantages: Tensor, tokens: int) -> Tensor:
    """On-policy GRPO: the ratio is 1, its gradient that of the log-prob."""
    return -((logp - logp.detach()).exp() * advantages).sum() / tokens - 0.1 * logp.mean()


def run_packed(lm: PreTrainedModel, packs: Sequence[Pack]) -> tuple[Tensor, Tensor]:
    """(log-probs, advantages) of all targets, in the order of their sequences."""
    lm.set_attn_implementation(PACKED)
    logps, advantages, order = [], [], []
    for pack in packs:
        batch = PackTensors.of(pack, "cpu")
        with attend_by(batch.layout):
            logps.append(PackedCausalLM(lm, temperature=1.0, chunk=7)(batch)[0])
        advantages.append(batch.columns["advantages"])
        order.append(pack.sequence_ids)
    places = torch.from_numpy(np.argsort(np.concatenate(order), kind="stable"))
    return torch.cat(logps)[places], torch.cat(advantages)[places]


def run_alone(lm: PreTrainedModel, groups: Sequence[Group]) -> tuple[Tensor, Tensor]:
    """The same by the model's own forward: every completion behind its own prompt, with its own pictures."""
    lm.set_attn_implementation("sdpa")
    logps, advantages = [], []
    for one in groups:
        for completion, advantage in zip(one.completions, one.advantages, strict=True):
            ids = torch.tensor([[*one.prompt_token_ids, *completion.token_ids]])
            shown = {}
            if one.pictures:
                shown = {
                    "pixel_values": torch.from_numpy(np.concatenate([p.patches for p in one.pictures])),
                    "image_grid_thw": torch.tensor([p.grid for p in one.pictures]),
                }
            logits = lm(input_ids=ids, use_cache=False, **shown).logits[0, :-1]
            logp = logits.log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0][len(one.prompt_token_ids) - 1 :]
            logps.append(logp)
            advantages.append(torch.full_like(logp, advantage))
    return torch.cat(logps), torch.cat(advantages)


def gradients(lm: PreTrainedModel, logp: Tensor, advantages: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    lm.zero_grad()
    loss = loss_of(logp, advantages, len(logp))
    loss.backward()
    return loss.detach(), {name: parameter.grad.clone() for name, parameter in lm.named_parameters()}


@pytest.mark.parametrize("groups", MIXTURES.values(), ids=MIXTURES)
@pytest.mark.parametrize("pack_tokens", [10_000, 24])
def test_packed_groups_equal_their_sequences_alone(groups: list[Group], pack_tokens: int) -> None:
    """Packs of 24 tokens spread every group over several packs, each with its prompt and pictures."""
    lm = pangu_vl()
    packs = packed(groups, pack_tokens)
    together = gradients(lm, *run_packed(lm, packs))
    alone = gradients(lm, *run_alone(lm, groups))
    torch.testing.assert_close(together[0], alone[0], atol=1e-6, rtol=0)
    for name, expected in alone[1].items():
        torch.testing.assert_close(together[1][name], expected, atol=GRADIENT, rtol=0, msg=name)
    # A gradient of the tower that is lost would be far above the tolerance.
    for name in ("patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "vision_projection.fc1.bias"):
        assert alone[1][f"visual.{name}"].abs().max() > 50 * GRADIENT, name


def patches_encoded(lm: PreTrainedModel, packs: Sequence[Pack]) -> list[int]:
    """Patches of every call of the tower."""
    seen: list[int] = []
    handle = lm.visual.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(len(args[0] if args else kwargs["pixel_values"])), with_kwargs=True
    )
    run_packed(lm, packs)
    handle.remove()
    return seen


def test_the_tower_runs_once_per_group() -> None:
    """Eight completions share one picture of 30 tokens, which are 120 patches; alone they are eight times that."""
    lm, one = pangu_vl(), group("g", [LARGE], [4] * 8)
    assert patches_encoded(lm, packed([one])) == [120]
    singles = [
        replace(one, completions=[c], scores=[s], advantages=[a])
        for c, s, a in zip(one.completions, one.scores, one.advantages, strict=True)
    ]
    assert patches_encoded(lm, [pack for single in singles for pack in packed([single])]) == [120] * 8
    # Eight groups that ask about one picture, in one pack: it is encoded once all the same.
    assert patches_encoded(lm, packed(singles)) == [120]


def test_a_pack_without_pictures_runs_the_tower_on_a_blank_that_changes_nothing() -> None:
    lm, text = pangu_vl(), group("text", [], [4, 3])
    assert patches_encoded(lm, packed([text])) == [8]
    _, grads = gradients(lm, *run_packed(lm, packed([text])))
    assert all(not grad.any() for name, grad in grads.items() if name.startswith("visual."))
    assert grads["model.layers.0.self_attn.q_proj.weight"].any()


def test_gradient_checkpointing_of_tower_and_backbone_changes_no_bit() -> None:
    lm, groups = pangu_vl(), MIXTURES["two sizes"]
    [pack] = packed(groups)
    lm.set_attn_implementation(PACKED)
    batch, blocks, layers = PackTensors.of(pack, "cpu"), [], []
    lm.visual.blocks[0].register_forward_pre_hook(lambda *_: blocks.append(1))
    lm.model.layers[0].register_forward_pre_hook(lambda *_: layers.append(1))

    def run() -> list[Tensor]:
        lm.zero_grad()
        with attend_by(batch.layout):
            PackedCausalLM(lm, temperature=1.0, chunk=64)(batch)[0].sum().backward()
        return [parameter.grad.clone() for parameter in lm.parameters()]

    plain = run()
    assert (len(blocks), len(layers)) == (1, 1)
    lm.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    lm.train()
    for expected, found in zip(plain, run(), strict=True):
        assert torch.equal(expected, found)
    assert (len(blocks), len(layers)) == (3, 3)


def compare(lm: PreTrainedModel, pack: Pack | None = None) -> PackingCheck:
    lm.set_attn_implementation(PACKED)
    model = PackedCausalLM(lm, temperature=0.7, chunk=64)
    return check_packing(model, lm, trial_pack(lm) if pack is None else pack)


def test_check_packing_compares_with_the_models_own_forward_and_positions() -> None:
    [pack] = packed(MIXTURES["text among pictures"] + MIXTURES["two sizes"])
    found = compare(pangu_vl(), pack)
    assert found.tokens == 27
    assert max(found.order, found.plain) < 5e-6


def test_the_trial_pack_shows_pictures_in_a_sequence_and_in_a_prompt() -> None:
    lm, seen = pangu_vl(), []
    pack = trial_pack(lm)
    assert [pack.token_ids[place] for place in pack.picture_tokens] == [IMAGE] * 4
    assert len(pack.pictures) == 2 and not np.isin([START, IMAGE, END], pack.token_ids[pack.targets]).any()
    lm.visual.register_forward_hook(lambda *args: seen.append(1))
    found = compare(lm)
    assert max(found.order, found.plain) < 5e-6
    # Three packs, which encode their one picture once, and twice the model's own forward.
    assert len(seen) == 5


def test_mindvl_packs() -> None:
    """Qwen's tower without a last norm, one merger; Qwen3 with norms on queries and keys."""
    torch.manual_seed(0)
    small = {"hidden_size": 32, "num_heads": 2, "depth": 2, "intermediate_size": 48, "fullatt_block_indexes": [1]}
    text = {"model_type": "qwen3", "vocab_size": 97, "hidden_size": 64, "intermediate_size": 48, "head_dim": 32}
    layers = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "initializer_range": 0.1}
    tokens = {"image_token_id": IMAGE, "video_token_id": VIDEO, "vision_start_token_id": START}
    config = MindVLConfig(vision_config=small, text_config=text | layers, vision_end_token_id=END, **tokens)
    lm, groups = MindVLForConditionalGeneration(config).eval(), MIXTURES["two sizes"]
    for pack in (packed(groups)[0], None):
        found = compare(lm, pack)
        assert max(found.order, found.plain) < 5e-6
    assert {family_of_model(lm).part(name) for name, _ in lm.named_parameters()} == {"encoder", "connector", "language"}


def test_check_packing_of_a_video() -> None:
    """Two frames of one token each: start, frame, end, start, frame, end."""
    film = replace(picture("film", 1, 2), grid=(2, 2, 2))
    ids = [5, START, VIDEO, END, START, VIDEO, END, 6, START, *[IMAGE] * 6, END, 7, 8]
    row = TrainingRow(
        token_ids=ids,
        trained=[False] * 15 + [True] * (len(ids) - 15),
        positions=multimodal_positions(np.array(ids), [film.grid, WIDE.grid], TOKENS),
        pictures=(film, WIDE),
    )
    [pack] = pack_conversations([row], 100, PLACEHOLDERS)
    assert compare(pangu_vl(), pack).plain < 5e-6


def test_check_packing_refuses_wrong_positions() -> None:
    [pack] = packed(MIXTURES["two sizes"])
    flat = np.broadcast_to(np.arange(pack.num_tokens), (3, pack.num_tokens)).copy()
    with pytest.raises(DataError, match="packed log-probs of PanguVLForConditionalGeneration differ from its own"):
        compare(pangu_vl(), replace(pack, position_ids=flat))
