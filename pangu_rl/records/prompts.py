"""What is asked: a row of the prompt set, its pictures and clips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

Shown = TypeVar("Shown")
"""A record with `pictures`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One row of the prompt set, as the stream hands it out."""

    uid: str
    """Unique in its file; the row's `id`, or `<file stem>:<row number>`."""
    messages: tuple[dict[str, Any], ...]
    """Chat messages in the OpenAI form, without the answer."""
    answer: str
    """The gold answer. The audit at load has seen it grade itself correct."""
    answer_type: str = "auto"
    images: tuple[str, ...] = ()
    """Paths of pictures, relative to the media root, in the order of their placeholders."""
    videos: tuple[str, ...] = ()
    """Likewise of videos. A row that shows some has its contents as parts, which say what stands where."""
    time_precise: bool = False
    """The answer is a time of a video, which is then looked at once a second."""
    video_span: tuple[float, float] | None = None
    """Seconds of its videos that are shown, of a benchmark that asks about a part of a film; None is all of them."""
    video_fps: float | None = None
    """Frames a second of those of its videos that are folders of frames; None where nobody says, and each is shown."""
    source: str = ""
    """Where the row comes from (task name); metrics are split by it."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Every other column of the row, untouched, for reward plugins."""
    tools: tuple[dict[str, Any], ...] = ()
    """JSON schemas of the functions that the template shows to the assistant."""
    opened: str = ""
    """What the chat template itself writes of the answer: `<think>` where its prompts open the block of reasoning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """Which moments of a video its frames show."""

    sha256: str
    """Of the file's bytes, hex."""
    seconds: tuple[float, ...]
    """[t] of each frame, from the video's first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One picture, or the frames of a video, decoded and cut once; requests and packs carry it by reference."""

    path: str
    """Relative to the media root, as the row names it."""
    sha256: str
    """Of the file's bytes, hex: the picture's identity in caches and in the store; of a video, of which frames are
    shown too."""
    grid: tuple[int, int, int]
    """(t, h, w) in patches, 14 x 14 pixels in our models; t is 1 for a still picture."""
    patches: Any
    """uint8 [t * h * w, 588] raw values in the order of the model's family (`pretrain.processing.patches`), or a handle
    to that array which the actors resolve."""
    merge: int = 2
    """Patches of a token along each side."""
    clip: Clip | None = None
    """Of a video alone."""

    @property
    def tokens(self) -> int:
        """Tokens of the language model: one per 2 x 2 patches."""
        t, h, w = self.grid
        return t * h * w // self.merge**2


def with_patches(items: Sequence[Shown], handle: type, fetch: Callable[[list[Any]], list[Any]]) -> list[Shown]:
    """The same items with arrays in place of each `handle` to a picture's patches; one is fetched once, however many
    hold it."""
    held = {picture.patches for item in items for picture in item.pictures if isinstance(picture.patches, handle)}
    handles = list(held)
    arrays = dict(zip(handles, fetch(handles), strict=True))

    def whole(picture: Picture) -> Picture:
        is_handle = isinstance(picture.patches, handle)
        return replace(picture, patches=arrays[picture.patches]) if is_handle else picture

    return [replace(item, pictures=tuple(map(whole, item.pictures))) if item.pictures else item for item in items]
