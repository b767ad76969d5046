"""Pictures decoded in child processes, **each within a bound of time and memory**. Bytes -> RGB pixels.

A decoder is C code over bytes from anywhere: one that hangs, crashes or eats memory costs a child and makes a bad row.
The pixels come back through a file in memory, since a child's reply is small and is never unpickled.
"""

from __future__ import annotations

import atexit
import functools
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np
from PIL import Image

from pangu_rl.errors import DataError, RunError
from pretrain.processing.media_root import named
from pretrain.processing.pictures import decode
from rewards.children import ChildError, ChildKilled, ChildPool, ChildTimeout

DECODE_S = 60.0
"""The largest picture that is taken, 50 million pixels, needs some seconds on a busy core."""
DECODE_MIB = 2048
"""Such a picture with transparent parts is held four times over while it is laid over white."""
MOST_CHILDREN = 8


class PictureDecoder:
    """Follows `pretrain.processing.pictures.decode`, from any thread."""

    def __init__(self, seconds: float = DECODE_S, memory_mib: int = DECODE_MIB) -> None:
        self._seconds, self._memory_mib = seconds, memory_mib
        children = min(MOST_CHILDREN, len(os.sched_getaffinity(0)))
        self._pool = ChildPool(children, seconds, memory_mib, warm_up=Image.init)

    def __call__(self, content: bytes, path: str) -> Image.Image:
        """
        Raises:
            DataError: as `decode`, or it is not done within the bounds. RunError: no child can be started.
        """
        try:
            with _memory_file() as (file, name):
                width, height = self._pool.run(decode_into, content, path, name)
                return Image.frombuffer("RGB", (width, height), np.fromfile(file, np.uint8), "raw", "RGB", 0, 1)
        except ChildTimeout:
            raise DataError(f"{named(path)}: cannot be decoded within {self._seconds:g} s") from None
        except ChildKilled as error:
            raise DataError(f"{named(path)}: cannot be decoded within {self._memory_mib} MiB: {error}") from None
        except ChildError as error:
            if error.kind == "DataError":
                raise DataError(error.text) from None
            raise RunError(f"{named(path)}: the process that decodes it failed: {error}") from None

    def close(self) -> None:
        self._pool.close()


def decode_into(content: bytes, path: str, pixels: str) -> tuple[int, int]:
    """In a child: write the RGB pixels, row by row, into the file `pixels`; returns width and height."""
    image = decode(content, path)
    np.asarray(image).tofile(pixels)
    return image.size


@contextmanager
def _memory_file() -> Iterator[tuple[BinaryIO, str]]:
    """A file that a child can write by its name; of a process that is killed nothing is left behind on Linux."""
    if not hasattr(os, "memfd_create"):
        with tempfile.NamedTemporaryFile() as file:
            yield file, file.name
        return
    with os.fdopen(os.memfd_create("picture"), "rb") as file:
        yield file, f"/proc/{os.getpid()}/fd/{file.fileno()}"


@functools.cache
def _decoder() -> PictureDecoder:
    decoder = PictureDecoder()
    atexit.register(decoder.close)
    return decoder


def decode_bounded(content: bytes, path: str) -> Image.Image:
    """By one decoder for all pictures of this process; raises as its call."""
    return _decoder()(content, path)


os.register_at_fork(after_in_child=_decoder.cache_clear)
"""A forked process has none of the parent's threads: it makes a decoder of its own."""
