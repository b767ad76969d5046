"""A pipeline's folder -> **its graph with what is over, and the table of its evaluations**, also while it runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from pangu_rl.errors import DataError
from pangu_rl.monitoring.sinks import METRICS
from pangu_rl.view.opened import config_of

BEGUN, DONE, TABLE = "pipeline_begun.json", "pipeline_done.json", "table.json"
"""As the pipeline writes them in the folders of its stages, and in its own."""


def read_pipeline(folder: Path) -> dict[str, Any]:
    """`stages` in an order in which they can run, each with its `depth` in the graph, and the rows of the table.

    Raises:
        DataError: a configuration that is no graph, or a table that is none.
    """
    stages: Mapping[str, Mapping[str, Any]] = config_of(folder)["stages"]
    edges = {name: _edges(entry) for name, entry in stages.items()}
    parents = {name: [edge["stage"] for edge in found if edge["stage"] in stages] for name, found in edges.items()}
    try:
        order = list(TopologicalSorter(parents).static_order())
    except CycleError as error:
        raise DataError(f"{folder}: its stages go in a circle: {', '.join(error.args[1])}") from None
    depths: dict[str, int] = {}
    for name in order:
        depths[name] = 1 + max((depths[parent] for parent in parents[name]), default=-1)
    return {
        "stages": [
            {"name": name, "stage": stages[name].get("stage", ""), "depth": depths[name], "from": edges[name]}
            | _state(folder / name)
            for name in order
        ],
        "table": _read(folder / TABLE) or [],
    }


def _edges(entry: Mapping[str, Any]) -> list[dict[str, str]]:
    """What a stage takes of others: `stage`, `output`, and the `key` that it becomes."""
    taken = [(key, text) for key, text in (entry.get("takes") or {}).items()]
    found = [{"stage": text.rpartition(".")[0], "output": text.rpartition(".")[2], "key": key} for key, text in taken]
    return found + [{"stage": name, "output": "model", "key": "models"} for name in entry.get("models") or ()]


def _state(stage: Path) -> dict[str, Any]:
    done = _read(stage / DONE)
    if done is None:
        return {"state": "begun" if (stage / BEGUN).is_file() or (stage / METRICS).is_file() else "waits"}
    seconds = done.get("seconds") or {}
    return {"state": "over", "seconds": sum(v for v in seconds.values() if isinstance(v, (int, float)))}


def _read(path: Path) -> Any:
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: no JSON: {error}") from None
