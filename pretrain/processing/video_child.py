"""A process that decodes videos for another: **a JSON line in; a JSON line out, and patches behind it**.

FFmpeg reads what anybody sent: whatever a file makes it do (crash, hang, eat memory) ends here, and costs a row.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pangu_rl.errors import ConfigError, DataError
from pretrain.processing.resize import PixelLimits
from pretrain.processing.video import Sampling
from pretrain.processing.video_frames import check_video, load_video, read_header

MEMORY = 4 * 2**30
"""Bytes of address space: the interpreter, a decoder, one frame and the patches of a budget."""

Reply = tuple[dict[str, Any], bytes]


def header(path: str, root: str) -> Reply:
    return asdict(read_header(path, Path(root))), b""


def check(path: str, root: str) -> Reply:
    return {"sha256": check_video(path, Path(root))}, b""


def load(path: str, root: str, sampling: dict[str, Any], limits: dict[str, int]) -> Reply:
    picture = load_video(path, Path(root), Sampling(**sampling), PixelLimits(**limits))
    said = {"sha256": picture.sha256, "grid": picture.grid, "clip": asdict(picture.clip)}
    return said, picture.patches.tobytes()


CALLS = {"header": header, "check": check, "load": load}


def answer(line: bytes) -> Reply:
    """What is asked is done; what the user can mend is said in `error`."""
    asked = json.loads(line)
    try:
        return CALLS[asked.pop("call")](**asked)
    except (DataError, ConfigError) as error:
        return {"error": str(error), "kind": type(error).__name__}, b""
    except MemoryError:
        return {"error": f"takes more than {MEMORY >> 30} GiB to decode", "kind": ""}, b""


def main() -> None:
    """Answer until the other side is gone."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no reply
    for line in sys.stdin.buffer:
        said, patches = answer(line)
        replies.write(json.dumps({**said, "bytes": len(patches)}).encode() + b"\n" + patches)
        replies.flush()


if __name__ == "__main__":
    main()
