"""Does everyone see one folder? A token through every rank: driver -> **file -> rank -> file** -> driver.

A run directory that each node has for itself would be found out at the first checkpoint, hours later.
"""

from __future__ import annotations

import secrets
import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pangu_rl.errors import ConfigError

QUESTION = "driver"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a rank found in the folder, and left there."""

    node: str
    read: str
    """Content of the driver's file; empty when there is none."""
    wrote: str
    """Content of the rank's own file; empty when it could not be written."""


def require_shared(directory: Path, ask: Callable[[Path], Sequence[Answer]]) -> None:
    """`ask` has every rank answer in a folder, in the order of ranks.

    Raises:
        ConfigError: a rank does not read what the driver wrote into `directory`, or the driver not what a rank wrote.
    """
    with _question(directory) as (folder, token):
        for rank, given in enumerate(ask(folder)):
            if given.read == token and given.wrote and _read(_file(folder, rank)) == given.wrote:
                continue
            problem = "cannot write into" if given.read == token and not given.wrote else "does not see"
            raise ConfigError(
                f"rank {rank} on {given.node} {problem} {directory}, the run directory of the driver on "
                f"{socket.gethostname()}: set trainer.run_dir to a folder that all nodes share"
            )


def answer(folder: Path, rank: int) -> Answer:
    """A rank's part: read the driver's token, leave one for the driver. A folder that is not there is not made."""
    token = secrets.token_hex(16)
    try:
        _file(folder, rank).write_text(token, encoding="utf-8")
    except OSError:
        token = ""
    return Answer(node=socket.gethostname(), read=_read(folder / QUESTION), wrote=token)


@contextmanager
def _question(directory: Path) -> Iterator[tuple[Path, str]]:
    token = secrets.token_hex(16)
    folder = directory.resolve() / f".shared-{token[:8]}"
    folder.mkdir()
    try:
        (folder / QUESTION).write_text(token, encoding="utf-8")
        yield folder, token
    finally:
        shutil.rmtree(folder)


def _file(folder: Path, rank: int) -> Path:
    return folder / f"rank_{rank}"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
