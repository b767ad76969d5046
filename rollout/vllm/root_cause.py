"""Why vLLM's own processes ended: their tracebacks in this process's log -> **the line that says it**.

On a device the engine's core is a process of its own, and of its end vLLM says no more than "See root cause above". It
writes where this process does, which for an actor of Ray is a file.
"""

from __future__ import annotations

import re
from pathlib import Path

POINTS_ELSEWHERE = ("See root cause above", "See stack trace for root cause")
"""In errors that name no cause."""
READ_BYTES = 256 << 10
"""From the end of a log."""

_ERROR = re.compile(r"^\(\w+ pid=\d+\) (?:.*?\s)??((?:\w+\.)*\w*(?:Error|Exception): .+)$", re.MULTILINE)
"""As vLLM's processes begin their lines. Others, Python's own helpers among them, complain of the end alone."""
_STDERR = Path("/proc/self/fd/2")


def points_elsewhere(text: str) -> bool:
    return any(phrase in text for phrase in POINTS_ELSEWHERE)


def root_cause(log: Path = _STDERR) -> str:
    """The last error in `log` that names a cause, and the file's name; `log` is what this process writes to unless
    another is given. Without such an error the file alone, or nothing if it is no file."""
    file = log.resolve()
    if not file.is_file():
        return ""
    with file.open("rb") as lines:
        lines.seek(max(0, file.stat().st_size - READ_BYTES))
        text = lines.read().decode(errors="replace")
    causes = [cause for cause in _ERROR.findall(text) if not points_elsewhere(cause)]
    return f"{causes[-1]} (more in {file})" if causes else f"see {file}"
