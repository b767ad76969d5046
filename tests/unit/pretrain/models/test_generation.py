"""Generation with pictures: caches, repeats, prompts that end early, several prompts at once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pangu_rl.errors import DataError
from pretrain.models.pangu_vl import PanguVLForConditionalGeneration
from tests.unit.pretrain.models.tiny import IMAGE, PAD, model, pictures, prompt

TWO = (2, (1, 4, 6), 3, (1, 4, 4), 2)


@pytest.fixture(scope="module")
def vlm() -> PanguVLForConditionalGeneration:
    return model()


def one_by_one(vlm: PanguVLForConditionalGeneration, ids: Tensor, count: int, **shown: Tensor) -> Tensor:
    """Greedy tokens without a cache: the whole sequence, pictures and all, for each token."""
    for _ in range(count):
        with torch.no_grad():
            logits = vlm(input_ids=ids, **shown).logits[:, -1]
        ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], 1)
    return ids


def padded(*rows: list[int]) -> dict[str, Tensor]:
    longest = max(map(len, rows))
    ids = torch.tensor([[PAD] * (longest - len(row)) + row for row in rows])
    lengths = torch.tensor([len(row) for row in rows])
    return {"input_ids": ids, "attention_mask": (torch.arange(longest) >= longest - lengths.unsqueeze(1)).long()}


@pytest.mark.parametrize("video", [False, True])
@pytest.mark.parametrize("use_cache", [True, False])
def test_generation_is_one_forward_per_token(
    vlm: PanguVLForConditionalGeneration, video: bool, use_cache: bool
) -> None:
    ids, grids = prompt(3, (3, 4, 2) if video else (1, 6, 4), 2, video=video)
    shown, ids = pictures(grids, video=video), torch.tensor([ids])
    found = vlm.generate(input_ids=ids, max_new_tokens=8, do_sample=False, use_cache=use_cache, **shown)
    assert torch.equal(found, one_by_one(vlm, ids, found.shape[1] - ids.shape[1], **shown))


def test_a_batch_equals_its_rows(vlm: PanguVLForConditionalGeneration) -> None:
    """Left padding, two pictures, none, and one; each row alone gives the same tokens."""
    prompts = [prompt(*TWO), prompt(4, seed=1), prompt((1, 2, 4), 1, seed=2)]
    shown = pictures([grid for _, own in prompts for grid in own])
    batch = padded(*(ids for ids, _ in prompts))
    found = vlm.generate(**batch, max_new_tokens=6, min_new_tokens=6, do_sample=False, **shown)
    start = 0
    for row, (ids, own) in enumerate(prompts):
        stop = start + sum(t * h * w for t, h, w in own)
        one = {"pixel_values": shown["pixel_values"][start:stop], "image_grid_thw": torch.tensor(own)} if own else {}
        alone = vlm.generate(torch.tensor([ids]), max_new_tokens=6, min_new_tokens=6, do_sample=False, **one)
        assert torch.equal(found[row, -6:], alone[0, -6:])
        start = stop


def test_several_completions_of_a_prompt_take_its_pictures(vlm: PanguVLForConditionalGeneration) -> None:
    prompts = [prompt(*TWO), prompt((1, 2, 4), 1, seed=2)]
    shown = pictures([grid for _, own in prompts for grid in own])
    batch = padded(*(ids for ids, _ in prompts))
    once = vlm.generate(**batch, max_new_tokens=5, min_new_tokens=5, do_sample=False, **shown)
    thrice = vlm.generate(
        **batch, max_new_tokens=5, min_new_tokens=5, do_sample=True, top_k=1, num_return_sequences=3, **shown
    )
    assert torch.equal(thrice, once.repeat_interleave(3, 0))


def test_a_cached_conversation_goes_on(vlm: PanguVLForConditionalGeneration) -> None:
    """Four tokens, then a second turn over the same cache, against all of it at once without one."""
    ids, grids = prompt(*TWO)
    shown, ids = pictures(grids), torch.tensor([ids])
    first = vlm.generate(
        input_ids=ids, max_new_tokens=4, min_new_tokens=4, do_sample=False, return_dict_in_generate=True, **shown
    )
    second = torch.cat([first.sequences, torch.tensor([[11, 12, 13]])], 1)
    found = vlm.generate(
        input_ids=second, past_key_values=first.past_key_values, max_new_tokens=4, min_new_tokens=4, do_sample=False
    )
    assert torch.equal(found, one_by_one(vlm, second, 4, **shown))


def test_a_forward_after_a_cached_prompt_goes_on_from_its_pictures(vlm: PanguVLForConditionalGeneration) -> None:
    prompts = [prompt(*TWO), prompt((1, 2, 4), 1, seed=2)]
    shown = pictures([grid for _, own in prompts for grid in own])
    batch = padded(*(ids for ids, _ in prompts))
    more = torch.tensor([[7, 8], [9, 10]])
    grown = {
        "input_ids": torch.cat([batch["input_ids"], more], 1),
        "attention_mask": torch.cat([batch["attention_mask"], torch.ones_like(more)], 1),
    }
    with torch.no_grad():
        expected = vlm(**grown, **shown).logits[:, -2:]
        cache = vlm(**batch, **shown, use_cache=True).past_key_values
        found = vlm(input_ids=more, attention_mask=grown["attention_mask"], past_key_values=cache).logits
    assert torch.allclose(found, expected, atol=1e-5)


def test_a_prompt_that_ends_within_a_picture(vlm: PanguVLForConditionalGeneration) -> None:
    """The last cell of a 1 x 3 picture at p stands at (p, p, p + 2): the next token at p + 3 on all axes."""
    ids, grids = prompt(2, (1, 2, 6))
    shown, ids = pictures(grids), torch.tensor([ids[:-1]])
    assert ids[0, -1] == IMAGE
    found = vlm.generate(input_ids=ids, max_new_tokens=5, min_new_tokens=5, do_sample=False, **shown)
    assert torch.equal(found, one_by_one(vlm, ids, 5, **shown))


def test_pictures_beside_embeddings_are_refused(vlm: PanguVLForConditionalGeneration) -> None:
    ids, grids = prompt(2, (1, 2, 2))
    embeds = vlm.get_input_embeddings()(torch.tensor([ids]))
    with pytest.raises(DataError, match="inputs_embeds and pictures"):
        vlm(inputs_embeds=embeds, **pictures(grids))
