"""What a check of a machine or a plugin found -> **a table**, one line each, with its way out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rich.table import Table
from rich.text import Text

Status = Literal["ok", "warn", "fail"]
_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    check: str
    status: Status
    detail: str
    mend: str = ""
    """What to do about it, in one line; empty where nothing is to be done."""


def findings_table(findings: Sequence[Finding]) -> Table:
    """One row per finding, its mend below what was found."""
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        text = Text(finding.detail)
        if finding.mend:
            text.append(f"\n-> {finding.mend}", style="cyan")
        table.add_row(Text(finding.status, style=_STYLES[finding.status]), Text(finding.check), text)
    return table


def findings_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """The findings, and whether none of them is a failure."""
    return {"passed": passed(findings), "findings": [asdict(finding) for finding in findings]}


def passed(findings: Sequence[Finding]) -> bool:
    return all(finding.status != "fail" for finding in findings)
