"""Does a video's header say how fast it runs? File -> **why its rate is unknown**, where a decoder would make one up.

FFmpeg plays an AVI whose header has a rate of 0 at 25 frames per second, and an MP4 without durations at the rate of
its clock. AVI: `avih` and `strh` of RIFF; MP4: `mdhd` and `stts` of ISO/IEC 14496-12.
"""

from __future__ import annotations

import io
import struct
from typing import BinaryIO

HEADER = 1 << 16
"""Bytes at the beginning of an AVI that its headers lie in."""
MOST_BOXES = 64
"""Boxes of an MP4 beside its frames; a longer file is cut at random."""


def unknown_rate(file: BinaryIO) -> str | None:
    """What the header lacks; None of a sound one, and of a container whose frames carry their times. Ends anywhere."""
    file.seek(0)
    head = file.read(HEADER)
    try:
        if head[:4] == b"RIFF":
            return _of_avi(head)
        return _of_mp4(file) if head[4:8] == b"ftyp" else None
    except struct.error:
        return "its header is cut"


def _of_avi(head: bytes) -> str | None:
    period = _numbers(head, head.find(b"avih") + 8, 1)
    streams = [place for place in _places(head, b"strh") if head[place + 8 : place + 12] == b"vids"]
    if not streams or period is None:
        return None
    rate = _numbers(head, streams[0] + 28, 2)
    if rate is None or (all(rate) or period[0]):
        return None
    return "its header has a rate of 0"


def _of_mp4(file: BinaryIO) -> str | None:
    movie = _movie(file)
    for place in _places(movie, b"mdhd"):
        scale = struct.unpack_from(">I", movie, place + (24 if movie[place + 4] else 16))[0]
        if scale == 0:
            return "its clock (mdhd) has 0 ticks a second"
    for place in _places(movie, b"stts"):
        count = struct.unpack_from(">I", movie, place + 8)[0]
        durations = [struct.unpack_from(">I", movie, place + 16 + 8 * index)[0] for index in range(min(count, 1024))]
        if durations and not any(durations):
            return "its frames (stts) last 0 ticks"
    return None


def _movie(file: BinaryIO) -> bytes:
    """The box `moov`, where it can be found."""
    start, end = 0, file.seek(0, io.SEEK_END)
    for _ in range(MOST_BOXES):
        if start >= end:
            break
        file.seek(start)
        head = file.read(16)
        if len(head) < 8:
            break
        size = struct.unpack(">I", head[:4])[0]
        if size == 1 and len(head) == 16:
            size = struct.unpack(">Q", head[8:])[0]
        if head[4:8] == b"moov":
            file.seek(start)
            # A size is whatever the file says.
            return file.read(min(size, end - start)) + bytes(32)
        if size < 8:
            break
        start += size
    return b""


def _places(data: bytes, name: bytes) -> list[int]:
    found, place = [], data.find(name)
    while place >= 0:
        found.append(place)
        place = data.find(name, place + 4)
    return found


def _numbers(data: bytes, place: int, count: int) -> tuple[int, ...] | None:
    return struct.unpack_from(f"<{count}I", data, place) if 8 <= place <= len(data) - 4 * count else None
