"""`--dry-run N` says what each operator does to the first rows, and writes nothing."""

from __future__ import annotations

from data_curation.pipeline.dry_run import dry_run
from tests.unit.data_curation.pipeline.builders import numbered, own, pipeline


def test_it_says_what_each_operator_does_to_each_row(tmp_path) -> None:
    operators = [own("no_odd", least=1), own("doubled"), own("halved"), own("largest", keep=1)]
    summary, steps = dry_run(pipeline(numbered(tmp_path / "in.jsonl", 100), tmp_path / "out", operators), 3)
    assert [(step.operator, step.uid, step.what) for step in steps] == [
        ("no_odd", "r0", "kept: n 0"),
        ("no_odd", "r1", "dropped: odd: n is 1"),
        ("no_odd", "r2", "kept: n 2"),
        ("doubled", "r0", "edited: doubled: "),
        ("doubled", "r2", "edited: doubled: n 2 -> 4"),
        ("halved", "r0", 'noted: {"half": 0.0}'),
        ("halved", "r2", 'noted: {"half": 2.0}'),
        ("largest", "r2", "repeated 2 times"),
    ]
    assert (summary.rows, summary.tallies[0].rows_in) == (3, 3)
    assert not (tmp_path / "out").exists()
