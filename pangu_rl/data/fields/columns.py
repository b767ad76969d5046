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
_TRAINED = "tool function system instruction history reasoning thinking thought rationale weight loss mask developer"
_WORDS = frozenset(f"{word}{end}" for word in f"{_MEDIA} {_TRAINED}".split() for end in ("", "s")) | {"imgs", "input"}
_PLACES = (
    "path paths file files filename url urls uri uris bytes base64 b64 data value values list raw main input 0 1 2 3"
)
_PARTS = "prompt prompts content call calls message schema definitions available"
_BESIDE = frozenset(f"{_PLACES} {_PARTS}".split())
_WORD = re.compile(r"[A-Z]?[a-z]+|\d+|[A-Z]+(?![a-z])")
_FILE = re.compile(r"[^\s]{1,500}\.(?:png|jpe?g|webp|bmp|gif|tiff?|mp4|mov|mkv|webm|avi|wav|mp3|flac|ogg)", re.I)


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
        if _by_name(name) or _by_value(row[name]):
            raise BadRow(
                f"key {name} looks like media, tools or text to train on, and is not used: map it, such as "
                f"data.columns.{name}={_ours(name)}, or name it in data.pass_through; used are "
                f"{', '.join(sorted(USED[kind]))}"
            )
    return left


def _ours(name: str) -> str:
    """The column of ours that one of this name is most likely meant as."""
    words = {word.lower().removesuffix("s") for word in _WORD.findall(name)}
    if words & {"tool", "function"}:
        return "tools"
    if words & {"video", "clip"}:
        return "videos"
    return "prompt" if words & {"instruction", "input", "system", "history"} else "images"


def _is_size(name: str, value: Any) -> bool:
    values = value if isinstance(value, (list, tuple)) else [value]
    return name in SIZES and all(isinstance(one, (int, float)) for one in values)


def _nothing(value: Any) -> bool:
    return value is None or (isinstance(value, (str, list, dict, bytes)) and not value)


def _by_name(name: str) -> bool:
    words = [word.lower() for word in _WORD.findall(name)]
    return any(word in _WORDS for word in words) and all(word in _WORDS | _BESIDE for word in words)


def _by_value(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_by_value, value[:3]))
    if isinstance(value, dict):
        return isinstance(value.get("bytes"), bytes) or any(map(_by_value, value.values()))
    if isinstance(value, str):
        return value.startswith(("data:image/", "data:video/", "data:audio/")) or bool(_FILE.fullmatch(value))
    return isinstance(value, bytes)
