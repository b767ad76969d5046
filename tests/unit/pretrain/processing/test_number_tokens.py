"""Numbers as digits or whole, against what a tokenizer of its own makes of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertJapaneseTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from pangu_rl.errors import DataError
from pretrain.processing.number_tokens import with_numbers

PUNCTUATION = pre_tokenizers.Punctuation()


def tokenizer(pre: pre_tokenizers.PreTokenizer | None = PUNCTUATION) -> PreTrainedTokenizerBase:
    """It knows letters, signs, digits, and `12` as a merge of two."""
    vocabulary = {sign: number for number, sign in enumerate("0123456789(),ax")} | {"12": 15}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[("1", "2")]))
    if pre is not None:
        backend.pre_tokenizer = pre
    return PreTrainedTokenizerFast(tokenizer_object=backend)


def pieces(tokenizer: PreTrainedTokenizerBase, text: str) -> list[str]:
    return tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])


def test_digits_are_tokens_of_their_own() -> None:
    assert pieces(tokenizer(), "(012,3)") == ["(", "0", "12", ",", "3", ")"]
    assert pieces(with_numbers(tokenizer(), "digits"), "(012,3)") == ["(", "0", "1", "2", ",", "3", ")"]


def test_digits_of_a_tokenizer_that_splits_nothing_before_its_merges() -> None:
    assert pieces(tokenizer(None), "(012,3)") == ["(", "0", "12", ",", "3", ")"]
    assert pieces(with_numbers(tokenizer(None), "digits"), "(012,3)") == ["(", "0", "1", "2", ",", "3", ")"]


def test_digits_of_a_tokenizer_in_python_are_refused(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[UNK]\n1\n12\n")
    slow = BertJapaneseTokenizer(str(tmp_path / "vocab.txt"), word_tokenizer_type="basic", name_or_path="folder")
    with pytest.raises(DataError, match=r"folder: numbers: digits needs .*BertJapaneseTokenizer"):
        with_numbers(slow, "digits")


def test_whole_numbers_are_one_token() -> None:
    """Where they stand by themselves; longer ones and those in words are what they were."""
    whole = with_numbers(tokenizer(), "whole")
    assert pieces(whole, "(012,3),(999,8)") == ["(", "012", ",", "3", ")", ",", "(", "999", ",", "8", ")"]
    assert pieces(whole, "1234") == ["12", "3", "4"] and pieces(whole, "a12x") == ["a", "12", "x"]
    assert len(whole) == 16 + 1000 + 100 - 11, "0 to 999, and 000 to 099, without the ten digits and 12 that were there"
    assert whole.decode(whole("(012,3)")["input_ids"]).replace(" ", "") == "(012,3)"
