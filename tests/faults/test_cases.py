"""Every fault of the table, done for real to a victim that is held: the run recovers, or ends in a line that names it.

`PYTHONPATH=. python -m pytest tests/faults/test_cases.py -m slow -k "learner and stop"` runs some.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.e2e import runs
from tests.faults import alike
from tests.faults.alike import PATIENCE_S
from tests.faults.cases import CASES, WRITES, Case
from tests.faults.doors import Hung, Missed

pytestmark = pytest.mark.slow

END_S = 240.0
"""From the act to the end of a run that cannot go on, on a machine with other work."""


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_fault_is_recovered_from_or_ends_the_run_by_its_name(
    whole: Callable[[str], Path], tiny_model: Path, tmp_path: Path, case: Case
) -> None:
    config, hung = alike.WRITE[case.stage](tmp_path, tiny_model), Hung(case.door, tmp_path / "door")
    undisturbed = whole(case.stage)
    driver = start(case.stage, config, hung)
    try:
        at_door = hung.who(driver, PATIENCE_S)
        began = time.monotonic()
        if case.title:
            titled(driver, case.title).kill()
            hung.open()
        else:
            case.act(at_door, hung)
        _, errors = driver.communicate(timeout=PATIENCE_S if case.ends is None else END_S)
    finally:
        end(driver)
    print(f"{case}: {time.monotonic() - began:.1f} s to the end; {' '.join(errors.split())[-400:]}")
    if case.ends is None:
        assert driver.returncode == 0, errors
    else:
        said = " ".join(errors.split())
        assert driver.returncode in (1, 2) and re.search(case.ends, said), errors
        assert "Traceback" not in errors
        done = runs.run(case.stage, config, timeout=PATIENCE_S)
        assert done.returncode == 0, done.stderr
    assert alike.unlike(case.stage, tmp_path / "run", undisturbed) == []


def test_a_driver_that_is_killed_at_every_write_ends_like_one_that_is_not(
    whole: Callable[[str], Path], tiny_model: Path, tmp_path: Path
) -> None:
    """Killed at a write, started again, killed at the next."""
    config = alike.WRITE["sft"](tmp_path, tiny_model)
    for number, door in enumerate(WRITES):
        hung = Hung(door, tmp_path / f"door_{number}")
        driver = start("sft", config, hung)
        try:
            assert hung.who(driver, PATIENCE_S).pid == driver.pid
        finally:
            end(driver)
    done = runs.run("sft", config, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    assert alike.unlike("sft", tmp_path / "run", whole("sft")) == []


def start(stage: str, config: Path, hung: Hung) -> subprocess.Popen[str]:
    return subprocess.Popen(
        runs.command(stage, config), cwd=runs.REPO, env=hung.environment(), stderr=subprocess.PIPE, text=True
    )


def titled(driver: subprocess.Popen[str], title: str) -> psutil.Process:
    """A process of the run whose title, or the name of whose program, begins so."""
    for process in psutil.Process(driver.pid).children(recursive=True):
        words = process.cmdline() or [""]
        if " ".join(words).startswith(title) or Path(words[0]).name == title:
            return process
    raise Missed(f"there is no process {title!r}")


def end(driver: subprocess.Popen[str]) -> None:
    """With SIGKILL, to the driver alone, if it has not ended: its children are Ray's to end."""
    driver.kill()
    driver.communicate()
