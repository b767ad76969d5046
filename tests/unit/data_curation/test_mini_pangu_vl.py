"""The start of the miniature pre-training: its learnt tokenizer, and that it is a small openPangu-VL."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from data_curation.sources.mini_pangu_vl import VOCABULARY, assemble, learn_tokenizer
from pangu_rl.records import GROUNDING_TAGS
from pretrain.processing.special_tokens import SpecialTokens

TEXTS = ["How many red circles are there?", "图中有几个红色圆？", "Find: blue star. Give its box."] * 50


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return learn_tokenizer(TEXTS)


def test_digits_and_grounding_tags_are_tokens_and_words_are_learnt(tokenizer: PreTrainedTokenizerBase) -> None:
    assert len(tokenizer) <= VOCABULARY
    assert tokenizer.tokenize("<|box_start|>(012,340)<|box_end|>") == [
        "<|box_start|>", "(", "0", "1", "2", ",", "3", "4", "0", ")", "<|box_end|>"
    ]  # fmt: skip
    assert tokenizer.tokenize("How many circles") == ["How", "Ġmany", "Ġcircles"]
    assert set(GROUNDING_TAGS).isdisjoint(SpecialTokens(tokenizer).ids)


@pytest.mark.parametrize("text", ["2 stars at 19:45", "红色圆 and naïve 🎈", "<|object_ref_start|>x<|object_ref_end|>"])
def test_any_text_comes_back(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_the_template_ends_a_turn_with_the_end_token(tokenizer: PreTrainedTokenizerBase) -> None:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "3"}]
    ids = tokenizer.apply_chat_template(turns, tokenize=True, return_dict=False)
    assert tokenizer.eos_token == "<|im_end|>" and ids.count(tokenizer.eos_token_id) == 2


def test_the_model_is_a_small_one_and_the_same_every_time(tokenizer: PreTrainedTokenizerBase) -> None:
    model, again = assemble(tokenizer), assemble(tokenizer)
    assert sum(parameter.numel() for parameter in model.parameters()) < 5e6
    assert model.config.model_type == "openpangu_vl" and model.visual.vision_projection is not None
    pairs = zip(model.parameters(), again.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
