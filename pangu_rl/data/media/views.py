"""What a row shows, in the order of its places: **views**, each a picture or some frames of a video at one size.

A task whose answer is a time sees a video once a second; others at a rate that the run's seed and the row's id draw,
or, where there is no seed, at the released one.
The frames of all of a row's videos share one budget of pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pangu_rl.data.conversations import Conversation
from pangu_rl.data.documents import Document, Place
from pangu_rl.data.pairs import Pair
from pangu_rl.errors import DataError
from pangu_rl.records import Prompt
from pretrain.processing.resize import PixelLimits
from pretrain.processing.video import PRECISE_FPS, Sampling, VideoBudget, draw_fps
from pretrain.processing.video_source import VideoHeader, named_video

Shows = Prompt | Conversation | Pair | Document
"""A row with pictures and videos."""


@dataclass(frozen=True, slots=True)
class View:
    """A picture or video as a row shows it; equal views are equal pixels, whichever rows have them."""

    path: str
    sampling: Sampling | None = None
    """Of a video alone, as the next."""
    limits: PixelLimits | None = None


def views_of(row: Shows, videos: Sequence[View]) -> list[View]:
    """All that `row` shows, in order; `videos` are the views of its videos."""
    if not row.videos:
        return [View(path) for path in row.images]
    left = {"image": iter([View(path) for path in row.images]), "video": iter(videos)}
    return [next(left[kind]) for kind in _places(row)]


def video_views(row: Shows, header: Callable[[str], VideoHeader], budget: VideoBudget, seed: int | None) -> list[View]:
    """Of the videos of `row`, in order.

    Raises:
        DataError: more frames than the budget has at their least, or a span that the video does not have; raises as
            `header`.
    """
    if not row.videos:
        return []
    sampling = _sampling(row, budget, seed)
    if sampling.span is not None:
        for path in row.videos:
            _require_span(sampling.span, path, header(path).paced(sampling))
    counts = [len(header(path).indices(sampling)) for path in row.videos]
    if sum(counts) > budget.frames:
        way = "cut it to what the answer is about" if row.time_precise else "split the row"
        raise DataError(
            f"{', '.join(map(named_video, row.videos))}: {sum(counts)} frames at {sampling.fps:g} a second, the budget "
            f"of a sample has {budget.frames}: {way}"
        )
    limits = budget.limits(sum(counts))
    return [View(path, sampling, limits) for path in row.videos]


def _places(row: Shows) -> list[str]:
    """`image` or `video`, of each place in order."""
    if isinstance(row, Document):
        return [part.value for part in row.parts if isinstance(part, Place)]
    contents = [message["content"] for message in row.messages if isinstance(message["content"], list)]
    return [part["type"] for content in contents for part in content if part["type"] != "text"]


def _sampling(row: Shows, budget: VideoBudget, seed: int | None) -> Sampling:
    """A time must be found where it is said to be: such a video is never looked at more sparsely."""
    span, folder_fps = (row.video_span, row.video_fps) if isinstance(row, Prompt) else (None, None)
    if row.time_precise:
        return Sampling(PRECISE_FPS, budget.frames + 1, folder_fps=folder_fps)
    fps = Sampling().fps if seed is None else draw_fps(seed, row.uid)
    return Sampling(fps, max(1, budget.frames // len(row.videos)), span, folder_fps)


def _require_span(span: tuple[float, float], path: str, header: VideoHeader) -> None:
    start, end = span
    where = f"{named_video(path)}: is asked about from {start:g} to {end:g} s"
    if header.sampled:
        raise DataError(
            f"{where} and is a folder of frames, whose seconds are not known: give the benchmark folder_fps"
        )
    seconds = (header.frames - 1) / header.fps
    if not 0 <= start < min(end, seconds):
        raise DataError(f"{where}, of {seconds:.3g} s")
