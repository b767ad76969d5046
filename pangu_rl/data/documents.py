"""The rows of pre-training that are no conversation: text with pictures between, and every word of it is trained."""

from __future__ import annotations

from dataclasses import dataclass

from pangu_rl.data.fields.bad_row import BadRow, Row, is_blank, text_field
from pangu_rl.data.images import image_paths


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One row; pictures are looked at, text is learnt."""

    uid: str
    parts: tuple[str | None, ...]
    """Text, and None where a picture stands."""
    images: tuple[str, ...] = ()
    """Paths of the pictures, relative to the media root, in order."""
    source: str = ""


def is_document(row: Row) -> bool:
    """Whether a row has a `document`."""
    return row.get("document") is not None


def parse_document(row: Row, uid: str) -> Document:
    """A row whose `document` is text, or a list of texts and `{"type": "image"}` parts; raises `BadRow`.

    Pictures of a document that is one text stand before it.
    """
    value, images = row["document"], image_paths(row)
    if isinstance(value, str):
        parts: tuple[str | None, ...] = (*(None for _ in images), value)
    elif isinstance(value, list):
        parts = tuple(_part(part, index) for index, part in enumerate(value))
    else:
        raise BadRow(f"key document is {type(value).__name__}, neither text nor a list of parts")
    if (shown := parts.count(None)) != len(images):
        raise BadRow(f"key images names {len(images)} pictures and document has {shown} image parts")
    if not any(part and not is_blank(part) for part in parts):
        raise BadRow("the document has no text to learn")
    return Document(uid=uid, parts=parts, images=images, source=text_field(row, "source", ""))


def _part(part: object, index: int) -> str | None:
    if isinstance(part, str):
        return part
    if isinstance(part, dict):
        if part.get("type") == "image":
            return None
        if isinstance(part.get("text"), str):
            return part["text"]
    raise BadRow(f'document[{index}] is neither text nor {{"type": "image"}}')
