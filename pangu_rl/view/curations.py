"""A folder that a pipeline of curation writes -> **what each operator did to how many rows**, and its report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pangu_rl.errors import DataError

PLAN, DONE, REPORT = "stages/plan.json", "curation.json", "report.html"
"""As the pipeline writes them: when it begins, when it is through, and then, or when it ends in an error."""


def is_curation(folder: Path) -> bool:
    return (folder / PLAN).is_file() or (folder / DONE).is_file()


def read_curation(folder: Path) -> dict[str, Any]:
    """`rows` that are left and `operators` with counts (None and none before it is through), names of its `input`,
    and whether there is a `report`.

    Raises:
        DataError: a file of it that cannot be read.
    """
    path = folder / DONE
    try:
        done = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        operators = [
            {name: one[name] for name in ("operator", "in", "out", "dropped", "errors", "edited")}
            for one in done.get("counts", ())
        ]
        names = [str(file["name"]) for file in done.get("input", ())]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{path}: not what a pipeline of curation writes: {error}") from None
    return {
        "input": names,
        "rows": done.get("rows"),
        "operators": operators,
        "report": report_of(folder) is not None,
    }


def report_of(folder: Path) -> Path | None:
    """The page that the pipeline wrote; a link that somebody put there is none."""
    path = folder / REPORT
    return path if path.is_file() and not path.is_symlink() else None
