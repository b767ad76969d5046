"""Multiple choice by likelihood: the options' letters as first tokens -> **how the likeliest of them is drawn**."""

from __future__ import annotations

from string import ascii_uppercase

from pangu_rl.data.chat_template import ChatTemplate
from pangu_rl.errors import ConfigError
from pangu_rl.records import Prompt, SamplingParams


class OptionLetters:
    """The letters' tokens under one chat template, where an answer begins."""

    def __init__(self, template: ChatTemplate, benchmark: str) -> None:
        """
        Raises:
            ConfigError: the template opens a thinking block, or a letter is more than one token.
        """
        if template.opened:
            raise ConfigError(
                f"benchmark {benchmark}: likeliest_letter, and the model's chat template opens every answer with "
                f"{template.opened!r}: set model.chat_template to one that does not, or leave likeliest_letter out"
            )
        self._template = template
        self._benchmark = benchmark

    def sampling(self, prompt: Prompt) -> SamplingParams:
        """One token, greedy, of the letters of the prompt's options."""
        letters = ascii_uppercase[: len(prompt.extra["choices"])]
        return SamplingParams(temperature=0.0, max_new_tokens=1, allowed_token_ids=tuple(map(self._token, letters)))

    def _token(self, letter: str) -> int:
        ids = self._template.tokenizer.encode(letter, add_special_tokens=False)
        if len(ids) != 1:
            raise ConfigError(
                f"benchmark {self._benchmark}: likeliest_letter, and the tokenizer writes {letter} in {len(ids)} "
                "tokens: leave it out"
            )
        return ids[0]
