"""Which pictures a row names, and where in its messages each stands. Row -> **paths, messages with image parts**.

A row that writes its contents as parts says itself where each picture stands: one `{"type": "image"}` part per entry of
`images`, in that order. In a row of plain strings all pictures stand before the text of the first user message. Text is
never read for markers: `<image>` in a question is five letters and two signs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pangu_rl.data.rows import BadRow, Row, checked_row, numbered_rows

Message = dict[str, Any]
IMAGE_PART = {"type": "image"}


def image_paths(row: Row) -> tuple[str, ...]:
    """The row's `images`, or none; of a picture that `datasets` keeps within the row, its path."""
    images = row.get("images")
    if images is None:
        return ()
    if isinstance(images, (list, tuple)):
        images = [image.get("path") if isinstance(image, dict) else image for image in images]
    if not isinstance(images, (list, tuple)) or not all(isinstance(image, str) and image for image in images):
        raise BadRow("key images is no list of paths")
    return tuple(images)


def check_image_parts(messages: Sequence[Message], images: Sequence[str]) -> None:
    """Every picture has its place, and every place its picture.

    Raises:
        BadRow: more image parts than pictures or fewer; one in an assistant's turn; no user message to put them in.
    """
    if not any(isinstance(message["content"], list) for message in messages):
        if images and not any(message["role"] == "user" for message in messages):
            raise BadRow(f"key images names {_listed(images)} and messages have no user turn to show them in")
        return
    for index, message in enumerate(messages):
        if message["role"] == "assistant" and _image_parts(message):
            raise BadRow(f"messages[{index}] is an assistant turn with an image part: a model writes text only")
    parts = sum(map(_image_parts, messages))
    if parts != len(images):
        raise BadRow(
            f"key images names {_listed(images)} and messages have {parts} image parts: give each picture one "
            '{"type": "image"} part, or write the contents as plain strings'
        )


def with_image_parts(messages: Sequence[Message], pictures: int) -> list[Message]:
    """Messages of a checked row, with all its `pictures` as parts: as they are, or put before the first user's text."""
    if not pictures or any(isinstance(message["content"], list) for message in messages):
        return list(messages)
    first = next(index for index, message in enumerate(messages) if message["role"] == "user")
    text = {"type": "text", "text": messages[first]["content"]}
    shown = {**messages[first], "content": [*[IMAGE_PART] * pictures, text]}
    return [*messages[:first], shown, *messages[first + 1 :]]


def named_images(path: Path) -> list[str]:
    """Paths of all pictures that the rows of a data file name, each once, in order; bad rows name none.

    Raises:
        DataError: no such file, or one that cannot be read.
    """
    found: dict[str, None] = {}
    for _, raw in numbered_rows(path):
        try:
            found.update(dict.fromkeys(image_paths(checked_row(raw))))
        except BadRow:
            continue
    return list(found)


def _image_parts(message: Message) -> int:
    content = message["content"]
    return sum(part["type"] == "image" for part in content) if isinstance(content, list) else 0


def _listed(images: Sequence[str]) -> str:
    shown = ", ".join(image[:60] for image in images[:3]) + (", ..." if len(images) > 3 else "")
    return f"{len(images)} picture{'s' * (len(images) != 1)}" + (f" ({shown})" if images else "")
