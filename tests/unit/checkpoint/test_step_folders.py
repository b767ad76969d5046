"""Which checkpoint is the newest: by its number, whatever its digits."""

from __future__ import annotations

from pathlib import Path

from pangu_rl.checkpoint.step_folders import step_folders


def test_the_newest_is_that_of_the_greatest_number(tmp_path: Path) -> None:
    for name in ("step_1000000", "step_999999", "step_000012", "step_x", ".partial-step_2000000"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert [folder.name for folder in step_folders(tmp_path)] == ["step_000012", "step_999999", "step_1000000"]
    assert step_folders(tmp_path / "none") == []
