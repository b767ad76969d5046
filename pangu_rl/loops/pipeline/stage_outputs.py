"""What a finished stage of a pipeline has made: **paths for the stages after it, checksums, counts**."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pangu_rl.checkpoint.step_folders import step_folders
from pangu_rl.checkpoint.whole_model import whole_model
from pangu_rl.config.paths import resolve_path
from pangu_rl.config.pipelines.node import STEP, Node
from pangu_rl.errors import DataError
from pangu_rl.loops.pipeline.stage_identity import file_sha256, folder_checksum
from pangu_rl.loops.stage_report import MANIFEST, ROWS
from pangu_rl.monitoring.sinks import METRICS, read_metrics
from pangu_rl.records import Evaluation
from pretrain.packing.plan_file import MANIFEST as PLAN_MANIFEST
from pretrain.train.run_assemble import MODEL, PARTS
from pretrain.train.run_pack import PLAN
from rollout.store import RolloutStore

COUNTED = ("queries", "bad_rows", "candidates", "cut_at_limit", "scores", "pass_rates", "selector", "pairs", "rounds")
"""Keys of a sampling stage's manifest that count something."""


def output_paths(node: Node, folder: Path, config: Any) -> dict[str, Path]:
    """Where the outputs of a finished stage lie, by name; `config` is what it was run with. An iterative stage none of
    whose rounds selected anything hands on its start.

    Raises:
        DataError: an output is not there.
    """
    if node.stage in ("merge", "assemble"):
        found = {"model": folder / MODEL}
    elif node.stage == "iterative":
        made = _read(folder / MANIFEST)["model"]
        found = {"model": folder / made if made else resolve_path(config.model.path)}
    elif node.stage == "pack":
        found = {"plan": folder / PLAN}
    elif "model" in node.outputs:
        found = {"model": whole_model([folder / "no checkpoint", *step_folders(folder)][-1])}
        found |= {f"{STEP}{step}": whole_model(folder / "checkpoints" / f"{STEP}{step:06d}") for step in node.steps}
    else:
        found = {name: folder / f"{name}.jsonl" for name in node.outputs}
    for path in found.values():
        if not path.exists():
            raise DataError(f"{node.name}: {path} is gone: run the stage again with --restart-from {node.name}")
    return found


def checksum(path: Path) -> str:
    """Of an output: of a model folder its `model_checksum`, of a file or another folder its sha256."""
    return folder_checksum(path) if (path / "config.json").is_file() else file_sha256(path)


def counts(node: Node, folder: Path) -> dict[str, Any]:
    """How many of what a stage read, left out and made; nothing that differs between a killed run and a whole one."""
    if node.stage in ("difficulty", "pairs", "iterative"):
        tree = _read(folder / MANIFEST)
        return {key: tree[key] for key in COUNTED if key in tree}
    if node.stage == "merge":
        tree = _read(folder / MODEL / "merge.json")
        shares = [model["weight"] for model in tree["inputs"]]
        return {"weights": shares, "tensors": tree["tensors"], "parameters": tree["parameters"]}
    if node.stage == "assemble":
        return _read(folder / PARTS)
    if node.stage == "pack":
        tree = _read(folder / PLAN / PLAN_MANIFEST)
        return {key: tree[key] for key in ("samples", "samples_left_out", "packs", "steps")}
    if node.stage == "eval":
        return {"rows": _read(folder / ROWS)}
    rows = read_metrics(folder / METRICS)
    if node.stage == "vit":
        return {"steps": rows[-1]["step"], "pictures": int(rows[-1]["data/pictures"])}
    if node.stage == "pretrain":
        read = {key.removeprefix("data/"): int(value) for key, value in rows[-1].items() if _is_count(key)}
    else:
        read = _read(folder / ROWS)
    made = {"completions": _outcomes(folder)} if node.stage == "grpo" else {}
    return {"steps": rows[-1]["step"], "rows": read, **made}


def evaluations(folder: Path) -> list[Evaluation]:
    """What an evaluation found, one record for each set."""
    return [Evaluation(**row) for row in _read(folder / "evaluations.json")]


def seconds_of_steps(folder: Path) -> float:
    """Time that the steps which are part of the result took, over all starts; start-up is not in it."""
    rows = (row for file in sorted(folder.rglob(METRICS)) for row in read_metrics(file))
    return sum(value or 0.0 for row in rows for key, value in row.items() if key.startswith("time/"))


def _outcomes(folder: Path) -> dict[str, int]:
    return dict(sorted(Counter(_values(folder, "outcome")).items()))


def _values(folder: Path, column: str) -> Iterator[str]:
    for batch in RolloutStore(folder).read().to_batches(columns=[column]):
        yield from batch.column(column).to_pylist()


def _is_count(key: str) -> bool:
    return key == "data/skipped" or key.startswith("data/samples/")


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
