"""The pictures and videos that a row names, each with its place. Row -> **messages with parts, paths of both kinds**.

A row with videos has its contents as parts from here on: one `{"type": "video"}` part for each entry of `videos`, one
`{"type": "image"}` part for each of `images`. In a row of plain strings they stand where the text has `<video>` and
`<image>`, or else pictures and then videos before the text of the first user message.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pangu_rl.data.fields.bad_row import BadRow, Row
from pangu_rl.data.fields.columns import Columns
from pangu_rl.data.fields.markers import IMAGE_PART, MARKER, VIDEO_MARKER, VIDEO_PART, markers, with_parts
from pangu_rl.data.files.rows import checked_row, numbered_rows
from pangu_rl.data.images import check_image_parts, image_paths, named_or_kept
from pangu_rl.errors import DataError

Message = dict[str, Any]
Messages = tuple[Message, ...]


def media_of(row: Row, messages: Sequence[Message]) -> tuple[Messages, tuple[str, ...], tuple[str, ...]]:
    """(messages, paths of pictures, paths of videos), both in the order of their places.

    Raises:
        BadRow: a column that is no list of paths; more places than pictures or videos, or fewer; one in an assistant's
            turn; no user message to put them in.
    """
    images, videos = image_paths(row), video_paths(row)
    if videos and not any(isinstance(message["content"], list) for message in messages):
        messages = _with_places(messages, len(images), len(videos))
    check_image_parts(messages, images)
    _check_video_parts(messages, videos)
    return tuple(messages), images, videos


def video_paths(row: Row) -> tuple[str, ...]:
    """The row's `videos`, or none: paths of files or of folders of frames, and names of videos that it holds itself, as
    bytes beside a path.

    Raises:
        BadRow: an entry that is neither.
    """
    videos = row.get("videos")
    if videos is None:
        return ()
    if not isinstance(videos, (list, tuple)):
        raise BadRow("key videos is no list of paths")
    return tuple(_video(video, index) for index, video in enumerate(videos))


def is_time_precise(row: Row) -> bool:
    """The row's `time_precise`: whether its answer is a time of its video; raises `BadRow`."""
    value = row.get("time_precise")
    if value is None:
        return False
    if not isinstance(value, bool):
        raise BadRow(f"key time_precise is {type(value).__name__} {str(value)[:40]!r}, not true or false")
    if value and not row.get("videos"):
        raise BadRow("key time_precise is true and the row has no videos")
    return value


def parts_of(messages: Sequence[Message], kind: str) -> int:
    """How many parts of `kind` the contents have."""
    return sum(part["type"] == kind for message in messages for part in _parts(message))


def named_media(path: Path, columns: Columns) -> list[str]:
    """Paths of all pictures and videos that the rows of a data file name, by our columns or by those of any other
    format, each once, in order; what is bad names none.

    Raises:
        DataError: no such file, or one that cannot be read.
    """
    found: dict[str, None] = {}
    for _, raw in numbered_rows(path):
        with suppress(BadRow):
            row = columns.applied(checked_row(raw))
            for name, paths in _NAMED:
                with suppress(BadRow):
                    found.update(dict.fromkeys(paths(_entries(row.get(name)))))
    return list(found)


_NAMED = (
    *((name, lambda images: image_paths({"images": images})) for name in ("image", "images")),
    *((name, lambda videos: video_paths({"videos": videos})) for name in ("video", "videos")),
)
"""Column -> paths of its entries; one file alone stands in columns of other formats."""


def _entries(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [] if value is None else [value]


def _video(video: Any, index: int) -> str:
    try:
        if (name := named_or_kept(video, "video")) is not None:
            return name
    except DataError as error:
        raise BadRow(str(error).replace("picture", "video", 1)) from None
    if isinstance(video, (list, tuple)):
        raise BadRow(
            f"videos[{index}] is a list of frames: put them into a folder, in the order of their names, and name it"
        )
    raise BadRow(f"key videos is no list of paths: videos[{index}] is {type(video).__name__} {str(video)[:40]!r}")


def _with_places(messages: Sequence[Message], images: int, videos: int) -> list[Message]:
    found = markers(messages), markers(messages, VIDEO_MARKER)
    if found == (images, videos):
        return with_parts(messages)
    if found == (1, 0) and (images, videos) == (0, 1):  # as LLaVA-Video has it
        return with_parts(messages, {MARKER: VIDEO_PART})
    if any(found):
        raise BadRow(
            f"keys images and videos name {images} and {videos} files, and the text has {found[0]} {MARKER} and "
            f"{found[1]} {VIDEO_MARKER}: write one where each stands, or none"
        )
    first = next((index for index, message in enumerate(messages) if message["role"] == "user"), None)
    if first is None:
        raise BadRow(f"key videos names {videos} videos and messages have no user turn to show them in")
    text = {"type": "text", "text": messages[first]["content"]}
    shown = {**messages[first], "content": [*[IMAGE_PART] * images, *[VIDEO_PART] * videos, text]}
    return [*messages[:first], shown, *messages[first + 1 :]]


def _check_video_parts(messages: Sequence[Message], videos: Sequence[str]) -> None:
    for index, message in enumerate(messages):
        if message["role"] == "assistant" and parts_of([message], "video"):
            raise BadRow(f"messages[{index}] is an assistant turn with a video part: a model writes text only")
    if (found := parts_of(messages, "video")) != len(videos):
        raise BadRow(
            f"key videos names {len(videos)} videos and messages have {found} video parts: give each one "
            '{"type": "video"} part, or write the contents as plain strings'
        )


def _parts(message: Message) -> Sequence[Message]:
    return message["content"] if isinstance(message["content"], list) else ()
