"""A criterion is a prompt file; with an item it makes the chat messages of one request. Item -> **messages** -> scorer.

The first line of the file says which parts of an item the scorer sees, `parts: question, reference?, response`; an item
that lacks a part without a question mark is not asked. The rest tells what to grade and what the scores mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pangu_rl.errors import ConfigError
from rewards.scorers.records import ScoredItem
from rewards.scorers.untrusted import clean

PROMPTS = Path(__file__).parent / "prompts"
_OF_ANSWERS = ("hallucination", "similarity", "linguistic_quality", "consistency")
_OF_TEXTS = ("text_quality", "no_loops")
_OF_INTERLEAVED = ("question_answer", "picture_relevance", "complementarity", "information_density")
BUILT_IN = (*_OF_ANSWERS, *_OF_TEXTS, *_OF_INTERLEAVED)
TEXT_PARTS = ("question", "reference", "response")
PICTURES = "pictures"
CLOSING = "Grade the response by the criterion. Reply with the JSON object only."


@dataclass(frozen=True, slots=True)
class Criterion:
    """One thing to grade by."""

    name: str
    instructions: str
    """The system message, with the place of the delimiter still open."""
    parts: tuple[str, ...]
    """In the order in which the scorer sees them."""
    optional: frozenset[str]

    def asks(self, item: ScoredItem, sees_pictures: bool) -> bool:
        """Whether a scorer is asked about `item` at all. An empty response is a response."""
        return all(
            bool(getattr(item, part)) and (part != PICTURES or sees_pictures)
            for part in self.parts
            if part not in self.optional and part != "response"
        )

    def messages(
        self, item: ScoredItem, picture_urls: Sequence[str], *, delimiter: str, max_chars: int
    ) -> list[dict[str, Any]]:
        """System and user message; `delimiter` is fresh for every request that is sent."""
        content: list[dict[str, Any]] = []
        for part in self.parts:
            if part == PICTURES:
                content += [{"type": "image_url", "image_url": {"url": url}} for url in picture_urls]
            elif text := clean(getattr(item, part), max_chars):
                content.append(_text(block(part, text, delimiter)))
            elif part == "response":
                content.append(_text(block(part, "", delimiter)))
        content.append(_text(CLOSING))
        if not picture_urls:  # a plain string is what text-only models and servers take
            content = "\n\n".join(piece["text"] for piece in content)
        system = self.instructions.replace("{{nonce}}", delimiter)
        return [{"role": "system", "content": system}, {"role": "user", "content": content}]


def load_criterion(name: str) -> Criterion:
    """A built-in criterion, or the prompt file at a path that ends in `.md`.

    Raises:
        ConfigError: no such criterion or file, or a first line that names no parts.
    """
    if name not in BUILT_IN and not name.endswith(".md"):
        raise ConfigError(f"scorers: no criterion {name!r}: there are {', '.join(BUILT_IN)}, or path/to/prompt.md")
    path = PROMPTS / f"{name}.md" if name in BUILT_IN else Path(name).expanduser()
    try:
        first, _, body = path.read_text(encoding="utf-8").partition("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"scorers: criterion {name}: {type(error).__name__}: cannot read {path}") from None
    parts, optional = _parts(first, name)
    frame = (PROMPTS / "frame.md").read_text(encoding="utf-8").strip()
    instructions = frame.replace("{{criterion}}", body.strip().replace("{{nonce}}", ""))
    return Criterion(path.stem, instructions, parts, optional)


def _parts(line: str, name: str) -> tuple[tuple[str, ...], frozenset[str]]:
    key, _, listed = line.partition(":")
    written = [part.strip() for part in listed.split(",")]
    parts = tuple(part.removesuffix("?") for part in written)
    known = {*TEXT_PARTS, PICTURES}
    if key.strip() != "parts" or not set(parts) <= known or "response" not in parts or len(set(parts)) < len(parts):
        raise ConfigError(
            f"scorers: criterion {name}: its first line is {line[:80]!r}: write `parts:` and some of "
            f"{', '.join(sorted(known))}, each once, response among them"
        )
    return parts, frozenset(part.removesuffix("?") for part in written if part.endswith("?"))


def block(part: str, text: str, delimiter: str) -> str:
    return f"BEGIN {part} {delimiter}\n{text}\nEND {part} {delimiter}"


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}
