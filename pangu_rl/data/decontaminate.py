"""Is a prompt too like a held-out one? Prompts -> **which of them must not be trained on**.

The words of the user's turns are compared, without regard to case, spaces and all punctuation but the signs of
arithmetic. A prompt with pictures is only compared with held-out prompts that show one of the same pictures, since
questions repeat over pictures.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from pangu_rl.config.sampling import DecontaminationConfig
from pangu_rl.records import Prompt

_WORDS = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]|\d+(?:\.\d+)*|[^\W\d]+|[-+*/^=<>%]")
"""One character of a script without spaces, a number, a word, or a sign that makes another question of the numbers."""

NO_PICTURE = ""


class HeldOut:
    """The held-out prompts, indexed."""

    def __init__(
        self, prompts: Iterable[Prompt], config: DecontaminationConfig, digests: Mapping[str, str] | None = None
    ) -> None:
        """`digests`: path -> sha256 of the pictures and videos of these prompts and of those asked about."""
        self._config = config
        self._digests = {} if digests is None else digests
        self._texts: dict[str, set[tuple[str, ...]]] = defaultdict(set)
        self._ngrams: dict[str, set[tuple[str, ...]]] = defaultdict(set)
        for prompt in prompts:
            words = prompt_words(prompt)
            for picture in self._pictures(prompt):
                self._texts[picture].add(words)
                self._ngrams[picture].update(self._cut(words))

    def problem(self, prompt: Prompt) -> str | None:
        """`same_prompt` or `ngram_overlap`, or None for a clean prompt."""
        words = prompt_words(prompt)
        pictures = self._pictures(prompt)
        if any(words in self._texts.get(picture, ()) for picture in pictures):
            return "same_prompt"
        grams = self._cut(words)
        for picture in pictures:
            known = self._ngrams.get(picture, frozenset())
            # Nearly all rows share none, which is told without counting.
            if not known.isdisjoint(grams) and sum(map(known.__contains__, grams)) >= self._config.share * len(grams):
                return "ngram_overlap"
        return None

    def _pictures(self, prompt: Prompt) -> list[str]:
        return [self._digests[path] for path in (*prompt.images, *prompt.videos)] or [NO_PICTURE]

    def _cut(self, words: Sequence[str]) -> list[tuple[str, ...]]:
        size = self._config.ngram
        if size is None:
            return []
        return [tuple(words[start : start + size]) for start in range(len(words) - size + 1)]


def prompt_words(prompt: Prompt) -> tuple[str, ...]:
    """Words, numbers and signs of the user's turns, in lower case."""
    texts = [_text(message["content"]) for message in prompt.messages if message["role"] == "user"]
    text = unicodedata.normalize("NFKC", "\n".join(texts)).casefold()
    return tuple(_WORDS.findall(text))


def _text(content: str | list) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if part["type"] == "text")
