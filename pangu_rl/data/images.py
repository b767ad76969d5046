"""Which pictures a row names, and where in its messages each stands. Row -> **paths, messages with image parts**.

A row that writes its contents as parts says itself where each picture stands: one `{"type": "image"}` part per entry of
`images`, in that order. In a row of plain strings they stand where the text has an `<image>` for each; without one they
all stand before the text of the first user message.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pangu_rl.data.fields.bad_row import BadRow, Row
from pangu_rl.data.fields.markers import IMAGE_PART, MARKER, markers, with_parts
from pangu_rl.errors import DataError
from pretrain.processing.embedded import from_text, keep

Message = dict[str, Any]


def image_paths(row: Row) -> tuple[str, ...]:
    """The row's `images`, or none: paths as they are, and names of the pictures that it holds itself, as bytes beside a
    path (as `datasets` writes them) or as a `data:` address.

    Raises:
        BadRow: an entry that is neither.
    """
    images = row.get("images")
    if images is None:
        return ()
    if not isinstance(images, (list, tuple)):
        raise BadRow("key images is no list of paths")
    return tuple(_image(image, index) for index, image in enumerate(images))


def named_or_kept(entry: Any, kind: str) -> str | None:
    """The path that an entry of a column of media names, or the name under which its bytes are kept; None of neither.
    `{kind: path}` is the path, as verl writes both kinds.

    Raises:
        DataError: no bytes.
    """
    if isinstance(entry, dict) and set(entry) == {kind}:
        entry = entry[kind]
    if isinstance(entry, dict) and not set(entry) - {"bytes", "path"}:
        path = entry.get("path") or ""
        if isinstance(entry.get("bytes"), bytes) and isinstance(path, str):
            return keep(entry["bytes"], path)
        if entry.get("bytes") is None:
            entry = path
    return entry if isinstance(entry, str) and entry else None


def _image(image: Any, index: int) -> str:
    try:
        if (name := named_or_kept(image, "image")) is not None:
            content = from_text(name)
            return name if content is None else keep(content)
    except DataError as error:
        raise BadRow(str(error)) from None
    shown = (
        f"an object of {', '.join(image)}" if isinstance(image, dict) else f"{type(image).__name__} {str(image)[:40]!r}"
    )
    raise BadRow(f"key images is no list of paths: images[{index}] is {shown}")


def check_image_parts(messages: Sequence[Message], images: Sequence[str]) -> None:
    """Every picture has its place, and every place its picture.

    Raises:
        BadRow: more image parts than pictures or fewer; one in an assistant's turn; no user message to put them in.
    """
    if not any(isinstance(message["content"], list) for message in messages):
        if images and not any(message["role"] == "user" for message in messages):
            raise BadRow(f"key images names {_listed(images)} and messages have no user turn to show them in")
        if images and (found := markers(messages)) not in (0, len(images)):
            raise BadRow(
                f"key images names {_listed(images)} and the text has {found} {MARKER}: write one where each picture "
                'stands, or none; a text that spells it is written as {"type": "text"} and {"type": "image"} parts'
            )
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
    """Messages of a checked row, with all its `pictures` as parts: as they are, at their markers, or before the first
    user's text."""
    if not pictures or any(isinstance(message["content"], list) for message in messages):
        return list(messages)
    if markers(messages) == pictures:
        return with_parts(messages, {MARKER: IMAGE_PART})
    first = next(index for index, message in enumerate(messages) if message["role"] == "user")
    text = {"type": "text", "text": messages[first]["content"]}
    shown = {**messages[first], "content": [*[IMAGE_PART] * pictures, text]}
    return [*messages[:first], shown, *messages[first + 1 :]]


def _image_parts(message: Message) -> int:
    content = message["content"]
    return sum(part["type"] == "image" for part in content) if isinstance(content, list) else 0


def _listed(images: Sequence[str]) -> str:
    shown = ", ".join(image[:60] for image in images[:3]) + (", ..." if len(images) > 3 else "")
    return f"{len(images)} picture{'s' * (len(images) != 1)}" + (f" ({shown})" if images else "")
