"""A tokenizer -> **one that reads numbers digit by digit, or whole** (openPangu-VL, table 5) -> models of parts."""

from __future__ import annotations

from typing import Literal

from tokenizers import AddedToken
from tokenizers.pre_tokenizers import Digits, Sequence
from transformers import PreTrainedTokenizerBase

LARGEST = 999


def with_numbers(tokenizer: PreTrainedTokenizerBase, numbers: Literal["digits", "whole"]) -> PreTrainedTokenizerBase:
    """`digits`: no token holds two digits. `whole`: `8`, `008` and `123` are a token each where no letter or digit is
    next to them; these stand behind all others."""
    if numbers == "digits":
        backend = tokenizer.backend_tokenizer
        backend.pre_tokenizer = Sequence([Digits(individual_digits=True), backend.pre_tokenizer])
    else:
        spelled = dict.fromkeys(text for number in range(LARGEST + 1) for text in (str(number), f"{number:03d}"))
        tokenizer.add_tokens([AddedToken(text, single_word=True, normalized=False) for text in spelled])
    return tokenizer
