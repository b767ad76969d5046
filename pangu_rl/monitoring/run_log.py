"""`run.log`: what the program says about a run, in full; warnings reach the terminal too."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.logging import RichHandler

from pangu_rl.errors import Preempted, RunError, UserError

_QUIET = ("httpx", "filelock", "matplotlib", "urllib3")


@contextmanager
def run_log(run_dir: Path, console: Console) -> Iterator[None]:
    """Log to `run_dir/run.log` (appended) and warnings to `console`, which prints them above the live view."""
    Path(run_dir).mkdir(parents=True, exist_ok=True)
    file = logging.FileHandler(Path(run_dir) / "run.log", encoding="utf-8")
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
    except (UserError, RunError, Preempted) as error:  # the terminal is told last, by the command line
        kind = type(error).__name__
        file.handle(root.makeRecord(__name__, logging.ERROR, __file__, 0, "ended by %s: %s", (kind, error), None))
        raise
    finally:
        for handler in (file, terminal):
            root.removeHandler(handler)
        root.setLevel(before)
        file.close()
