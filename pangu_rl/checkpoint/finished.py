"""`finished.json`: what a run that is over leaves for whoever starts it again: **its figures, and what it was of**."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pangu_rl.checkpoint.manifest import check_quickly
from pangu_rl.checkpoint.settings import write_whole
from pangu_rl.checkpoint.store import CheckpointStore
from pangu_rl.config.load import config_digest, dump_config

FILE = "finished.json"


def write_finished(config: Any, figures: dict[str, float]) -> None:
    """When the last step is saved and all is told."""
    steps = CheckpointStore(Path(config.trainer.run_dir), 1).newest_step()
    row = {"steps": steps, "config": config_digest(config), "figures": figures}
    write_whole(Path(config.trainer.run_dir) / FILE, json.dumps(row) + "\n")


def finished(config: Any) -> dict[str, float] | None:
    """The figures of the run of `config`, if it is over; None if it is not, was of another configuration, or has lost
    its newest checkpoint since.

    Raises:
        CheckpointError: a file of that checkpoint is missing or has another size.
    """
    folder = Path(config.trainer.run_dir)
    try:
        row = json.loads((folder / FILE).read_text(encoding="utf-8"))
        begun = (folder / "config.yaml").read_text(encoding="utf-8") == dump_config(config)
    except (OSError, ValueError):
        return None
    if not begun or row.get("config") != config_digest(config) or config.trainer.steps not in (None, row["steps"]):
        return None
    newest = CheckpointStore(folder, 1).latest(check_quickly)
    return row["figures"] if newest is not None and newest.step == row["steps"] else None
