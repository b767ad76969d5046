"""A run directory -> **the folders of its checkpoints, oldest first**, for those who only look at what lies there."""

from __future__ import annotations

from pathlib import Path


def step_folders(run_dir: Path) -> list[Path]:
    """By the number: names have six digits, and more from step 1,000,000 on."""
    found = {folder.name.removeprefix("step_"): folder for folder in run_dir.glob("checkpoints/step_*")}
    return [found[number] for number in sorted(filter(str.isdecimal, found), key=int)]
