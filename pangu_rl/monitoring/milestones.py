"""What a run is at before its first step and after its last: **a line with the seconds since the program began**."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

log = logging.getLogger(__name__)

_BEGUN = time.monotonic()
"""This module is imported by what begins a stage, before anything that takes its time."""


def milestone(text: str, console: Console | None = None) -> None:
    """Tell the terminal, by way of a live view's `console` where there is one, and the log."""
    line = f"{time.monotonic() - _BEGUN:6.1f} s  {text}"
    if console is None:
        from rich.console import Console

        console = Console(stderr=True)
    console.print(line, markup=False, highlight=False, soft_wrap=True)
    log.info("%s", text)
