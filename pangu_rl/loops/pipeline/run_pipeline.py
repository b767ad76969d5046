"""The recipe as one run: a graph of stages -> **each run once, in order** -> one manifest, one table, one plot.

    start --> sft --> pairs --.                    a stage takes outputs of others by name and runs in its own folder;
               |               v                   what decides it is written down before it starts, and what it made
               '-- model --> dpo --> grpo --> ...  when it is over. The same command again skips what is over, goes on
               |                                   in what is not, and refuses a stage that is no longer the same.
               '--> evaluations/sft

A killed pipeline ends with the same `manifest.json` as one that was not: no time, host or run directory stands in it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from pangu_rl.checkpoint.run_lock import run_lock
from pangu_rl.checkpoint.run_model import with_start
from pangu_rl.checkpoint.settings import first_difference, write_whole
from pangu_rl.cluster import ray_runtime
from pangu_rl.config.load import dump_config
from pangu_rl.config.pipelines.graph import EVALUATE, dependents, read_graph
from pangu_rl.config.pipelines.node import Node
from pangu_rl.config.pipelines.pipeline import PipelineConfig
from pangu_rl.errors import ConfigError, DataError, RunError, UserError
from pangu_rl.loops.evaluation.run_eval import run_eval
from pangu_rl.loops.online.run_grpo import run_grpo
from pangu_rl.loops.pipeline import results, stage_outputs
from pangu_rl.loops.pipeline.run_merge import merge
from pangu_rl.loops.pipeline.stage_identity import DIGESTS, identity, settings_hash
from pangu_rl.loops.sampling.run_difficulty import run_difficulty
from pangu_rl.loops.sampling.run_iterative import run_iterative
from pangu_rl.loops.sampling.run_pairs import run_pairs
from pangu_rl.loops.supervised.run_preference import run_preference
from pangu_rl.loops.supervised.run_sft import run_sft
from pangu_rl.monitoring.run_log import refusals_logged
from pangu_rl.storage.inputs import bring_inputs
from pretrain.train.run import run_pretrain
from pretrain.train.run_assemble import MODEL, run_assemble
from pretrain.train.run_pack import run_pack
from pretrain.train.vision.run import run_vit

RUNS: dict[str, Callable[[Any], Any]] = {
    "assemble": run_assemble,
    "vit": run_vit,
    "pack": run_pack,
    "pretrain": run_pretrain,
    "sft": run_sft,
    "difficulty": run_difficulty,
    "pairs": run_pairs,
    "dpo": run_preference,
    "grpo": run_grpo,
    "iterative": run_iterative,
    "eval": run_eval,
}
BEGUN = "pipeline_begun.json"
"""What decides the stage, in its folder from its first start on,"""
DONE = "pipeline_done.json"
"""and its entry of the manifest, when it is over."""


@dataclass(slots=True, kw_only=True)
class Pipeline:
    """The nodes, and the manifest's entries of those that are over."""

    run_dir: Path
    nodes: list[Node]
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)
    console: Console = field(default_factory=lambda: Console(stderr=True))

    def folder(self, node: Node) -> Path:
        return self.run_dir / node.name

    def read(self, identities: Mapping[str, Mapping[str, Any]]) -> None:
        """Take up what earlier starts left.

        Raises:
            ConfigError: a stage was begun with other settings, data or start, or what it was made from is gone; names
                the first one.
        """
        for node in sorted(self.nodes, key=lambda node: node.is_evaluation):
            begun, done = self.folder(node) / BEGUN, self.folder(node) / DONE
            if not begun.is_file():
                continue
            difference = first_difference(json.loads(begun.read_text(encoding="utf-8")), identities[node.name])
            if difference is not None:
                key, was, now = difference
                key = key.partition(".")[2] or key  # without the section of the identity
                name = EVALUATE if node.is_evaluation else node.name
                raise ConfigError(
                    f"{self.run_dir}: {name} was begun with {key} {was}, now it is {now}: set it back, or run it and "
                    f"what depends on it anew with --restart-from {name}"
                )
            if done.is_file():
                self.entries[node.name] = json.loads(done.read_text(encoding="utf-8"))
        for node in self.nodes:
            gone = next((parent for parent in node.parents if parent not in self.entries), None)
            if node.name in self.entries and gone is not None:
                raise ConfigError(
                    f"{self.run_dir}: {node.name} is over, and {gone}, from which it was made, is not: put the folder "
                    f"of {gone} back, or run it and what depends on it anew with --restart-from {gone}"
                )

    def taken(self, node: Node) -> tuple[dict[str, str], dict[str, Any]]:
        """Path and manifest entry of everything that the node takes, by key.

        Raises:
            DataError: an output is gone, or is not what its stage made.
        """
        paths, entries = {}, {}
        for key, source in node.takes.items():
            made = self.entries[source.stage]["outputs"][source.output]
            path = self.run_dir / made["path"]
            found = stage_outputs.checksum(path) if path.exists() else None
            if found != made["checksum"]:
                what = "is gone" if found is None else f"has checksum {found}, {source.stage} made {made['checksum']}"
                raise DataError(f"takes {source}: {path} {what}; --restart-from {source.stage} makes it anew")
            paths[key] = str(path)
            entries[key] = {"from": str(source), "checksum": found}
        return paths, entries

    def run(self, node: Node, settings: Mapping[str, Any]) -> None:
        """Run the node to its end and write its entry."""
        folder = self.folder(node)
        paths, inputs = self.taken(node)
        first = not (folder / BEGUN).exists()
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / BEGUN, json.dumps(settings, indent=1) + "\n")
        started = time.monotonic()
        config = None if node.stage == "merge" else _resolved(node, {**paths, "trainer.run_dir": str(folder)})
        try:
            found = RUNS[node.stage](config) if config else _merge(node, folder, paths)
        except UserError:
            if first and not any(folder.glob("checkpoints/step_*")):
                (folder / BEGUN).unlink()  # a mistake in the input, found before anything was made: it may be mended
            raise
        made = stage_outputs.output_paths(node, folder, config)
        entry = {
            "stage": node.stage,
            "config": settings_hash(settings["config"]),
            "data": settings["data"],
            "inputs": {**settings["inputs"], **inputs},
            "outputs": {
                name: {"path": os.path.relpath(path, self.run_dir), "checksum": stage_outputs.checksum(path)}
                for name, path in made.items()
            },
            "counts": stage_outputs.counts(node, folder),
        }
        if node.stage == "eval":
            entry["sets"] = found
        seconds = {"steps": stage_outputs.seconds_of_steps(folder), "last_start": time.monotonic() - started}
        write_whole(folder / DONE, json.dumps(entry | {"seconds": seconds}, indent=1) + "\n")
        self.entries[node.name] = entry | {"seconds": seconds}


def run_pipeline(config: PipelineConfig, restart_from: str | None = None) -> dict[str, Any]:
    """Run what is not over yet; returns the manifest, which is also written to the run directory.

    `restart_from` sets a stage (or all evaluations: `evaluate`) aside first, and every stage that depends on it.

    Raises:
        UserError, RunError: see `pangu_rl.errors`; the message begins with the stage. Preempted: SIGTERM came.
    """
    nodes = read_graph(config)
    pipeline = Pipeline(run_dir=Path(config.trainer.run_dir), nodes=nodes)
    with run_lock(pipeline.run_dir), ExitStack() as stack:
        stack.enter_context(DIGESTS.in_folder(pipeline.run_dir, config.verify))
        with refusals_logged(pipeline.run_dir):
            if restart_from is not None:
                _set_aside(pipeline, dependents(nodes, restart_from))
            identities = {node.name: _settings(node, pipeline.folder(node)) for node in nodes}
            pipeline.read(identities)
        (pipeline.run_dir / "config.yaml").write_text(dump_config(config), encoding="utf-8")
        waiting = [node for node in nodes if node.name not in pipeline.entries]
        # One Ray for all stages: starting one takes as long as some of them.
        preemption = stack.enter_context(ray_runtime.session(config.cluster)) if waiting else None
        for node in waiting:
            pipeline.console.rule(f"{nodes.index(node) + 1} of {len(nodes)}: {node.name}")
            try:
                pipeline.run(node, identities[node.name])
            except (UserError, RunError) as error:
                raise type(error)(f"{node.name}: {error}") from error
            results.write_table(pipeline.run_dir, nodes, pipeline.entries)
            if preemption.requested and node is not waiting[-1]:
                raise preemption.preempted(f"{node.name} is over; the same command goes on with the next stage")
    return results.finish(pipeline.run_dir, nodes, pipeline.entries, pipeline.console)


def _resolved(node: Node, taken: Mapping[str, str]) -> Any:
    """The configuration that the stage is run with; of a run directory that names a start the newest model is taken."""
    config = node.config(taken)
    return config if node.stage == "assemble" else with_start(config)


def _settings(node: Node, folder: Path) -> dict[str, Any]:
    """What decides the node, but for the content of what it takes: that follows from the stages it takes it from."""
    if node.stage == "merge":
        inputs = {key: {"from": str(source)} for key, source in node.takes.items()}
        return {"stage": "merge", "config": {"weights": node.weights}, "data": {}, "inputs": inputs}
    placeholders = {key: str(source) for key, source in node.takes.items()}
    config = _resolved(node, placeholders | {"trainer.run_dir": str(folder)})
    bring_inputs(node.stage, config)
    return identity(node, config)


def _merge(node: Node, folder: Path, paths: Mapping[str, str]) -> None:
    # The folder of a mean appears whole, so one that is there is the one.
    if not (folder / MODEL).exists():
        merge([Path(path) for path in paths.values()], folder / MODEL, node.weights)


def _set_aside(pipeline: Pipeline, nodes: Sequence[Node]) -> None:
    """Move the nodes' folders to `set_aside/<number>/`; nothing is deleted."""
    there = [node for node in nodes if pipeline.folder(node).exists()]
    number = len(list((pipeline.run_dir / "set_aside").glob("*"))) + 1
    for node in reversed(there):  # what was made from a stage before the stage: a kill in between leaves no orphan
        target = pipeline.run_dir / "set_aside" / f"{number:03d}" / node.name
        target.parent.mkdir(parents=True, exist_ok=True)
        pipeline.folder(node).rename(target)
    if there:
        names = ", ".join(node.name for node in there)
        pipeline.console.print(f"set aside in set_aside/{number:03d}: {names}", markup=False)
