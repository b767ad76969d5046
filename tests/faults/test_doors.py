"""The harness itself: a door holds one process, at the call that was meant, and says when it was missed."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.faults.doors import Door, Hung, Missed

MODULE = """
import time
class Box:
    def inner(self): print("inner", flush=True)
    def outer(self): self.inner()
"""
PROGRAM = """
import time
from box import Box
box = Box()
box.inner(); box.outer(); box.inner(); box.outer()
print("seconds", round(time.time() - time.monotonic()), flush=True)
"""


def started(folder: Path, door: Door, program: str = PROGRAM) -> tuple[Hung, subprocess.Popen[str]]:
    (folder / "box.py").write_text(MODULE)
    (folder / "program.py").write_text(program)
    hung = Hung(door, folder / "door")
    command = [sys.executable, "program.py"]
    environment = hung.environment()
    return hung, subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("door", "before"),
    [
        (Door(function="box:Box.inner", call=3), 2),
        (Door(function="box:Box.inner", within="Box.outer"), 1),
        (Door(function="box:Box.inner", within="Box.outer", call=2), 3),
    ],
)
def test_a_door_holds_the_call_that_was_meant(tmp_path: Path, door: Door, before: int) -> None:
    hung, program = started(tmp_path, door)
    assert hung.who(program, 60).pid == program.pid
    program.kill()
    said, _ = program.communicate()
    assert said.splitlines() == ["inner"] * before


def test_who_is_let_through_goes_on_with_its_clock_set(tmp_path: Path) -> None:
    hung, program = started(tmp_path, Door(function="box:Box.outer"))
    hung.who(program, 60)
    hung.open(clock_shift_s=-7200)
    said, _ = program.communicate()
    *inner, clock = said.splitlines()
    assert inner == ["inner"] * 4
    assert int(clock.split()[1]) - (time.time() - time.monotonic()) == pytest.approx(-7200, abs=60)


def test_one_process_alone_is_held(tmp_path: Path) -> None:
    hung, first = started(tmp_path, Door(function="box:Box.inner"))
    hung.who(first, 60)
    second = subprocess.run(
        first.args, cwd=tmp_path, env=hung.environment(), capture_output=True, text=True, timeout=60
    )
    assert second.stdout.splitlines()[:4] == ["inner"] * 4
    first.kill()
    first.wait()


@pytest.mark.parametrize(
    ("door", "reason"),
    [
        (Door(function="box:Box.inner", call=9), "the command ended with 0"),
        (Door(function="box:Box.inner", rank=1), "the command ended with 0"),
    ],
)
def test_a_moment_that_was_missed_is_no_proof(tmp_path: Path, door: Door, reason: str) -> None:
    hung, program = started(tmp_path, door)
    with pytest.raises(Missed, match=reason):
        hung.who(program, 60)
    program.communicate()


def test_a_moment_that_does_not_come_in_time_is_no_proof(tmp_path: Path) -> None:
    hung, program = started(tmp_path, Door(function="box:Box.none_of_it"), "import time; time.sleep(60)")
    with pytest.raises(Missed, match="nobody came within 0 s"):
        hung.who(program, 0.2)
    program.kill()
    program.communicate()
