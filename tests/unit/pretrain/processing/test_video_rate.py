"""Headers that say more than is there: a line, or nothing, but no trace of the parser."""

from __future__ import annotations

import io
import struct

import pytest

from pretrain.processing.video_rate import unknown_rate


def box(name: bytes, content: bytes = b"", size: int | None = None) -> bytes:
    return struct.pack(">I", 8 + len(content) if size is None else size) + name + content


FTYP = box(b"ftyp", bytes(8))
THOUSAND = box(b"stts", struct.pack(">II", 0, 1000))
"""It says that a thousand entries follow."""


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (FTYP + box(b"moov", THOUSAND), "its header is cut"),
        (FTYP + box(b"moov", THOUSAND, size=2**32 - 1), "its header is cut"),
        (FTYP + box(b"moov", box(b"stts", struct.pack(">IIII", 0, 1, 9, 0))), "its frames (stts) last 0 ticks"),
        (FTYP + box(b"moov", box(b"stts", struct.pack(">IIII", 0, 1, 9, 1))), None),
        (FTYP + box(b"mdat", struct.pack(">Q", 2**64 - 1), size=1) + box(b"moov", THOUSAND), None),
        (FTYP + struct.pack(">I4sQ", 1, b"moov", 2**63) + THOUSAND, "its header is cut"),
        (FTYP[:6], None),
    ],
)
def test_a_header_that_ends_too_early(content: bytes, found: str | None) -> None:
    assert unknown_rate(io.BytesIO(content)) == found
