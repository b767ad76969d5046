"""What a sampling stage leaves behind: **its rows, and a manifest** of what they were made from and why each is there.

No time, no host and no absolute path stand in either, so a run that was interrupted leaves the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from pangu_rl.algorithms.rejection_sampling import Candidate, Reason, score_histogram
from pangu_rl.checkpoint.settings import write_whole

MANIFEST = "manifest.json"
ROWS = "rows.json"
BAR = 40


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One JSON object per line, whole or not at all; returns the file's entry in a manifest."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_whole(path, text)
    return {"rows": len(rows), "sha256": hashlib.sha256(text.encode()).hexdigest()}


def write_rows_read(run_dir: Path, **counts: int) -> None:
    """`rows.json`: how many rows a stage reads from where, and how many of them are left out."""
    write_whole(run_dir / ROWS, json.dumps(counts) + "\n")


def write_manifest(directory: Path, tree: Mapping[str, Any]) -> None:
    write_whole(directory / MANIFEST, json.dumps(tree, indent=1, ensure_ascii=False) + "\n")


def reason_counts(reasons: Iterable[Reason | str]) -> dict[str, int]:
    """How many queries ended with each reason, `selected` first."""
    counts = Counter(map(str, reasons))
    return {"selected": counts.pop("selected", 0), **dict(sorted(counts.items()))}


def candidate_figures(candidates: Mapping[str, Sequence[Candidate]]) -> dict[str, Any]:
    """Counts over all candidates: how many, cut ones, the score histogram."""
    every = [candidate for group in candidates.values() for candidate in group]
    return {
        "candidates": len(every),
        "cut_at_limit": sum(not candidate.whole for candidate in every),
        "scores": score_histogram(every),
    }


def histogram_table(title: str, counts: Mapping[str, int]) -> Table:
    """Counts with a bar each."""
    table = Table(title=title, title_justify="left", box=None, show_header=False)
    largest, total = max(counts.values(), default=0) or 1, sum(counts.values()) or 1
    for name, count in counts.items():
        table.add_row(name, str(count), f"{count / total:.1%}", "#" * round(BAR * count / largest))
    return table
