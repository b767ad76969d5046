"""Texts of a row that **a template has rendered already**: within a turn they would be trained as words of it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from functools import cached_property

from pangu_rl.data.chat.dropped import MARK, Render
from pangu_rl.data.chat.turns import Message, text_of
from pangu_rl.data.chat.written import first_difference
from pangu_rl.errors import DataError

ASKED, ANSWERED = MARK.format("asked"), MARK.format("answered")


class RenderedTexts:
    """Knows them by their ends under one template."""

    def __init__(self, render: Render, structure: re.Pattern[str], ends: Collection[str]) -> None:
        """`structure` matches the tokens that the template writes around turns, `ends` those that end an answer."""
        self._render = render
        self._structure = structure
        self._ends = tuple(ends)

    def refuse(self, messages: Iterable[Message]) -> None:
        """
        Raises:
            DataError: an assistant's text ends with a token that ends turns, or another turn's as the template's
                prompts do.
        """
        for message in messages:
            text = text_of(message).rstrip()
            answers = message["role"] == "assistant"
            if text and text.endswith(self._ends if answers else self._prompt_ends):
                way = "take that off" if answers else "give the messages that it was made of"
                raise DataError(
                    f"the {message['role']} turn ends with {text[-40:]!r}, which the chat template writes itself: its "
                    f"text was rendered before; {way}"
                )

    @cached_property
    def _prompt_ends(self) -> tuple[str, ...]:
        """What follows the user's text in a prompt, with and without words that begin the answer; none where no token
        marks it."""
        asked = {"role": "user", "content": ASKED}
        try:
            prompt = self._render([asked], (), prompt=True)
            through = self._render([asked, {"role": "assistant", "content": ANSWERED}], ())
        except DataError:
            return ()
        whole = prompt.rpartition(ASKED)[2]
        bare = whole[: first_difference(whole, through.rpartition(ASKED)[2])]
        return tuple({end.strip() for end in (whole, bare) if self._structure.search(end)})
