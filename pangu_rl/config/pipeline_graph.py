"""A pipeline's configuration -> **its nodes in the order in which they run**, checked before anything is started.

A node is a stage, or the evaluation of a model. What it takes from others is known by name now and by path when they
have run, so a node's configuration is checked twice: here with names in place of the paths, and then with the paths.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any

from pangu_rl.config.base import Strict
from pangu_rl.config.evaluation import EvalConfig
from pangu_rl.config.load import checked, read_yaml, set_key
from pangu_rl.config.pipeline import EvaluateEntry, PipelineConfig, StageEntry
from pangu_rl.config.pretrain import PretrainConfig
from pangu_rl.config.sampling import DifficultyConfig, IterativeConfig, PairsConfig
from pangu_rl.config.stages import DpoConfig, GrpoConfig, SftConfig
from pangu_rl.config.vision import VisionStageConfig
from pangu_rl.errors import ConfigError

SCHEMAS: dict[str, type[Strict]] = {
    "grpo": GrpoConfig,
    "sft": SftConfig,
    "dpo": DpoConfig,
    "vit": VisionStageConfig,
    "pretrain": PretrainConfig,
    "difficulty": DifficultyConfig,
    "pairs": PairsConfig,
    "iterative": IterativeConfig,
    "eval": EvalConfig,
}
"""Name of a stage, which is its command -> its schema."""
OUTPUTS = {"difficulty": ("prompts", "left_out"), "pairs": ("pairs",)}
"""What a stage makes for others; every other one makes a `model`."""
MODEL_PATH = "model.path"
EVALUATE = "evaluate"
"""The name that all evaluations go by."""


@dataclass(frozen=True, slots=True)
class Source:
    """An output of a stage."""

    stage: str
    output: str

    def __str__(self) -> str:
        return f"{self.stage}.{self.output}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A stage of the pipeline, or an evaluation."""

    name: str
    """Its folder in the run directory."""
    stage: str
    """Its kind: a command of the program."""
    tree: Mapping[str, Any] = field(default_factory=dict)
    """Its configuration, without what it takes."""
    takes: Mapping[str, Source] = field(default_factory=dict)
    """By key of its configuration; of a merge `models.0`, `models.1`, ..."""
    weights: tuple[float, ...] | None = None
    """Of a merge."""

    @property
    def parents(self) -> list[str]:
        return list(dict.fromkeys(source.stage for source in self.takes.values()))

    @property
    def outputs(self) -> tuple[str, ...]:
        return () if self.stage == "eval" else OUTPUTS.get(self.stage, ("model",))

    def config(self, taken: Mapping[str, str]) -> Any:
        """The checked configuration with the values `taken` at their keys.

        Raises:
            ConfigError: a key or value that the stage's schema refuses.
        """
        tree = copy.deepcopy(dict(self.tree))
        for key, value in taken.items():
            set_key(tree, key, value)
        return checked(SCHEMAS[self.stage], tree, f"{self.name} ({self.stage})")

    def draft(self) -> Any:
        """The configuration with names in place of the paths that are not known yet."""
        return self.config({"trainer.run_dir": self.name} | {key: str(source) for key, source in self.takes.items()})


def read_graph(config: PipelineConfig) -> list[Node]:
    """The stages, each followed by the evaluation of its model, in an order in which they can run.

    Raises:
        ConfigError: a file that is not there, a stage, output or key that does not exist, a cycle.
    """
    nodes = {name: _stage_node(name, entry, config) for name, entry in config.stages.items()}
    ordered = [nodes[name] for name in _order(nodes)]
    return _with_evaluations(ordered, config) if config.evaluate else ordered


def dependents(nodes: Iterable[Node], name: str) -> list[Node]:
    """The node (or all evaluations, by the name `evaluate`) and every node that takes something from it, in order.

    Raises:
        ConfigError: no such node.
    """
    found: list[Node] = []
    for node in nodes:
        named = node.name == name or (name == EVALUATE and node.stage == "eval")
        if named or any(one.name in node.parents for one in found):
            found.append(node)
    if not found:
        known = [node.name for node in nodes if node.stage != "eval"]
        raise ConfigError(f"no stage {name!r} in the pipeline{_nearest(name, [*known, EVALUATE])}")
    return found


def _stage_node(name: str, entry: StageEntry, config: PipelineConfig) -> Node:
    if entry.stage == "merge":
        sources = {f"models.{index}": Source(model, "model") for index, model in enumerate(entry.models)}
        for source in sources.values():
            _check_source(name, source, config)
        return Node(name=name, stage="merge", takes=sources, weights=entry.weights)
    takes = {}
    for key, text in entry.takes.items():
        stage, _, output = text.rpartition(".")
        source = takes[key] = Source(stage, output)
        _check_source(name, source, config)
        if (source.output == "model") != (key == MODEL_PATH):
            raise ConfigError(
                f"stages.{name}: {key} takes {source}: a model goes to {MODEL_PATH}, rows to keys of data"
            )
    node = Node(name=name, stage=entry.stage, tree=_tree(entry, config), takes=takes)
    draft = node.draft()
    if getattr(draft, "start", None) is not None:
        raise ConfigError(
            f"stages.{name}: start.sft_config trains a model that the pipeline does not know of: make it a stage, and "
            "set start: null"
        )
    return node if config.trainer.steps is None else _capped(node, draft, config.trainer.steps)


def _tree(entry: StageEntry | EvaluateEntry, config: PipelineConfig) -> dict[str, Any]:
    """The stage's file, with what the pipeline says instead of it."""
    tree = read_yaml(entry.config)
    if config.trainer.seed is not None:
        set_key(tree, "trainer.seed", config.trainer.seed)
    tree["cluster"] = config.cluster.model_dump(mode="json")
    if config.monitoring is not None:
        tree["monitoring"] = config.monitoring.model_dump(mode="json")
    for key, value in entry.set.items():
        set_key(tree, key, value)
    return tree


def _capped(node: Node, draft: Any, most: int) -> Node:
    steps = draft.trainer.steps
    if steps is not None and steps <= most:
        return node
    tree = copy.deepcopy(dict(node.tree))
    set_key(tree, "trainer.steps", most)
    return Node(name=node.name, stage=node.stage, tree=tree, takes=node.takes)


def _check_source(name: str, source: Source, config: PipelineConfig) -> None:
    if source.stage not in config.stages:
        raise ConfigError(
            f"stages.{name} takes {source}: no stage {source.stage!r}{_nearest(source.stage, config.stages)}"
        )
    made = OUTPUTS.get(config.stages[source.stage].stage, ("model",))
    if source.output not in made:
        raise ConfigError(f"stages.{name} takes {source}: {source.stage} makes {', '.join(made)}")


def _order(nodes: Mapping[str, Node]) -> list[str]:
    """Names in the order of the file, but none before what it takes."""
    sorter = TopologicalSorter({name: node.parents for name, node in nodes.items()})
    try:
        sorter.prepare()
    except CycleError as error:
        raise ConfigError(f"stages take from each other in a circle: {' -> '.join(error.args[1])}") from None
    names, ready, order = list(nodes), [], []
    while sorter.is_active():
        ready = sorted([*ready, *sorter.get_ready()], key=names.index)
        order.append(ready.pop(0))
        sorter.done(order[-1])
    return order


def _with_evaluations(ordered: list[Node], config: PipelineConfig) -> list[Node]:
    tree = _tree(config.evaluate, config)
    starts = start_models(ordered)
    found = []
    for name, path in starts.items():
        own = copy.deepcopy(tree)
        set_key(own, MODEL_PATH, path)
        found.append(Node(name=f"evaluations/{name}", stage="eval", tree=own))
    for node in ordered:
        found.append(node)
        if "model" in node.outputs:
            takes = {MODEL_PATH: Source(node.name, "model")}
            found.append(Node(name=f"evaluations/{node.name}", stage="eval", tree=tree, takes=takes))
    for node in found:
        if node.stage == "eval":
            node.draft()
    return found


def start_models(nodes: Iterable[Node]) -> dict[str, str]:
    """Name -> path of each model that a stage trains and no stage makes: `start`, or `start_of_<stage>` of several."""
    paths: dict[str, str] = {}
    for node in nodes:
        if "model" in node.outputs and node.stage != "merge" and MODEL_PATH not in node.takes:
            paths.setdefault(node.draft().model.path, f"start_of_{node.name}")
    return {name if len(paths) > 1 else "start": path for path, name in paths.items()}


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f": did you mean {near[0]}?" if near else f": there are {', '.join(known)}"
