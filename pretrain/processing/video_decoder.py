"""Videos decoded in processes of their own, bounded in time and memory. Path -> **header, digest or Picture**.

A thread that needs one takes an idle process or starts another; one that hangs or dies is replaced, and its video is a
bad one. Nothing that comes back is unpickled.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from queue import Empty, LifoQueue
from typing import Any

import numpy as np

from pangu_rl.errors import ConfigError, DataError
from pangu_rl.records import Clip, Picture
from pretrain.processing.patches import COLUMNS
from pretrain.processing.resize import PixelLimits
from pretrain.processing.video import Sampling
from pretrain.processing.video_source import VideoHeader, named_video

TIMEOUT_S = 300.0
"""Of one video: an hour has 90,000 frames, of which a processor decodes 300 to 2,000 a second at 360p."""
CHILD = "pretrain.processing.video_child"


def video_header(path: str, root: Path) -> VideoHeader:
    """As `read_header`; also DataError: its decoder took too long, or ended."""
    said, _ = _ask(path, call="header", root=str(root))
    return VideoHeader(**said)


def video_digest(path: str, root: Path) -> str:
    """sha256 of a video all of which can be decoded; raises as `video_header`."""
    return _ask(path, call="check", root=str(root))[0]["sha256"]


def cut_video(path: str, root: Path, sampling: Sampling, limits: PixelLimits) -> Picture:
    """As `load_video`; raises as `video_header`."""
    said, patches = _ask(path, call="load", root=str(root), sampling=asdict(sampling), limits=asdict(limits))
    return Picture(
        path=path,
        sha256=said["sha256"],
        grid=tuple(said["grid"]),
        patches=np.frombuffer(patches, np.uint8).reshape(-1, COLUMNS),
        clip=Clip(sha256=said["clip"]["sha256"], seconds=tuple(said["clip"]["seconds"])),
    )


class Decoder:
    """One process."""

    def __init__(self) -> None:
        modules = os.pathsep.join(path or os.getcwd() for path in sys.path)
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        self._process = subprocess.Popen(
            [sys.executable, "-m", CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **threads, "PYTHONPATH": modules},
            start_new_session=True,  # Ctrl-C is for the run, which may want a last step decoded
        )
        os.set_blocking(self._process.stdout.fileno(), False)

    def ask(self, request: dict[str, Any], timeout_s: float) -> tuple[dict[str, Any], bytearray]:
        """
        Raises:
            TimeoutError: no whole reply in time. OSError: the process ended. It is of no use behind either.
        """
        until = time.monotonic() + timeout_s
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        received = bytearray()
        while (end := received.find(b"\n")) < 0:
            received += self._read(until)
        said = json.loads(received[:end])
        del received[: end + 1]
        size = said.pop("bytes")
        while len(received) < size:
            received += self._read(until)
        return said, received

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()

    def _read(self, until: float) -> bytes:
        left = until - time.monotonic()
        stdout = self._process.stdout
        poll = select.poll()
        poll.register(stdout, select.POLLIN)
        if left <= 0 or not poll.poll(1000 * left):
            raise TimeoutError
        if piece := os.read(stdout.fileno(), 1 << 20):
            return piece
        raise ConnectionError("the decoder ended")


@lru_cache(maxsize=1)
def _idle() -> LifoQueue[Decoder]:
    return LifoQueue()


def _ask(path: str, **request: Any) -> tuple[dict[str, Any], bytearray]:
    idle = _idle()
    try:
        decoder = idle.get_nowait()
    except Empty:
        decoder = Decoder()
    try:
        said, payload = decoder.ask({"path": path, **request}, TIMEOUT_S)
    except OSError as error:
        with suppress(OSError):
            decoder.end()
        late = isinstance(error, TimeoutError)
        what = f"took more than {TIMEOUT_S:g} s to decode" if late else "ended its decoder"
        raise DataError(f"{named_video(path)}: {what}: encode it again, or leave it out") from None
    idle.put(decoder)
    if "error" not in said:
        return said, payload
    if said["kind"] == ConfigError.__name__:
        raise ConfigError(said["error"])
    raise DataError(said["error"] if said["kind"] else f"{named_video(path)}: {said['error']}")
