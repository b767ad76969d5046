"""`run.log`: what the program says about a run, in full; warnings reach the terminal too."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console
from rich.logging import RichHandler

from pangu_rl.errors import Preempted, RunError, UserError

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
    file = _LogFile(Path(run_dir) / "run.log", encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
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
        told = isinstance(error, UserError | RunError | Preempted)
        trace = None if told else (type(error), error, error.__traceback__)
        said = (type(error).__name__, error)
        file.handle(root.makeRecord(__name__, logging.ERROR, __file__, 0, "ended by %s: %s", said, trace))
        raise
    finally:
        for handler in (file, terminal):
            root.removeHandler(handler)
        root.setLevel(before)
        file.close()
