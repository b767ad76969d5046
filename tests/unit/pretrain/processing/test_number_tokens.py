"""Numbers as digits or whole, against what a tokenizer of its own makes of them."""

from __future__ import annotations

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from pretrain.processing.number_tokens import with_numbers


def tokenizer() -> PreTrainedTokenizerBase:
    """It knows letters, signs, digits, and `12` as a merge of two."""
    vocabulary = {sign: number for number, sign in enumerate("0123456789(),ax")} | {"12": 15}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[("1", "2")]))
    backend.pre_tokenizer = pre_tokenizers.Punctuation()
    return PreTrainedTokenizerFast(tokenizer_object=backend)


def pieces(tokenizer: PreTrainedTokenizerBase, text: str) -> list[str]:
    return tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])


def test_digits_are_tokens_of_their_own() -> None:
    assert pieces(tokenizer(), "(012,3)") == ["(", "0", "12", ",", "3", ")"]
    assert pieces(with_numbers(tokenizer(), "digits"), "(012,3)") == ["(", "0", "1", "2", ",", "3", ")"]


def test_whole_numbers_are_one_token() -> None:
    """Where they stand by themselves; longer ones and those in words are what they were."""
    whole = with_numbers(tokenizer(), "whole")
    assert pieces(whole, "(012,3),(999,8)") == ["(", "012", ",", "3", ")", ",", "(", "999", ",", "8", ")"]
    assert pieces(whole, "1234") == ["12", "3", "4"] and pieces(whole, "a12x") == ["a", "12", "x"]
    assert len(whole) == 16 + 1000 + 100 - 11, "0 to 999, and 000 to 099, without the ten digits and 12 that were there"
    assert whole.decode(whole("(012,3)")["input_ids"]).replace(" ", "") == "(012,3)"
