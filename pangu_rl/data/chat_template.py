"""The one place that turns chat messages into token ids, for prompts, for SFT rows, and for the engine alike.

A model's Jinja template writes its special tokens as text, so a question that spells `<|im_end|>` could end its own
turn. Here such spellings are broken by a guard character before rendering and restored after the rendered string is cut
at the special tokens that the template itself wrote; they are then tokenised as ordinary text. Text without such
spellings gives exactly the ids of `tokenizer.apply_chat_template`. The tags of grounding and reasoning are content,
never broken, and keep the token that a tokenizer has for them.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from pangu_rl.data.chat.dropped import dropped_turns, shape, trimmed
from pangu_rl.data.chat.rendered import RenderedTexts
from pangu_rl.data.chat.rendering import Rendering
from pangu_rl.data.chat.turns import Message, for_template, is_trained
from pangu_rl.data.chat.written import TemplateWriter, opened_block
from pangu_rl.errors import ConfigError, DataError
from pangu_rl.records import CONTENT_TAGS

Token = tuple[int, int, int]
"""Id, and the span of characters in the rendered conversation that it covers."""

TRIMMED = "rows: the chat template trims white space at the ends of contents"
SPELLED = "rows: tokens that the chat template writes stand in texts, and stay text"
SPELLED_ANSWER = "answers: tokens that the chat template writes stand in them, and stay text"

# Private-use characters: the first one that no message contains guards this conversation.
GUARDS = tuple(map(chr, range(0xE000, 0xE010)))


class ChatTemplate:
    """Messages -> ids under one tokenizer and one template."""

    def __init__(self, model_path: Path, template: str | None = None, *, trust_remote_code: bool = False) -> None:
        """`template` is the path of a Jinja file to use instead of the tokenizer's own; `trust_remote_code` lets the
        folder bring code for its tokenizer.

        Raises:
            ConfigError: no tokenizer in `model_path`, one without character offsets, no template, or no such file.
        """
        self.model_path = model_path
        self._name = f"the chat template of {model_path}"
        self.tokenizer = _load_tokenizer(model_path, trust_remote_code)
        self.template = _read_template(template) if template else None
        """Jinja to use instead of the tokenizer's own."""
        if not (self.template or self.tokenizer.chat_template):
            raise ConfigError(
                f"{model_path}: the tokenizer has no chat template; set model.chat_template to a Jinja file"
            )
        self.notes: Counter[str] = Counter()
        """How many rows, or answers of pairs, there was something to say of, which follows the number."""
        self._dropped: dict[tuple, tuple[str, ...]] = {}
        added = self.tokenizer.added_tokens_decoder
        self._special = {token.content: index for index, token in added.items() if token.special}
        self._special_pattern = _any_of(self._special)
        structure = {token: index for token, index in self._special.items() if token not in CONTENT_TAGS}
        self._structure_ids = frozenset(structure.values())
        self._structure_pattern = _any_of(structure)
        self._render = Rendering(self._name, self.tokenizer, self.template)
        self._writer = TemplateWriter(self._name, self._render, self._structure_pattern)

    def encode_prompt(self, messages: Sequence[Message], tools: Sequence[Message] = ()) -> tuple[int, ...]:
        """Ids of the conversation so far, ending where the assistant is to go on.

        Raises:
            DataError: the template refuses the messages (an unknown role, an order it does not allow), or leaves a turn
                or the tools out.
        """
        self._rendered.refuse(messages)
        guard, guarded, tools = self._guard(messages, tools)
        rendered = self._render(guarded, tools, prompt=True)
        self._require_written(guarded, tools, rendered, guard)
        return tuple(index for index, *_ in self._tokens(rendered, guard))

    def encode_conversation(
        self, messages: Sequence[Message], tools: Sequence[Message] = ()
    ) -> tuple[tuple[int, ...], tuple[bool, ...]]:
        """Ids of a whole conversation and, per id, whether the assistant writes it.

        The mask covers what a model prompted with the earlier messages has to write: the assistant's content and its
        end-of-turn token, in every assistant turn that is trained, and nothing else.

        Raises:
            DataError: the template refuses the messages, leaves something out, or rewrites earlier turns when later
                ones follow.
            ConfigError: the template writes no end of turn.
        """
        self._rendered.refuse(messages)
        guard, guarded, tools = self._guard(messages, tools)
        trained = [index for index, message in enumerate(messages) if is_trained(message)]
        rendered, turns = self._writer.written(guarded, tools, trained)
        self._require_written(guarded, tools, rendered, guard)
        tokens = self._tokens_from(rendered, guard, [start for start, _ in turns])
        mask = tuple(any(start < right and left < end for start, end in turns) for _, left, right in tokens)
        return tuple(index for index, *_ in tokens), mask

    def encode_response(
        self,
        messages: Sequence[Message],
        answer: str | Message,
        *,
        ended: bool = True,
        tools: Sequence[Message] = (),
    ) -> tuple[int, ...]:
        """Ids that the assistant writes behind the prompt `messages` to give `answer`, a text or a whole message, and
        its end-of-turn token if that `ended` by itself. Behind `encode_prompt(messages)` they are the ids of the whole
        conversation.

        Raises:
            DataError, ConfigError: as `encode_conversation`.
        """
        turn = answer if isinstance(answer, dict) else {"role": "assistant", "content": answer}
        self._rendered.refuse([turn])
        guard, guarded, tools = self._guard([*messages, turn], tools)
        rendered, [(start, end)] = self._writer.written(guarded, tools, [len(messages)], ended=ended)
        if guard in rendered[start:end]:
            self.notes[SPELLED_ANSWER] += 1
        tokens = self._tokens_from(rendered, guard, [start])
        ids = [index for index, left, right in tokens if left < end and start < right]
        return tuple(ids if ended else ids[:-1])

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids` without special tokens other than the tags of contents."""
        return self.tokenizer.decode([index for index in ids if index not in self._structure_ids])

    @cached_property
    def known_tokens(self) -> int:
        """Ids below this one are the tokenizer's; a model may have more rows, which pad its vocabulary."""
        return len(self.tokenizer)

    @cached_property
    def opened(self) -> str:
        """`<think>` where the prompt itself opens the block that the assistant's answer begins in; else empty."""
        return opened_block(self._render([{"role": "user", "content": "?"}], (), prompt=True))

    @cached_property
    def end_token(self) -> int | None:
        """Id of the token that ends the assistant's turn; None under a template that writes none."""
        try:
            return self._special[self._structure_pattern.findall(self._writer.end_of_turn)[-1]]
        except (ConfigError, DataError):
            return None

    @cached_property
    def _rendered(self) -> RenderedTexts:
        ends = {
            token for token, index in self._special.items() if index in (self.end_token, self.tokenizer.eos_token_id)
        }
        return RenderedTexts(self._render, self._structure_pattern, ends)

    def _guard(
        self, messages: Sequence[Message], tools: Sequence[Message]
    ) -> tuple[str, list[Message], tuple[Message, ...]]:
        """Break every spelling of a token of structure in the messages: `<|im_end|>` -> `<` + guard + `|im_end|>`."""
        text = json.dumps([messages, tools], ensure_ascii=False, default=str)
        guard = next((candidate for candidate in GUARDS if candidate not in text), None)
        if guard is None:
            raise DataError("a conversation holds all of U+E000 to U+E00F: remove these private-use characters")
        shown = [self._broken(message, guard) for message in for_template(messages)]
        return guard, shown, tuple(self._broken(tool, guard) for tool in tools)

    def _broken(self, value: Any, guard: str) -> Any:
        if isinstance(value, str):
            return self._structure_pattern.sub(lambda m: m[0][:1] + guard + m[0][1:], value)
        if isinstance(value, dict):
            return {key: self._broken(item, guard) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._broken(item, guard) for item in value]
        return value

    def _require_written(
        self, messages: Sequence[Message], tools: Sequence[Message], rendered: str, guard: str
    ) -> None:
        """
        Raises:
            DataError: the template leaves whole turns or the tools out.
        """
        rows = shape(messages, tools)
        if rows not in self._dropped:
            self._dropped[rows] = dropped_turns(messages, tools, self._render)
        if absent := self._dropped[rows]:
            raise DataError(
                f"{self._name} leaves out {' and '.join(absent)}: take it out of the row, or "
                "set model.chat_template to one that writes it"
            )
        if trimmed(messages, rendered):
            self.notes[TRIMMED] += 1
        if guard in rendered:
            self.notes[SPELLED] += 1

    def _tokens_from(self, rendered: str, guard: str, starts: Sequence[int]) -> list[Token]:
        """Tokens of a rendered conversation, cut at those `starts` of assistant turns where the prompt alone has other
        ones.

        A tokenizer may join the prompt's last character with the answer's first (a line break with a line break), or
        part the prompt's last line breaks before a word. No model reads or writes across that border.
        """
        tokens = list(self._tokens(rendered, guard))
        cut = [start for start in starts if self._differs(tokens, rendered, guard, start)]
        if not cut:
            return tokens
        return [
            (index, first + left, first + right)
            for first, end in itertools.pairwise([0, *cut, len(rendered)])
            for index, left, right in self._tokens(rendered[first:end], guard)
        ]

    def _differs(self, tokens: Sequence[Token], rendered: str, guard: str, start: int) -> bool:
        """Whether a token crosses `start`, or those before it are not the prompt's own; only runs of white space are
        parted by what follows them."""
        if any(left < start < right for _, left, right in tokens):
            return True
        if len(run := rendered[max(0, start - 2) : start]) < 2 or not run.isspace():
            return False
        head = max((match.end() for match in self._special_pattern.finditer(rendered, 0, start)), default=0)
        alone = [index for index, *_ in self._tokens(rendered[head:start], guard)]
        return alone != [index for index, left, right in tokens if head <= left and right <= start]

    def _tokens(self, rendered: str, guard: str) -> Iterator[Token]:
        """Tokens of a rendered conversation, whose only whole tokens of structure are the template's own."""
        if guard not in rendered:
            yield from self._encode(rendered, range(len(rendered) + 1), split_special_tokens=False)
            return
        start = 0
        parts = self._special_pattern.split(rendered)
        for text, special in itertools.zip_longest(parts[::2], parts[1::2]):
            kept = [start + i for i, character in enumerate(text) if character != guard]
            start += len(text)
            yield from self._encode(text.replace(guard, ""), [*kept, start], split_special_tokens=True)
            if special is not None:
                yield self._special[special], start, start + len(special)
                start += len(special)

    def _encode(self, text: str, positions: Sequence[int], *, split_special_tokens: bool) -> Iterator[Token]:
        """Tokens of `text`, whose characters stand at `positions` (one more for the end) of the rendered string."""
        encoded = self.tokenizer(
            text,
            add_special_tokens=False,
            return_offsets_mapping=True,
            split_special_tokens=split_special_tokens,
        )
        for index, (left, right) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
            yield index, positions[left], positions[right - 1] + 1 if right > left else positions[left]


def _any_of(spellings: Iterable[str]) -> re.Pattern[str]:
    """One group that matches any of the spellings, the longest first."""
    return re.compile(f"({'|'.join(map(re.escape, sorted(spellings, key=len, reverse=True))) or '(?!)'})")


def _load_tokenizer(model_path: Path, trust_remote_code: bool) -> Any:
    from transformers import AutoTokenizer

    from pretrain.auto import register_auto_classes

    if not model_path.is_dir():
        raise ConfigError(f"model.path {model_path} is no folder: `pangu-rl curate smollm2` prepares a cache:// model")
    register_auto_classes()  # else transformers warns of a multimodal folder as of an unknown model
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            model_path, local_files_only=True, trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError, KeyError) as error:
        reason = ": " + " ".join(str(error).split()) if any(model_path.glob("tokenizer*")) else ""
        raise ConfigError(
            f"model.path {model_path} holds no usable tokenizer{reason}; copy the model's own files into it, "
            "tokenizer.json and tokenizer_config.json"
        ) from None
    if not tokenizer.is_fast:
        raise ConfigError(f"model.path {model_path}: the tokenizer gives no character offsets; add a tokenizer.json")
    return tokenizer


def _read_template(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"model.chat_template {path}: {error.strerror or error}") from None
