"""Which columns a kind of row uses; the others are **refused by name** if they look like something to train on."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from pangu_rl.data.fields.bad_row import BadRow, Row

Kind = Literal["conversation", "pair", "prompt", "query", "document"]

_EVERY = ("id", "messages", "prompt", "images", "videos", "time_precise", "tools", "source")
USED: Mapping[Kind, frozenset[str]] = MappingProxyType(
    {
        "conversation": frozenset((*_EVERY, "response")),
        "pair": frozenset((*_EVERY, "chosen", "rejected", "chosen_score", "rejected_score", "rejected_ended")),
        "prompt": frozenset((*_EVERY, "answer", "answer_type")),
        "query": frozenset((*_EVERY, "answer", "answer_type", "response")),
        "document": frozenset(("id", "document", "images", "videos", "time_precise", "source")),
    }
)
_OF_MESSAGES = (
    *("messages", "prompt", "chosen", "rejected", "completion", "conversations"),
    *("input", "preferred_output", "non_preferred_output"),
)
"""In ours and in other systems' files."""
NOTED = "curation"
"""What the operators of a curation note, which no training reads."""
SIZES = ("frames", "duration")
"""Numbers of a row's videos, which its files tell themselves."""
_MEDIA = "image img picture pic photo video audio frame clip speech sound screenshot figure media pixel document pdf"
_TEXT = "instruction history reasoning thinking think thought rationale cot context passage persona"
_TRAINED = "tool function system chain weight loss mask developer"


def _with_plurals(words: str) -> frozenset[str]:
    return frozenset(f"{word}{end}" for word in words.split() for end in ("", "s"))


_TEXTS = _with_plurals(_TEXT)
"""Words that tell wherever they stand in the name of a column of text."""
_WORDS = _with_plurals(f"{_MEDIA} {_TEXT} {_TRAINED}") | {"input"}
"""Words that tell where the name has no others but those beside them."""
_PLACES = (
    "path paths file files filename url urls uri uris bytes base64 b64 data value values list raw main input 0 1 2 3"
)
_PARTS = "prompt prompts content call calls message schema definitions available"
_BESIDE = frozenset(f"{_PLACES} {_PARTS}".split())
_MEANT = {
    "images": _with_plurals("image img picture pic photo screenshot figure"),
    "videos": _with_plurals("video clip"),
    "tools": _with_plurals("tool function"),
    "prompt": _with_plurals("prompt question problem query instruction"),
    "answer": _with_plurals("answer solution label target gold truth ground"),
    "response": _with_plurals("response completion output reply answer"),
}
"""Our column -> words of names that other files have for the same."""
_WORD = re.compile(r"[A-Z]?[a-z]+|\d+|[A-Z]+(?![a-z])")
_PICTURES = "png|jpe?g|jfif|webp|bmp|gif|tiff?|heic|heif|avif|svg|ppm"
_CLIPS = "mp4|m4v|mov|mkv|webm|avi|mpe?g|wmv|flv|3gp|wav|mp3|m4a|aac|opus|wma|flac|ogg"
_FILE = re.compile(rf"[^\n]{{1,500}}\.(?:{_PICTURES}|{_CLIPS})(?:[?#]\S{{0,500}})?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Columns:
    """How the configuration says that columns are read."""

    renamed: Mapping[str, str] = field(default_factory=dict)
    """The file's name of a column -> ours."""
    passed: frozenset[str] = frozenset()
    """Columns, and keys of messages, that are known and not used."""

    def applied(self, row: Row) -> Row:
        """The row under our names, its messages without the keys that are passed over.

        Raises:
            BadRow: a column has both names.
        """
        for theirs, ours in self.renamed.items():
            if row.get(theirs) is not None and ours not in self.renamed and row.get(ours) is not None:
                raise BadRow(f"the row has both {theirs} and {ours}, which data.columns makes one")
        given = {self.renamed[name]: value for name, value in row.items() if name in self.renamed}
        row = {name: value for name, value in row.items() if name not in self.renamed}
        row |= {name: value for name, value in given.items() if value is not None or name not in row}
        for name in {"images", "videos"}.intersection(self.renamed.values()):
            if isinstance(row.get(name), (str, dict)):
                row[name] = [row[name]]
        if self.passed:
            row |= {name: self._without_passed(row[name]) for name in _OF_MESSAGES if name in row}
        return row

    def _without_passed(self, value: Any) -> Any:
        """A message or a list of them without the keys that are passed over; text as it is."""
        if isinstance(value, (list, tuple)):
            return [self._without_passed(message) for message in value]
        if not isinstance(value, dict):
            return value
        kept = {key: item for key, item in value.items() if key not in self.passed}
        return {key: self._without_passed(item) if key == "messages" else item for key, item in kept.items()}


def unused(row: Row, kind: Kind, passed: Collection[str] = ()) -> list[str]:
    """Columns with a value that this kind of row does not use and that look harmless.

    Raises:
        BadRow: one that looks like media, tools or text to train on.
    """
    left = [
        name
        for name, value in row.items()
        if name not in (*USED[kind], *passed, NOTED) and not _nothing(value) and not _is_size(name, value)
    ]
    for name in left:
        if _by_name(name) or _by_text(name, row[name]) or _by_value(row[name]):
            ours = meant(name, row, kind)
            way = f"map it, such as data.columns.{name}={ours}" if ours else "make it part of a column that is used"
            raise BadRow(
                f"key {name} looks like media, tools or text to train on, and is not used: {way}, or name it in "
                f"data.pass_through; used are {', '.join(sorted(USED[kind]))}"
            )
    return left


def meant(name: str, row: Row, kind: Kind) -> str | None:
    """The column of ours, of those that the row lacks, that one of this name holds the same as."""
    lacks = {column for column in USED[kind] if row.get(column) is None}
    if row.get("messages") is not None:
        lacks -= {"prompt", "response"}
    for column, known in _MEANT.items():
        if column in lacks and any(words & known and words <= known | _BESIDE for words in _words(name)):
            return column
    return None


def _is_size(name: str, value: Any) -> bool:
    values = value if isinstance(value, (list, tuple)) else [value]
    return name in SIZES and all(isinstance(one, (int, float)) for one in values)


def _nothing(value: Any) -> bool:
    return value is None or (isinstance(value, (str, list, dict, bytes)) and not value)


def _words(name: str) -> tuple[set[str], set[str]]:
    """Those of `imagePath` and those of `Complex_CoT`."""
    return {word.lower() for word in _WORD.findall(name)}, set(re.split(r"[\W_]+", name.lower())) - {""}


def _by_name(name: str) -> bool:
    return any(words & _WORDS and words <= _WORDS | _BESIDE for words in _words(name))


def _by_text(name: str, value: Any) -> bool:
    """Text of several words: `reasoning_effort` is one."""
    texts = value if isinstance(value, (list, tuple)) else [value]
    several = any(isinstance(text, str) and len(text.split(maxsplit=1)) > 1 for text in texts[:3])
    return several and any(words & _TEXTS for words in _words(name))


def _by_value(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_by_value, value[:3]))
    if isinstance(value, dict):
        return isinstance(value.get("bytes"), bytes) or any(map(_by_value, value.values()))
    if isinstance(value, str):
        return value.startswith(("data:image/", "data:video/", "data:audio/")) or bool(_FILE.fullmatch(value))
    return isinstance(value, bytes)
