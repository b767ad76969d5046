"""`run.log` has the reason for the end, whatever it is, and a full disk does not drown the terminal."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import pytest
from rich.console import Console

from pangu_rl.errors import Preempted, RunError, UserError
from pangu_rl.monitoring.run_log import refusals_logged, run_log

QUIET = Console(file=io.StringIO())


@pytest.mark.parametrize("kind", [UserError, RunError, Preempted, KeyboardInterrupt, ZeroDivisionError, SystemExit])
def test_the_reason_for_the_end_is_in_the_log(tmp_path: Path, kind: type[BaseException]) -> None:
    with pytest.raises(kind), run_log(tmp_path, QUIET):
        raise kind("the reason")
    text = (tmp_path / "run.log").read_text()
    assert f"ended by {kind.__name__}: the reason" in text
    assert ("Traceback" in text) == (kind not in (UserError, RunError, Preempted))


def test_what_ends_a_run_that_has_begun_is_no_refused_start(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()
    with pytest.raises(RunError), refusals_logged(tmp_path), run_log(tmp_path, QUIET):
        raise RunError("the reason")
    [line] = (tmp_path / "run.log").read_text().splitlines()
    assert line.endswith("ended by RunError: the reason")


def test_a_run_that_ends_well_has_no_such_line(tmp_path: Path) -> None:
    with run_log(tmp_path, QUIET):
        logging.getLogger("pangu_rl").info("a step")
    assert "a step" in (tmp_path / "run.log").read_text()
    assert "ended by" not in (tmp_path / "run.log").read_text()


def test_a_log_that_cannot_be_written_is_told_once(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    (tmp_path / "run.log").symlink_to("/dev/full")
    with run_log(tmp_path, QUIET):
        for _ in range(100):
            logging.getLogger("pangu_rl").info("a step")
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert "run.log: No space left on device" in said
