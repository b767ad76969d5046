"""Messages -> **the conversation as the template writes it, and where in it the assistant's turns stand**."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property

from pangu_rl.data.chat.dropped import Render, missing_of_turn
from pangu_rl.data.chat.turns import Message, text_of
from pangu_rl.errors import ConfigError, DataError
from pangu_rl.records import THINKING

ANSWER = "ANSWERQ"
"""Stands for an answer where only what the template writes around it counts."""
PLACE = "place"
"""What a turn misses that the template writes elsewhere than behind its own prompt."""


class TemplateWriter:
    """Conversations under one template, with what it leaves out of a last turn put in by hand."""

    def __init__(self, name: str, render: Render, structure: re.Pattern[str]) -> None:
        """`name` is that of the template in errors; `structure` matches the tokens that it writes around turns."""
        self._name = name
        self._render = render
        self._structure = structure

    @cached_property
    def end_of_turn(self) -> str:
        """What the template writes behind an answer, up to the token that ends the turn.

        Raises:
            ConfigError: it writes none, or no answer.
        """
        _, closing = self._around_answer([{"role": "user", "content": "?"}], ())
        return closing[: self._end(closing, 0)]

    def written(
        self, messages: Sequence[Message], tools: Sequence[Message], trained: Sequence[int], *, ended: bool = True
    ) -> tuple[str, list[tuple[int, int]]]:
        """The rendered conversation, and the character span in it of what the assistant writes in each `trained` turn,
        its end-of-turn token included. An answer that is not `ended` was cut.

        What the template leaves out of a last turn, or writes elsewhere than behind its own prompt, is put there by
        hand: so a model that is asked would write it.

        Raises:
            DataError: the template refuses the messages, leaves something out of a turn, or rewrites earlier turns when
                later ones follow.
            ConfigError: it writes no end of turn.
        """
        last = len(messages) - 1
        rendered = self._last(messages, tools, ended) if last in trained else self._render(messages, tools)
        spans = []
        for turn in trained:
            before = self._render(messages[:turn], tools, prompt=True)
            through = rendered
            if turn != last:
                through = self._render(messages[: turn + 1], tools)
                missing = _missing(messages[turn], before, through)
                if missing and missing != PLACE:
                    raise self._left_out(f"turn {turn + 1}", missing)
            if not (through.startswith(before) and rendered.startswith(through)):
                raise self._moved(turn, last)
            spans.append((len(before), self._end(through, len(before))))
        return rendered, spans

    def _last(self, messages: Sequence[Message], tools: Sequence[Message], ended: bool) -> str:
        before = self._render(messages[:-1], tools, prompt=True)
        closed = next((opening for opening, closing in THINKING.items() if before.rstrip().endswith(closing)), "")
        message = self._unreasoned(messages[-1], closed) if closed else messages[-1]
        through = self._render([*messages[:-1], message], tools)
        opened = opened_block(before)
        if opened or through.startswith(before):
            missing = _missing(message, before, through)
            cut_in_thought = not ended and opened and THINKING[opened] not in text_of(message)
            if not missing and not cut_in_thought:
                return through
        else:
            # The prompt begins the answer with words that the template does not write in finished turns.
            opening, _ = self._around_answer(messages[:-1], tools)
            if not (before.startswith(opening) and through.startswith(opening)):
                return through
            answer = through[len(opening) :]
            missing = missing_of_turn(message, answer, opened=False)
            if not missing:
                return before + answer
        return before + self._by_hand(message, before, missing, ended) + self.end_of_turn

    def _unreasoned(self, message: Message, opening: str) -> Message:
        """The turn without an empty block, which its prompt has written and closed; `opening` begins it.

        Raises:
            DataError: it has reasoning.
        """
        head, closed, tail = text_of(message).partition(THINKING[opening])
        opened = closed and head.lstrip().startswith(opening)
        reasoning = message.get("reasoning_content") or (head.lstrip().removeprefix(opening) if opened else "")
        if reasoning.strip():
            raise DataError(
                f"{self._name} closes the reasoning before the answer, and the last turn has some ("
                f"{reasoning.strip()[:40]!r}): set data.reasoning to strip, or another model.chat_template"
            )
        return {**message, "content": tail.lstrip()} if opened else message

    def _around_answer(self, asked: Sequence[Message], tools: Sequence[Message]) -> tuple[str, str]:
        """What the template writes before and behind an answer.

        Raises:
            ConfigError: it writes no answer.
        """
        through = self._render([*asked, {"role": "assistant", "content": ANSWER}], tools)
        opening, written, closing = through.rpartition(ANSWER)
        if not written:
            raise ConfigError(
                f"{self._name} does not write what the assistant says: set model.chat_template to one that does"
            )
        return opening, closing

    def _by_hand(self, message: Message, before: str, missing: str, ended: bool) -> str:
        """The text of the turn as it goes on from its prompt.

        Raises:
            DataError: it is no text, or has no end of the block that the prompt opens.
        """
        text, opened = text_of(message), opened_block(before)
        closing = THINKING.get(opened, "")
        reasoning = message.get("reasoning_content")
        if message.get("tool_calls") or (reasoning and not opened):
            raise self._left_out("the last turn", missing)
        if reasoning:
            text = f"{reasoning}\n{closing}\n\n{text}"
        if opened and ended and closing not in text:
            raise DataError(
                f"{self._name} opens {opened} for the assistant, and the answer {text.strip()[:40]!r} has no "
                f"{closing}: write the reasoning before it, {opened}{closing} for none, or set "
                "model.chat_template"
            )
        begun = text.lstrip()
        if opened and begun.startswith(opened):
            return begun.removeprefix(opened).removeprefix(before[before.rindex(opened) + len(opened) :])
        return text

    def _left_out(self, turn: str, missing: str) -> DataError:
        return DataError(
            f"{self._name} leaves out the {missing} of {turn}, which would not be trained: set model.chat_template to "
            "one that writes it, data.reasoning to strip if it is reasoning, or take it out of the row"
        )

    def _moved(self, turn: int, last: int) -> DataError:
        if turn == last:
            return DataError(
                f"{self._name} does not write the last turn behind the prompt that asks for it: set "
                "model.chat_template to one that does"
            )
        return DataError(
            f"{self._name} writes turn {turn + 1} differently when others follow: split the conversation into rows "
            "that end with one assistant turn, set data.turns to last (or that turn's `train` to false), or set "
            "model.chat_template"
        )

    def _end(self, rendered: str, start: int) -> int:
        """Where the assistant's turn, which begins at `start` of `rendered` and is the last one, ends."""
        end = max((match.end() for match in self._structure.finditer(rendered, start)), default=0)
        if not end or rendered[end:].strip():
            raise ConfigError(
                f"{self._name} writes no end of turn behind an answer, so that a model could not learn to end: set "
                "model.chat_template to one that closes the assistant's turn with a special token"
            )
        return end


def opened_block(prompt: str) -> str:
    """`<think>`, or what else opens a block, if the prompt ends with it; else empty."""
    return next((opening for opening in THINKING if prompt.rstrip().endswith(opening)), "")


def _missing(message: Message, before: str, through: str) -> str:
    """What of the last turn of `through` does not stand behind `before`, its prompt; empty if all does."""
    opened = opened_block(before)
    if through.startswith(before):
        return missing_of_turn(message, through[len(before) :], opened)
    found = missing_of_turn(message, through[first_difference(before, through) :], opened)
    return found or (PLACE if opened else "")


def first_difference(before: str, through: str) -> int:
    pairs = enumerate(zip(before, through))
    return next((index for index, (a, b) in pairs if a != b), min(len(before), len(through)))
