"""What an operator sees of a row, and what it may say of it: **`Record`** -> `Keep`, `Drop`, `Edit`, `Split`, ..."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from pangu_rl.data.chat.turns import text_of
from pangu_rl.data.fields.bad_row import BadRow, Row
from pangu_rl.data.images import image_paths
from pangu_rl.errors import DataError
from pretrain.processing.embedded import kept_file
from pretrain.processing.media_root import read_inside
from pretrain.processing.pictures import MAX_BYTES, decode, read_header

NOTES = "curation"
"""Column that annotations go to: operator -> what it noted."""
Part = Literal["all", "asked", "answered"]
"""Of a row's text: all of it, what is asked (system and user turns), or what the model says (assistant turns,
`response`, `document`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """The row goes on as it is. `None` says the same."""

    values: Mapping[str, float] = field(default_factory=dict)
    """What was measured, for the report."""


@dataclass(frozen=True, slots=True)
class Drop:
    """The row goes to the side file."""

    reason: str
    """One of few, since they are counted."""
    detail: str = ""
    """What of this row; e.g. field and value."""
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Edit:
    """The row goes on as another one."""

    row: Row
    what: str
    """What was done, one of few."""


@dataclass(frozen=True, slots=True)
class Annotate:
    """The row goes on with notes in its column `curation`, for later operators and for whoever trains on it."""

    notes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Repeat:
    """The row goes on as so many rows, whose ids end in `#2`, `#3`, ..."""

    times: int
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Split:
    """The row goes on as other ones, such as the pages of a document, whose ids end in `/1`, `/2`, ..."""

    rows: Sequence[Row]
    what: str
    """What was done, one of few."""


Verdict = Keep | Drop | Edit | Annotate | Repeat | Split | None


@dataclass(slots=True)
class Record:
    """One row; operators read it and leave it as it is."""

    row: Row
    uid: str
    place: str
    """File and number, for messages."""
    media_root: Path | None = None
    _read: dict[str, Any] = field(default_factory=dict, repr=False)

    def text(self, part: Part = "all") -> str:
        """Texts of the row, or of the turns of one side, joined by newlines.

        Raises:
            BadRow: messages that are none.
        """
        return "\n".join(text for side, text in self.texts() if part in ("all", side))

    def texts(self) -> list[tuple[Part, str]]:
        """Each turn's side (`asked` or `answered`) and text; of a document the text alone."""
        row = self.row
        if row.get("document") is not None:
            return [("answered", _document_text(row["document"]))]
        found: list[tuple[Part, str]] = []
        messages = row["prompt"] if row.get("messages") is None and "prompt" in row else row.get("messages")
        if isinstance(messages, str):
            found.append(("asked", messages))
        elif messages is not None:
            found += map(_turn, _listed(messages))
        if isinstance(row.get("response"), str):
            found.append(("answered", row["response"]))
        if not found and isinstance(row.get("text"), str):
            found.append(("answered", row["text"]))
        return found

    @property
    def notes(self) -> Mapping[str, Any]:
        """What earlier operators noted."""
        return self.row.get(NOTES) or {}

    @property
    def images(self) -> tuple[str, ...]:
        """Paths of the row's pictures; raises `BadRow`."""
        if "images" not in self._read:
            self._read["images"] = image_paths(self.row)
        return self._read["images"]

    def content(self, path: str) -> bytes:
        """The bytes of a picture's file, read once.

        Raises:
            DataError: no such file, or one that may not be read.
        """
        if (key := ("bytes", path)) not in self._read:
            if self.media_root is None and kept_file(path) is None:
                raise DataError(f"{path}: media_root is not set: set it to the folder that images lie in")
            self._read[key] = read_inside(path, self.media_root or Path(), MAX_BYTES)
        return self._read[key]

    def header(self, path: str) -> Image.Image:
        """The picture that is not decoded yet; raises as `content`, and `DataError` for no picture."""
        return read_header(self.content(path), path)

    def picture(self, path: str) -> Image.Image:
        """The picture, RGB and upright, decoded once; raises as `header`, and `DataError` for broken pixels."""
        if (key := ("pixels", path)) not in self._read:
            self._read[key] = decode(self.content(path), path)
        return self._read[key]

    def forget(self) -> None:
        """Let go of what was read of its pictures."""
        self._read.clear()

    def with_row(self, row: Row) -> Record:
        """The same place with another row."""
        return Record(row, self.uid, self.place, self.media_root)


def _listed(messages: Any) -> list[Row]:
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise BadRow("key messages is no list of messages")
    return messages


def _turn(message: Row) -> tuple[Part, str]:
    side: Part = "answered" if message.get("role") == "assistant" else "asked"
    content = message.get("content")
    if not isinstance(content, str | list):
        raise BadRow("a message needs a content of text or parts")
    return side, text_of(message)


def _document_text(document: Any) -> str:
    if isinstance(document, str):
        return document
    if not isinstance(document, list):
        raise BadRow(f"key document is {type(document).__name__}, neither text nor a list of parts")
    return "\n".join(part if isinstance(part, str) else str(part.get("text") or "") for part in document if part)
