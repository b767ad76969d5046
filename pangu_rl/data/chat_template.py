"""The one place that turns chat messages into token ids, for prompts, for SFT rows, and for the engine alike.

A model's Jinja template writes its special tokens as text, so a question that spells `<|im_end|>` could end its own
turn. Here such spellings are broken by a guard character before rendering and restored after the rendered string is cut
at the special tokens that the template itself wrote; they are then tokenised as ordinary text. Text without such
spellings gives exactly the ids of `tokenizer.apply_chat_template`. The grounding tags are content, never broken, and
keep the token that a tokenizer has for them.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pangu_rl.errors import ConfigError, DataError
from pangu_rl.records import GROUNDING_TAGS

Message = dict[str, Any]
Token = tuple[int, int, int]
"""Id, and the span of characters in the rendered conversation that it covers."""

# Private-use characters: the first one that no message contains guards this conversation.
GUARDS = tuple(map(chr, range(0xE000, 0xE010)))


class ChatTemplate:
    """Messages -> ids under one tokenizer and one template."""

    def __init__(self, model_path: Path, template: str | None = None) -> None:
        """`template` is the path of a Jinja file to use instead of the tokenizer's own.

        Raises:
            ConfigError: no tokenizer in `model_path`, one without character offsets, no template, or no such file.
        """
        self.model_path = model_path
        self.tokenizer = _load_tokenizer(model_path)
        self.template = _read_template(template) if template else self.tokenizer.chat_template
        if not self.template:
            raise ConfigError(
                f"{model_path}: the tokenizer has no chat template; set model.chat_template to a Jinja file"
            )
        added = self.tokenizer.added_tokens_decoder
        self._special = {token.content: index for index, token in added.items() if token.special}
        self._special_pattern = _any_of(self._special)
        structure = {token: index for token, index in self._special.items() if token not in GROUNDING_TAGS}
        self._structure_ids = frozenset(structure.values())
        self._structure_pattern = _any_of(structure)

    def encode_prompt(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Ids of the conversation so far, ending where the assistant is to go on.

        Raises:
            DataError: the template refuses the messages (an unknown role, an order it does not allow).
        """
        guard, guarded = self._guard(messages)
        return tuple(index for index, *_ in self._tokens(self._render(guarded, prompt=True), guard))

    def encode_conversation(self, messages: Sequence[Message]) -> tuple[tuple[int, ...], tuple[bool, ...]]:
        """Ids of a whole conversation and, per id, whether the assistant writes it.

        The mask covers what a model prompted with the earlier messages has to write: the assistant's content and its
        end-of-turn token, in every assistant turn, and nothing else.

        Raises:
            DataError: the template refuses the messages, or rewrites earlier turns when later ones follow.
        """
        guard, guarded = self._guard(messages)
        rendered = self._render(guarded)
        turns = [self._assistant_span(guarded, i, rendered) for i, m in enumerate(guarded) if m["role"] == "assistant"]
        tokens = list(self._tokens(rendered, guard))
        mask = tuple(any(start < right and left < end for start, end in turns) for _, left, right in tokens)
        return tuple(index for index, *_ in tokens), mask

    def encode_response(self, messages: Sequence[Message], text: str, *, ended: bool = True) -> tuple[int, ...]:
        """Ids that the assistant writes behind the prompt `messages` to answer `text`, and its end-of-turn token if the
        answer `ended` by itself.

        Behind `encode_prompt(messages)` they are the ids of the whole conversation, unless its tokenisation joins the
        prompt's last character with the answer's first (a line break with a line break). No model writes across that
        border, so the answer is then tokenised for itself.

        Raises:
            DataError: as `encode_conversation`.
        """
        conversation = [*messages, {"role": "assistant", "content": text}]
        guard, guarded = self._guard(conversation)
        rendered = self._render(guarded)
        start, end = self._assistant_span(guarded, len(guarded) - 1, rendered)
        tokens = list(self._tokens(rendered, guard))
        answer = [index for index, left, right in tokens if left < end and start < right]
        if any(left < start < right for _, left, right in tokens):
            answer = [index for index, *_ in self._tokens(rendered[start:end], guard)]
        return tuple(answer if ended else answer[:-1])

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids` without special tokens other than the grounding tags."""
        return self.tokenizer.decode([index for index in ids if index not in self._structure_ids])

    def _guard(self, messages: Sequence[Message]) -> tuple[str, list[Message]]:
        """Break every spelling of a token of structure in the messages: `<|im_end|>` -> `<` + guard + `|im_end|>`."""
        text = json.dumps(messages, ensure_ascii=False, default=str)
        guard = next((candidate for candidate in GUARDS if candidate not in text), None)
        if guard is None:
            raise DataError("a conversation holds all of U+E000 to U+E00F: remove these private-use characters")
        return guard, [self._broken(message, guard) for message in messages]

    def _broken(self, value: Any, guard: str) -> Any:
        if isinstance(value, str):
            return self._structure_pattern.sub(lambda m: m[0][:1] + guard + m[0][1:], value)
        if isinstance(value, dict):
            return {key: self._broken(item, guard) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._broken(item, guard) for item in value]
        return value

    def _render(self, messages: Sequence[Message], *, prompt: bool = False) -> str:
        try:
            return self.tokenizer.apply_chat_template(
                list(messages), chat_template=self.template, tokenize=False, add_generation_prompt=prompt
            )
        except Exception as error:  # a template raises jinja2's errors, or any error of the Python it calls
            raise DataError(f"the chat template of {self.model_path} refuses the messages: {error}") from error

    def _assistant_span(self, messages: Sequence[Message], turn: int, rendered: str) -> tuple[int, int]:
        """Character span in `rendered` of what the assistant writes in `turn`, its end-of-turn token included."""
        before = self._render(messages[:turn], prompt=True)
        through = self._render(messages[: turn + 1])
        if not (through.startswith(before) and rendered.startswith(through)):
            raise DataError(
                f"the chat template of {self.model_path} writes turn {turn + 1} differently when others follow: split "
                "the conversation into rows that end with one assistant turn, or set model.chat_template"
            )
        closing = [match.end() for match in self._structure_pattern.finditer(through, len(before))]
        return len(before), closing[-1] if closing else len(through.rstrip())

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


def _load_tokenizer(model_path: Path) -> Any:
    from transformers import AutoTokenizer

    from pretrain.auto import register_auto_classes

    if not model_path.is_dir():
        raise ConfigError(f"model.path {model_path} is no folder: `make setup` prepares cache:// models")
    register_auto_classes()  # else transformers warns of a multimodal folder as of an unknown model
    try:
        tokenizer = AutoTokenizer.from_pretrained(model_path, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"model.path {model_path} holds no usable tokenizer: {' '.join(str(error).split())}"
        ) from None
    if not tokenizer.is_fast:
        raise ConfigError(f"model.path {model_path}: the tokenizer gives no character offsets; add a tokenizer.json")
    return tokenizer


def _read_template(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"model.chat_template {path}: {error}") from None
