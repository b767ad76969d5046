"""The whole model: features in their places, loss, gradients, attention by name, what does not match."""

from __future__ import annotations

import logging

import pytest
import torch
from transformers import AttentionInterface

from pangu_rl.errors import DataError
from tests.unit.pretrain.models.tiny import IMAGE, VIDEO, config, model, pictures, prompt


def test_features_stand_in_their_places() -> None:
    """Stills and videos mixed: the embeddings that reach the backbone are those of the tower, in order."""
    vlm, seen = model(), {}
    stills, grids = prompt(2, (1, 4, 2), 1, (1, 2, 2))
    video, video_grids = prompt(1, (2, 2, 4), video=True, seed=1)
    ids = torch.tensor([stills + video])
    shown = pictures(grids) | pictures(video_grids, video=True, seed=1)
    hook = vlm.model.register_forward_pre_hook(lambda *args: seen.update(args[2]), with_kwargs=True)
    with torch.no_grad():
        vlm(input_ids=ids, **shown)
        images = vlm.encode_pictures(shown["pixel_values"], shown["image_grid_thw"])
        frames = vlm.encode_pictures(shown["pixel_values_videos"], shown["video_grid_thw"])
        expected = vlm.get_input_embeddings()(ids)
    hook.remove()
    expected[ids == IMAGE], expected[ids == VIDEO] = images, frames
    assert torch.equal(seen["inputs_embeds"], expected)
    assert seen.get("position_ids") is None


def test_loss_and_gradients_reach_every_parameter() -> None:
    vlm = model()
    ids, grids = prompt(3, (1, 4, 4), 4)
    labels = torch.tensor([ids])
    output = vlm(input_ids=labels, labels=labels, **pictures(grids))
    logprobs = torch.log_softmax(output.logits[0, :-1], -1)
    assert output.loss.item() == pytest.approx(-logprobs.gather(1, labels[0, 1:, None]).mean().item(), abs=1e-5)
    output.loss.backward()
    assert [name for name, p in vlm.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing_changes_no_gradient(reentrant: bool) -> None:
    ids, grids = prompt(3, (1, 4, 4), 4)
    labels = torch.tensor([ids])
    plain, saving = model().train(), model().train()
    saving.gradient_checkpointing_enable({"use_reentrant": reentrant})
    assert saving.visual.gradient_checkpointing
    for vlm in (plain, saving):
        vlm(input_ids=labels, labels=labels, use_cache=False, **pictures(grids)).loss.backward()
    for (name, expected), found in zip(plain.named_parameters(), saving.parameters(), strict=True):
        assert torch.allclose(expected.grad, found.grad, atol=1e-6), name


def test_hidden_states_are_those_of_the_forward() -> None:
    """Without a mask, repeats in a picture's positions must not read as packed sequences; eager has its own mask."""
    vlm = model()
    ids, grids = prompt(3, (1, 4, 6), 4)
    ids, shown = torch.tensor([ids]), pictures(grids)
    with torch.no_grad():
        vlm.set_attn_implementation("eager")
        expected = vlm(input_ids=ids, attention_mask=torch.ones_like(ids), **shown).logits
        vlm.set_attn_implementation("sdpa")
        embeds = vlm._embed(ids, dict.fromkeys(("pixel_values_videos", "video_grid_thw")) | shown)
        hidden = vlm.hidden_states(embeds, vlm.prompt_positions(ids, None, shown))
        assert torch.allclose(vlm.lm_head(hidden), expected, atol=1e-4)
        assert torch.allclose(vlm(input_ids=ids, **shown).logits, expected, atol=1e-4)


def test_attention_by_name_reaches_the_language_model_alone(caplog: pytest.LogCaptureFixture) -> None:
    calls = []

    def recorded(module, query, key, value, mask, **kwargs):
        calls.append(type(module).__name__)
        return query.transpose(1, 2).contiguous(), None

    AttentionInterface.register("recorded_here", recorded)
    vlm = model()
    ids, grids = prompt(3, (1, 4, 4))
    with caplog.at_level(logging.WARNING):
        vlm.set_attn_implementation("recorded_here")
    assert not caplog.records
    with torch.no_grad():
        before = vlm.encode_pictures(*pictures(grids).values())
        vlm(input_ids=torch.tensor([ids]), **pictures(grids))
    assert calls == ["LlamaAttention"] * 2
    vlm.set_attn_implementation("sdpa")
    assert vlm.config.text_config._attn_implementation == "sdpa"
    with torch.no_grad():
        assert torch.equal(before, vlm.encode_pictures(*pictures(grids).values()))


def test_more_embeddings() -> None:
    vlm = model(config(tied=True))
    vlm.resize_token_embeddings(110)
    assert vlm.lm_head.weight.shape == (110, 64)
    assert vlm.lm_head.weight is vlm.get_input_embeddings().weight
    assert vlm.config.text_config.vocab_size == 110


def test_given_positions_are_taken() -> None:
    vlm = model()
    ids = torch.tensor([[5, 6, 7, 8]])
    shifted = torch.arange(4).expand(3, 1, 4).clone()
    shifted[1, 0, 3] = 40
    with torch.no_grad():
        plain = vlm(input_ids=ids).logits
        assert torch.allclose(vlm(input_ids=ids, position_ids=torch.arange(4).unsqueeze(0)).logits, plain, atol=1e-6)
        found = vlm(input_ids=ids, position_ids=shifted).logits
    assert torch.allclose(found[:, :3], plain[:, :3], atol=1e-6)
    assert not torch.allclose(found[:, 3], plain[:, 3], atol=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ids: ids[:3] + ids[4:], "3 placeholder tokens for pictures of 4"),
        (lambda ids: [token for token in ids if token != IMAGE], "image_grid_thw has 1 more pictures"),
        (lambda ids: [*ids, IMAGE], "5 placeholder tokens for pictures of 4"),
    ],
)
def test_placeholders_and_pictures_that_do_not_match(change, message: str) -> None:
    ids, grids = prompt(1, (1, 4, 4), 1)
    with pytest.raises(DataError, match=message):
        model()(input_ids=torch.tensor([change(ids)]), **pictures(grids))


def test_pictures_that_are_not_there() -> None:
    ids, grids = prompt(1, (1, 4, 4), 1)
    with pytest.raises(DataError, match="4 placeholder tokens for pictures of 0"):
        model()(input_ids=torch.tensor([ids]))
    shown = pictures(grids)
    with pytest.raises(DataError, match="12 rows, but the grids of 1 pictures have 16 patches"):
        model()(input_ids=torch.tensor([ids]), **shown | {"pixel_values": shown["pixel_values"][:-4]})
