"""A video becomes clips of about half a minute, each the frames that differ (MindVL, section 3.2.2).

Clips end where shots change. Frames are taken at 1 or 2 a second, and one that is almost the last one kept is left out,
by the hash that near-duplicate pictures are found by.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from data_curation.operators._embedded import jpeg_address
from data_curation.operators.duplicates.near_duplicate_pictures import differences, places_apart
from data_curation.operators.video._shots import clips_of, difference, thumbnail
from data_curation.pipeline.operator import row_operator
from data_curation.pipeline.record import Drop, Record, Split, Verdict
from pangu_rl.data.fields.bad_row import BadRow, Row
from pangu_rl.data.media.columns import video_paths
from pangu_rl.errors import DataError
from pretrain.processing.video_source import Source, open_video

SCANNED_FPS = 8.0
"""At which changes of shot are looked for."""


@dataclass(frozen=True, slots=True)
class Frame:
    second: float
    picture: Image.Image
    hashed: bytes


@row_operator(cost="cpu", guarded=True)
def video_clips(
    record: Record,
    *,
    seconds: PositiveFloat = 30.0,
    fps: PositiveFloat = 1.0,
    cut: NonNegativeFloat = 27.0,
    most_bits: NonNegativeInt = 10,
    most_frames: PositiveInt | None = None,
    most_side: PositiveInt = 448,
) -> Verdict:
    """Of a row with one video. `cut` is the mean difference of hue, saturation and value between looks, 8 a second, at
    which a shot ends (PySceneDetect's 27). Frames that differ from the last one kept in at most `most_bits` of 256 are
    left out; of the rest, `most_frames` evenly spread ones stay. A clip's row has them as `images`, and in `clip` the
    video, begin, end and the seconds of its frames."""
    videos = video_paths(record.row)
    if not videos:
        return None
    if len(videos) > 1 or record.media_root is None:
        raise BadRow(f"key videos names {len(videos)} videos; one is cut at a time, from under media_root")
    try:
        with open_video(videos[0], record.media_root) as source:
            length = source.header.frames / source.header.fps
            frames, cuts = _looked_at(source, fps, cut, most_side)
    except DataError as problem:
        return Drop("broken video", str(problem))
    kept = {key: value for key, value in record.row.items() if key != "videos"}
    rows = [kept | _clip(videos[0], span, frames, most_bits, most_frames) for span in clips_of(cuts, length, seconds)]
    return Split(rows, "became clips")


def _looked_at(source: Source, fps: float, cut: float, most_side: int) -> tuple[list[Frame], list[float]]:
    """Frames at `fps`, and the seconds at which shots change; the video is decoded once."""
    header = source.header
    sampled = set(_places(header.frames, header.fps, fps).tolist())
    indices = sorted(sampled | set(_places(header.frames, header.fps, SCANNED_FPS).tolist()))
    frames: list[Frame] = []
    cuts: list[float] = []
    before: np.ndarray | None = None
    for index, frame in zip(indices, source.frames(np.array(indices)), strict=True):
        seen = thumbnail(frame)
        if before is not None and difference(before, seen) > cut:
            cuts.append(round(index / header.fps, 3))
        before = seen
        if index in sampled:
            picture = Image.fromarray(frame)
            picture.thumbnail((most_side, most_side), Image.Resampling.BICUBIC)
            frames.append(Frame(round(index / header.fps, 3), picture, differences(picture).tobytes()))
    return frames, cuts


def _places(total: int, source_fps: float, fps: float) -> np.ndarray:
    """Numbers of the frames nearest to 0, 1 / fps, ... seconds."""
    times = np.arange(0, total / source_fps, 1 / fps)
    return np.unique(np.minimum(np.rint(times * source_fps), total - 1).astype(np.int64))


def _clip(
    video: str, span: tuple[float, float], frames: Sequence[Frame], most_bits: int, most_frames: int | None
) -> Row:
    begin, end = span
    own = list(_different([frame for frame in frames if begin <= frame.second < end], most_bits))
    if most_frames is not None and len(own) > most_frames:
        own = [own[place] for place in np.rint(np.linspace(0, len(own) - 1, most_frames)).astype(int)]
    told: dict[str, Any] = {"video": video, "begin": round(begin, 3), "end": round(end, 3)}
    told["seconds"] = [frame.second for frame in own]
    return {"images": [jpeg_address(frame.picture) for frame in own], "clip": told}


def _different(frames: Sequence[Frame], most_bits: int) -> Iterator[Frame]:
    last: Frame | None = None
    for frame in frames:
        if last is None or places_apart(last.hashed, frame.hashed) > most_bits:
            yield frame
            last = frame
