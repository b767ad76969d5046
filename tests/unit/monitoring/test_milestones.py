"""Lines before the first step: seconds, the text as it is, and no colour where none is wanted."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from pangu_rl.monitoring.live import LiveView
from pangu_rl.monitoring.milestones import milestone
from pangu_rl.monitoring.phases import PhaseTimer


def test_a_line_has_the_seconds_and_the_text_as_it_is() -> None:
    said = io.StringIO()
    milestone("rows read: [red]12[/red]", Console(file=said, width=20))
    assert re.fullmatch(r" *\d+\.\d s  rows read: \[red\]12\[/red\]\n", said.getvalue())


def test_no_color_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert LiveView("GRPO", 1, PhaseTimer()).console.no_color
