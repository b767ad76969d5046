"""Entries of finished stages -> **manifest.json, seconds.json, and the table of evaluations** (.md, .json, .png)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from pangu_rl.checkpoint.settings import write_whole
from pangu_rl.config.pipelines.graph import start_models
from pangu_rl.config.pipelines.node import EVALUATIONS, MODEL_PATH, Node
from pangu_rl.loops.pipeline.stage_outputs import evaluations
from pangu_rl.loops.stage_report import write_manifest
from pangu_rl.monitoring.stage_plot import plot_stages
from pangu_rl.monitoring.stage_table import Measured, stage_figures, stage_markdown, stage_tables


def write_table(run_dir: Path, nodes: Sequence[Node], entries: Mapping[str, Mapping[str, Any]]) -> list[Measured]:
    """The table as it is by now, without the plot; returns its rows."""
    found = measured(run_dir, nodes, entries)
    if found:
        write_whole(run_dir / "table.json", json.dumps(stage_figures(found), indent=1) + "\n")
        write_whole(run_dir / "table.md", stage_markdown(found))
    return found


def finish(
    run_dir: Path, nodes: Sequence[Node], entries: Mapping[str, Mapping[str, Any]], console: Console
) -> dict[str, Any]:
    """All of the files; the table also on `console`. Returns the manifest."""
    manifest = manifest_of(nodes, entries)
    write_manifest(run_dir, manifest)
    seconds = {node.name: entries[node.name]["seconds"] for node in nodes}
    write_whole(run_dir / "seconds.json", json.dumps(seconds, indent=1) + "\n")
    found = write_table(run_dir, nodes, entries)
    if found:
        plot_stages(found, run_dir / "table.png")
    for table in stage_tables(found):
        console.print(table)
    return manifest


def manifest_of(nodes: Sequence[Node], entries: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """`stages` by name in the order in which they ran, each with its evaluation; `start` with that of the start."""
    tree: dict[str, Any] = {"stages": {}}
    for node in nodes:
        entry = {key: value for key, value in entries[node.name].items() if key != "seconds"}
        if not node.is_evaluation:
            tree["stages"][node.name] = entry
        elif MODEL_PATH in node.takes:
            tree["stages"][node.takes[MODEL_PATH].stage]["evaluation"] = entry
        else:
            tree.setdefault("start", {})[node.name.removeprefix(EVALUATIONS)] = entry
    return tree


def measured(run_dir: Path, nodes: Sequence[Node], entries: Mapping[str, Mapping[str, Any]]) -> list[Measured]:
    """A row for each model that has been evaluated, in the order of the stages."""
    by_name = {node.name: node for node in nodes}
    starts = {path: name for name, path in start_models(nodes).items()}
    found = []
    for node in nodes:
        if not node.is_evaluation or node.name not in entries:
            continue
        name = node.name.removeprefix(EVALUATIONS)
        made_by = by_name.get(name)
        sets = {evaluation.name: evaluation for evaluation in evaluations(run_dir / node.name)}
        found.append(Measured(name=name, against=_made_from(made_by, starts), sets=sets))
    return found


def _made_from(node: Node | None, starts: Mapping[str, str]) -> tuple[str, ...]:
    """Names of the models that a stage started from."""
    if node is None or node.stage == "assemble":
        return ()
    if node.stage == "merge":
        return tuple(node.parents)
    if MODEL_PATH in node.takes:
        return (node.takes[MODEL_PATH].stage,)
    return (starts[node.draft().model.path],)
