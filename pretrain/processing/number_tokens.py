"""A tokenizer -> **one that reads numbers digit by digit, or whole** (openPangu-VL, table 5) -> models of parts."""

from __future__ import annotations

from typing import Literal

from tokenizers import AddedToken
from tokenizers.pre_tokenizers import Digits, Sequence
from transformers import PreTrainedTokenizerBase

from pangu_rl.errors import DataError

LARGEST = 999


def with_numbers(tokenizer: PreTrainedTokenizerBase, numbers: Literal["digits", "whole"]) -> PreTrainedTokenizerBase:
    """`digits`: no token holds two digits. `whole`: `8`, `008` and `123` are a token each where no letter or digit is
    next to them; these stand behind all others.

    Raises:
        DataError: `digits` of a tokenizer that is not one of the `tokenizers` library.
    """
    if numbers == "digits":
        if getattr(tokenizer, "backend_tokenizer", None) is None:
            raise DataError(
                f"{tokenizer.name_or_path}: numbers: digits needs a tokenizer with a tokenizer.json, and this is a "
                f"{type(tokenizer).__name__} without one: convert it, or leave numbers out"
            )
        backend = tokenizer.backend_tokenizer
        # Those of Llama's kind have none.
        own = [] if backend.pre_tokenizer is None else [backend.pre_tokenizer]
        backend.pre_tokenizer = Sequence([Digits(individual_digits=True), *own])
    else:
        spelled = dict.fromkeys(text for number in range(LARGEST + 1) for text in (str(number), f"{number:03d}"))
        tokenizer.add_tokens([AddedToken(text, single_word=True, normalized=False) for text in spelled])
    return tokenizer
