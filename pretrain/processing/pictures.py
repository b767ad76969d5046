"""A picture file becomes RGB pixels, or one line that says why not. Path -> **Pillow image and hash**.

Decided here, once, for every stage: a picture whose header says that it was taken on its side is turned upright;
transparent parts are laid over white; 16-bit greys keep their high byte, as Pillow keeps it of 16-bit colours; CMYK is
converted by Pillow's plain formula, and colour profiles are not applied; an animation is refused; of a camera's
multi-picture JPEG the first picture counts.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from pangu_rl.errors import DataError
from pretrain.processing.media_root import named, open_inside

log = logging.getLogger(__name__)

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
MAX_PIXELS = 50_000_000
"""More is a decompression bomb for whoever decodes it. Checked by the header, before anything is decoded."""
MAX_BYTES = 128 * 2**20
"""Of a file."""

_BROKEN_EXIF = (ArithmeticError, AttributeError, EOFError, LookupError, OSError, SyntaxError, TypeError, ValueError)
"""What Pillow's parser raises for EXIF that is none, with `struct.error`."""
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what turns the stored pixels upright."""
_ON_ITS_SIDE = (5, 6, 7, 8)


@dataclass(frozen=True, slots=True)
class LoadedPicture:
    """A decoded picture and the hash of the file it came from."""

    image: Image.Image
    """Mode RGB, upright."""
    sha256: str
    """Of the file's bytes, hex."""


def decode(content: bytes, path: str) -> Image.Image:
    """The picture in a file's bytes, RGB and upright; `path` names it. Raises as `read_header` and `to_rgb`."""
    return to_rgb(read_header(content, path), path)


Decode = Callable[[bytes, str], Image.Image]
"""As `decode`, in this process or in one that may be killed."""


def open_picture(path: str, media_root: Path, decode: Decode = decode) -> LoadedPicture:
    """Decode the picture at `path`, relative to `media_root`.

    Raises:
        DataError: one line with the path, for a path that leaves the media root, no regular file, a file that is empty,
            truncated, too large or no picture, an animation, or too many pixels.
    """
    with _opened(path, media_root) as file:
        content = file.read()
    return LoadedPicture(decode(content, path), hashlib.sha256(content).hexdigest())


def picture_size(path: str, media_root: Path) -> tuple[int, int]:
    """(width, height) of the upright picture, by its header alone, which is all that is read. Raises as `open_picture`,
    but for broken pixels."""
    with _opened(path, media_root) as file:
        header = _header_of(file, path)
        width, height = header.size
        return (height, width) if _orientation(header) in _ON_ITS_SIDE else (width, height)


def open_stored(path: str, media_root: Path) -> Image.Image:
    """The upright picture in the mode that its file has: for what is data, such as a mask. Raises as `open_picture`."""
    with _opened(path, media_root) as file:
        return _decoded(_header_of(file, path), path, lambda image: image)


def read_header(content: bytes, path: str) -> Image.Image:
    """The picture in `content`, checked by its header and not decoded yet; `path` names it in errors.

    Raises:
        DataError: no picture in one of `FORMATS`, an animation, or more than `MAX_PIXELS`.
    """
    return _header_of(io.BytesIO(content), path)


def _header_of(file: BinaryIO, path: str) -> Image.Image:
    try:
        image = Image.open(file, formats=FORMATS)
        animated = image.format != "MPO" and getattr(image, "is_animated", False)
    except Image.UnidentifiedImageError:
        raise DataError(f"{named(path)}: is no {', '.join(FORMATS)}") from None
    except MemoryError:
        raise  # The machine's, not the picture's.
    # A hostile header makes Pillow's parsers raise nearly anything: OSError, ValueError, struct.error, IndexError, ...
    except Exception as error:
        raise DataError(f"{named(path)}: {_one_line(error)}") from None
    width, height = image.size
    if not 0 < width * height <= MAX_PIXELS:
        raise DataError(f"{named(path)}: {width} x {height} pixels, the limit is {MAX_PIXELS}")
    if animated:
        raise DataError(f"{named(path)}: is an animated {image.format}; save the frame that is meant as a picture")
    return image


def to_rgb(image: Image.Image, path: str) -> Image.Image:
    """Decode, turn upright, and convert to RGB by the rules of this module's first lines.

    Raises:
        DataError: broken or missing pixels; `path` names the picture.
    """
    return _decoded(image, path, _convert)


def _decoded(image: Image.Image, path: str, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    turn = _UPRIGHT.get(_orientation(image))
    try:
        image.load()
        converted = convert(image)
        return converted if turn is None else converted.transpose(turn)
    except MemoryError:
        raise  # The machine's, not the picture's.
    # As in `read_header`: what a broken stream raises depends on the decoder.
    except Exception as error:
        raise DataError(f"{named(path)}: cannot be decoded: {_one_line(error)}") from None


def _convert(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _orientation(image: Image.Image) -> int:
    """1 (upright) unless the header says otherwise; EXIF that cannot be read says nothing."""
    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif", b""))
        return int(exif.get(_ORIENTATION, 1))
    # Common in sound pictures.
    except (*_BROKEN_EXIF, struct.error) as error:
        log.debug("EXIF that cannot be read says nothing: %s", _one_line(error))
        return 1


@contextmanager
def _opened(path: str, media_root: Path) -> Iterator[BinaryIO]:
    try:
        file = open_inside(path, media_root)
    except DataError as error:
        raise DataError(f"{error} (media root {media_root})") from None
    with file:
        if (size := file.seek(0, os.SEEK_END)) > MAX_BYTES:
            raise DataError(f"{named(path)}: {size} bytes, the limit is {MAX_BYTES} (media root {media_root})")
        file.seek(0)
        yield file


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
