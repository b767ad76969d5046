"""The rows of pre-training that are no conversation: text with pictures and videos between; every word is trained."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from pangu_rl.data.fields.bad_row import BadRow, Row, is_blank, text_field
from pangu_rl.data.images import image_paths
from pangu_rl.data.media.columns import is_time_precise, video_paths


class Place(Enum):
    """What stands between two texts."""

    IMAGE = "image"
    VIDEO = "video"


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One row; pictures and videos are looked at, text is learnt."""

    uid: str
    parts: tuple[str | Place, ...]
    images: tuple[str, ...] = ()
    """Paths of the pictures, relative to the media root, in order."""
    videos: tuple[str, ...] = ()
    """Likewise of videos."""
    time_precise: bool = False
    source: str = ""


def is_document(row: Row) -> bool:
    """Whether a row has a `document`."""
    return row.get("document") is not None


def parse_document(row: Row, uid: str) -> Document:
    """A row whose `document` is text, or a list of texts, `{"type": "image"}` and `{"type": "video"}` parts; raises
    `BadRow`.

    Pictures, and behind them videos, of a document that is one text stand before it.
    """
    value, images, videos = row["document"], image_paths(row), video_paths(row)
    if isinstance(value, str):
        parts: tuple[str | Place, ...] = (*[Place.IMAGE] * len(images), *[Place.VIDEO] * len(videos), value)
    elif isinstance(value, list):
        parts = tuple(_part(part, index) for index, part in enumerate(value))
    else:
        raise BadRow(f"key document is {type(value).__name__}, neither text nor a list of parts")
    if (shown := parts.count(Place.IMAGE)) != len(images):
        raise BadRow(f"key images names {len(images)} pictures and document has {shown} image parts")
    if (shown := parts.count(Place.VIDEO)) != len(videos):
        raise BadRow(f"key videos names {len(videos)} videos and document has {shown} video parts")
    if not any(isinstance(part, str) and not is_blank(part) for part in parts):
        raise BadRow("the document has no text to learn")
    return Document(
        uid=uid,
        parts=parts,
        images=images,
        videos=videos,
        time_precise=is_time_precise(row),
        source=text_field(row, "source", ""),
    )


def _part(part: object, index: int) -> str | Place:
    if isinstance(part, str):
        return part
    if isinstance(part, dict):
        if part.get("type") in ("image", "video"):
            return Place(part["type"])
        if isinstance(part.get("text"), str):
            return part["text"]
    raise BadRow(f'document[{index}] is neither text nor {{"type": "image"}} or {{"type": "video"}}')
