"""Real children decode real files: the same pixels as here, and a bad row for what is broken, slow or too large."""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from pangu_rl.errors import DataError
from pangu_rl.loops.decoding import PictureDecoder
from pretrain.processing.pictures import decode


def encoded(width: int, height: int, kind: str = "PNG") -> bytes:
    pixels = np.random.default_rng(width).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((width, height)).save(file, kind)
    return file.getvalue()


@pytest.fixture(scope="module")
def decoder() -> Iterator[PictureDecoder]:
    decoder = PictureDecoder()
    yield decoder
    decoder.close()


def test_the_pixels_are_those_of_decoding_here_from_many_threads(decoder: PictureDecoder) -> None:
    contents = [encoded(64 + 8 * n, 40, kind) for n in range(6) for kind in ("PNG", "JPEG", "WEBP")]
    with ThreadPoolExecutor(6) as threads:
        found = list(threads.map(decoder, contents, map(str, range(len(contents)))))
    for number, (image, content) in enumerate(zip(found, contents, strict=True)):
        expected = decode(content, "here")
        assert (image.mode, image.size) == ("RGB", expected.size), number
        assert image.tobytes() == expected.tobytes(), number


def test_a_broken_picture_is_named_as_ever(decoder: PictureDecoder) -> None:
    for content in (encoded(64, 64)[:-40], b"no picture"):
        with pytest.raises(DataError) as here:
            decode(content, "a.png")
        with pytest.raises(DataError) as there:
            decoder(content, "a.png")
        assert str(there.value) == str(here.value)


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"seconds": 0.01}, r"picture 'big.png': cannot be decoded within 0.01 s"),
        (
            {"memory_mib": 24},
            r"picture 'big.png': cannot be decoded within 24 MiB: the child went over its",
        ),
    ],
)
def test_a_picture_beyond_a_bound_is_a_bad_row_and_the_next_one_is_decoded(bounds: dict, message: str) -> None:
    decoder = PictureDecoder(**bounds)
    try:
        with pytest.raises(DataError, match=message):
            decoder(encoded(4000, 3200), "big.png")
        if "memory_mib" in bounds:
            assert decoder(encoded(16, 16), "small.png").size == (16, 16)
    finally:
        decoder.close()
