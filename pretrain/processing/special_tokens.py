"""Text that spells a special token stays text. Rendered conversation -> **ids**.

A chat template writes its special tokens as text, so a question that spells `<|image_pad|>` could ask for a picture of
its own. Such spellings are broken by a guard character before the template renders them; the rendered string is cut at
the special tokens left whole, which only the template can have written, and the rest is tokenised as ordinary text.
The grounding tags are content: they are never broken, and keep the token that a tokenizer has for them.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pangu_rl.errors import ConfigError, DataError
from pangu_rl.records import GROUNDING_TAGS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Grid = tuple[int, int, int]
GUARDS = tuple(map(chr, range(0xE000, 0xE010)))
"""Private-use characters; the first one that a conversation does not contain guards it."""

FAMILIES = (
    ("<|vision_start|>", "<|image_pad|>", "<|video_pad|>", "<|vision_end|>"),
    ("[unused18]", "[unused19]", "[unused32]", "[unused20]"),
)
"""How start, picture, video and end are spelled: in Qwen's tokenizers, and in the released openPangu tokenizer."""


class SpecialTokens:
    """The special tokens of one tokenizer, those of vision among them."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Raises ConfigError for a tokenizer whose special tokens include no family of vision tokens."""
        self.ids = {token.content: i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
        family = next((family for family in FAMILIES if all(token in self.ids for token in family)), None)
        if family is None:
            expected = ", or ".join(" ".join(family) for family in FAMILIES)
            raise ConfigError(f"the tokenizer of {tokenizer.name_or_path} has no special tokens {expected}: add them")
        self.start, self.image, self.video, self.end = (self.ids[token] for token in family)
        start, image, video, end = map(re.escape, family)
        self._pattern = _any_of(self.ids)
        self._structure = _any_of(self.ids.keys() - set(GROUNDING_TAGS))
        self._lone_pad = re.compile(f"(?<!{start})(?:{image}|{video})|(?:{image}|{video})(?!{end})")

    def break_all(self, messages: Any) -> tuple[str, Any]:
        """The guard, and the messages with the spelling of every special token but the grounding tags broken by it."""
        guard = _unused(_strings(messages))
        return guard, _mapped(messages, lambda text: self._structure.sub(lambda match: _broken(match, guard), text))

    def break_lone_pads(self, rendered: str) -> tuple[str, str]:
        """The guard, and the text with every placeholder broken that does not stand between start and end."""
        guard = _unused([rendered])
        return guard, self._lone_pad.sub(lambda match: _broken(match, guard), rendered)

    def encode(self, tokenizer: PreTrainedTokenizerBase, guard: str, rendered: str) -> list[int]:
        """Ids of a rendered conversation in which only whole spellings are special tokens. Nothing is added to it."""
        if guard not in rendered:
            return tokenizer(rendered, add_special_tokens=False)["input_ids"]
        ids: list[int] = []
        parts = self._pattern.split(rendered)
        for text, special in itertools.zip_longest(parts[::2], parts[1::2]):
            literal = text.replace(guard, "")
            if literal:
                ids += tokenizer(literal, add_special_tokens=False, split_special_tokens=True)["input_ids"]
            if special is not None:
                ids.append(self.ids[special])
        return ids

    def expand(self, ids: Sequence[int], images: Iterator[Grid], videos: Iterator[Grid]) -> list[int]:
        """Each placeholder repeated once per token of its picture, the frames of a video parted by end and start.

        The grids are (t, h, w) in patches, four of which make a token; one is taken per placeholder.
        """
        expanded: list[int] = []
        for token in ids:
            if token not in (self.image, self.video):
                expanded.append(token)
                continue
            t, h, w = map(int, next(images if token == self.image else videos))
            frame = [token] * (h * w // 4)
            expanded += frame + [self.end, self.start, *frame] * (t - 1)
        return expanded


def _any_of(spellings: Iterable[str]) -> re.Pattern[str]:
    return re.compile("(" + "|".join(map(re.escape, sorted(spellings, key=len, reverse=True))) + ")")


def _broken(match: re.Match[str], guard: str) -> str:
    return match[0][:1] + guard + match[0][1:]


def _unused(texts: Iterable[str]) -> str:
    seen = set().union(*texts)
    guard = next((candidate for candidate in GUARDS if candidate not in seen), None)
    if guard is None:
        raise DataError("a conversation holds all of U+E000 to U+E00F: remove these private-use characters")
    return guard


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _strings(item)


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: _mapped(item, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_mapped(item, change) for item in value]
    return value
