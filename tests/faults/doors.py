"""Where a victim is held while something is done to it: **a door before a call of a function, in whatever process**.

No line of the program knows of doors: `on_path/sitecustomize.py` hangs them in processes that have it on their path.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from tests.e2e.runs import REPO

ON_PATH = Path(__file__).with_name("on_path")


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """The `call`-th of a process's calls of `module:qualified.name`, of those that count."""

    function: str
    call: int = 1
    within: str = ""
    """Those made, however deeply, by the function of this qualified name."""
    rank: int | None = None
    """Those of this learner rank."""


class Missed(AssertionError):
    """Nobody came to the door: nothing was proved."""


@dataclass(frozen=True, slots=True)
class Hung:
    """A door that hangs: one process at most will ever stand at it."""

    door: Door
    folder: Path

    def environment(self) -> dict[str, str]:
        """Of the command whose processes are to find the door."""
        self.folder.mkdir(parents=True, exist_ok=True)
        paths = [str(ON_PATH), str(REPO), *filter(None, [os.environ.get("PYTHONPATH")])]
        door = json.dumps(asdict(self.door) | {"folder": str(self.folder)})
        return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "PANGU_RL_TEST_DOOR": door}

    def who(self, command: subprocess.Popen[str], patience_s: float) -> psutil.Process:
        """Who stands there.

        Raises:
            Missed: the command ended, or the time was up, before anybody came.
        """
        deadline = time.monotonic() + patience_s
        while not (self.folder / "held").exists():
            if command.poll() is not None:
                raise Missed(f"{self.door}: nobody came, and the command ended with {command.returncode}")
            if time.monotonic() > deadline:
                raise Missed(f"{self.door}: nobody came within {patience_s:.0f} s")
            time.sleep(0.01)
        return psutil.Process(int((self.folder / "held").read_text()))

    def open(self, clock_shift_s: float = 0.0) -> None:
        """Let whoever stands there go on, the wall clock of that process set forward by so much."""
        unseen = self.folder / "opening"
        unseen.write_text(str(clock_shift_s))
        unseen.rename(self.folder / "open")
