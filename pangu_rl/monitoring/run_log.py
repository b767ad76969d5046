"""`run.log`: what the program says about a run, in full; warnings reach the terminal too."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from rich.console import Console
from rich.logging import RichHandler

from pangu_rl.errors import Preempted, RunError, UserError

P, Config, Returned = ParamSpec("P"), TypeVar("Config"), TypeVar("Returned")

FILE = "run.log"
_TOLD = "told_in_run_log"
"""Attribute of an error that is in a log."""
_QUIET = ("httpx", "filelock", "matplotlib", "urllib3")


class _LogFile(logging.FileHandler):
    """Where the disk takes no more it says so once, instead of a traceback for every line."""

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self.lost:
            self.lost = True
            print(f"{self.baseFilename}: {error.strerror}: what is not logged any more is lost", file=sys.stderr)

    def close(self) -> None:
        with suppress(OSError):  # of the same lines once more
            super().close()

    lost = False


@contextmanager
def run_log(run_dir: Path, console: Console) -> Iterator[None]:
    """Log to `run_dir/run.log` (appended) and warnings to `console`, which prints them above the live view."""
    file = _opened(run_dir)
    terminal = RichHandler(console=console, level=logging.WARNING, show_path=False, show_time=False)
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.INFO)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    for handler in (file, terminal):
        root.addHandler(handler)
    try:
        yield
    except BaseException as error:  # whatever it is; the terminal is told last, by the command line
        _tell(file, "ended", error)
        raise
    finally:
        for handler in (file, terminal):
            root.removeHandler(handler)
        root.setLevel(before)
        file.close()


@contextmanager
def refusals_logged(run_dir: Path) -> Iterator[None]:
    """Within it a stage begins: what ends it before `run_log` is open is told in the log as well, where `run_dir` is
    that of a run already."""
    try:
        yield
    except Exception as error:  # whatever it is, as in `run_log`
        if not hasattr(error, _TOLD) and (Path(run_dir) / "config.yaml").is_file():
            with suppress(OSError):  # of a directory that is refused since it cannot be written
                file = _opened(run_dir)
                _tell(file, "start refused", error)
                file.close()
        raise


def logs_refusals(run: Callable[Concatenate[Config, P], Returned]) -> Callable[Concatenate[Config, P], Returned]:
    """A stage's `run(config)`, within `refusals_logged` of its run directory."""

    @wraps(run)
    def logged(config: Config, *args: P.args, **kwargs: P.kwargs) -> Returned:
        with refusals_logged(Path(config.trainer.run_dir)):
            return run(config, *args, **kwargs)

    return logged


def _opened(run_dir: Path) -> _LogFile:
    file = _LogFile(Path(run_dir) / FILE, encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    return file


def _tell(file: _LogFile, what: str, error: BaseException) -> None:
    """A line in the `file`, with the traceback of what nobody expected; the error is marked as told."""
    expected = isinstance(error, UserError | RunError | Preempted)
    trace = None if expected else (type(error), error, error.__traceback__)
    said = (what, type(error).__name__, error)
    file.handle(logging.getLogger().makeRecord(__name__, logging.ERROR, __file__, 0, "%s by %s: %s", said, trace))
    setattr(error, _TOLD, True)
