"""Warnings of run.log as the page has them."""

from __future__ import annotations

import json
from pathlib import Path

from pangu_rl.data.mixing.seen import Seen
from pangu_rl.report.facts import Source, read_facts, sources
from pangu_rl.report.page import render


def test_each_kind_of_warning_stands_once_with_its_count(tmp_path: Path) -> None:
    """What was said at the start is not pushed out by what is said at every step."""
    (tmp_path / "config.yaml").write_text("trainer: {steps: 3}\n")
    lines = ["2026-01-01 00:00:00,123 WARNING a: lr is high", "2026-01-01 00:00:00,123 INFO    a: WARNING in words"]
    lines += [f"2026-01-01 00:00:0{n},123 WARNING a: left out: /d/rows.jsonl row {n}: key 'x{n}'" for n in range(9)]
    lines += [f"2026-01-01 00:00:00,123 ERROR   b: {'x' * n}" for n in range(1, 60)]
    (tmp_path / "run.log").write_text("\n".join(lines))
    found = read_facts(tmp_path).warnings
    assert found[0].endswith("lr is high")
    assert found[1].endswith("/d/rows.jsonl row 0: key 'x0' (9 times)")
    assert len(found) == 40
    assert found[-1].endswith("x" * 59)


def test_the_sources_are_those_of_the_last_step_with_their_shares(tmp_path: Path) -> None:
    first, last = Seen.of([("a", 10)]), Seen.of([("a", 10), ("b", 30)])
    rows = [{"step": 1} | first.metrics(), {"step": 2} | last.metrics()]
    assert sources(rows) == [
        Source(name="b", samples=1.0, sample_share=0.5, token_share=0.75),
        Source(name="a", samples=1.0, sample_share=0.5, token_share=0.25),
    ]
    assert sources(rows[:1]) == [Source(name="a", samples=1.0, sample_share=1.0, token_share=1.0)]
    assert sources([]) == sources([{"step": 1}]) == []
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = render(tmp_path, per_sheet=1)
    assert "Rows trained on" in page and "75.0 %" in page
