"""A pipeline's configuration -> **its nodes in the order in which they run**, checked before anything is started."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter
from typing import Any

from pangu_rl.config.inputs import OUTPUTS, READS, format_of
from pangu_rl.config.keys import nearest
from pangu_rl.config.load import read_yaml, set_key
from pangu_rl.config.names.named_files import take_beside
from pangu_rl.config.names.share_names import rename_shares, train_entries
from pangu_rl.config.names.shipped import shipped
from pangu_rl.config.pipelines.node import EVALUATIONS, MODEL_PATH, NODE_SCHEMAS, STEP, Node, Source
from pangu_rl.config.pipelines.pipeline import EvaluateEntry, ExternalEntry, PipelineConfig, StageEntry, listed
from pangu_rl.errors import ConfigError

EVALUATE = "evaluate"
"""The name that all evaluations go by."""


def read_graph(config: PipelineConfig) -> list[Node]:
    """The stages, each followed by the evaluation of its model, in an order in which they can run.

    Raises:
        ConfigError: a file that is not there, a stage, output or key that does not exist, a cycle.
    """
    nodes = {name: _stage_node(name, entry, config) for name, entry in config.stages.items()}
    ordered = [_keeping(nodes[name], _taken_steps(name, nodes.values())) for name in _order(nodes)]
    return _with_evaluations(ordered, config) if config.evaluate else ordered


def dependents(nodes: Iterable[Node], name: str) -> list[Node]:
    """The node (or all evaluations, by the name `evaluate`) and every node that takes something from it, in order.

    Raises:
        ConfigError: no such node.
    """
    found: list[Node] = []
    for node in nodes:
        named = node.name == name or (name == EVALUATE and node.is_evaluation)
        if named or any(one.name in node.parents for one in found):
            found.append(node)
    if not found:
        known = [node.name for node in nodes if not node.is_evaluation]
        raise ConfigError(f"no stage {name!r} in the pipeline{nearest(name, [*known, EVALUATE])}")
    return found


def _stage_node(name: str, entry: StageEntry, config: PipelineConfig) -> Node:
    if entry.stage == "merge":
        outputs = ["model"] if entry.steps is None else [f"{STEP}{step}" for step in entry.steps]
        models = [Source(model, output) for model in entry.models for output in outputs]
        sources = {f"models.{index}": source for index, source in enumerate(models)}
        for source in sources.values():
            _check_source(name, source, config)
        return Node(name=name, stage="merge", takes=sources, weights=entry.weights)
    takes = {}
    for key, text in entry.takes.items():
        stage, _, output = text.rpartition(".")
        source = takes[key] = Source(stage, output)
        _check_source(name, source, config)
    node = Node(name=name, stage=entry.stage, tree=_tree(entry.stage, entry, config), takes=takes)
    draft = node.draft()
    _check_formats(node)
    if getattr(draft, "start", None) is not None:
        raise ConfigError(
            f"stages.{name}: start.sft_config trains a model that the pipeline does not know of: make it a stage, and "
            "set start: null"
        )
    return node if config.trainer.steps is None else _capped(node, draft, config.trainer.steps)


def _tree(stage: str, entry: StageEntry | EvaluateEntry, config: PipelineConfig) -> dict[str, Any]:
    """The stage's file, with what the pipeline says instead of it."""
    file = shipped(entry.config)
    tree = read_yaml(file)
    take_beside(tree, file.parent)
    if config.trainer.seed is not None:
        set_key(tree, "trainer.seed", config.trainer.seed)
    for section in (config.cluster, config.monitoring):
        name = "cluster" if section is config.cluster else "monitoring"
        if section is not None and name in NODE_SCHEMAS[stage].model_fields:
            tree[name] = section.model_dump(mode="json")
    for key, value in entry.set.items():
        set_key(tree, key, copy.deepcopy(value))
    moved = _moved(tree, config.external)
    rename_shares(moved, train_entries(tree))
    return moved


def _moved(tree: Any, external: Mapping[str, ExternalEntry]) -> Any:
    """`tree` with every path of `external`, and what lies below it, where it lies."""
    if isinstance(tree, Mapping):
        return {key: _moved(value, external) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_moved(value, external) for value in tree]
    if isinstance(tree, str):
        path = listed(tree, external)
        if path is not None and external[path].at is not None:
            return external[path].at + tree.removeprefix(path)
    return tree


def _capped(node: Node, draft: Any, most: int) -> Node:
    steps = getattr(draft.trainer, "steps", most)
    if steps is not None and steps <= most:
        return node
    tree = copy.deepcopy(dict(node.tree))
    set_key(tree, "trainer.steps", most)
    return replace(node, tree=tree)


def _keeping(node: Node, steps: tuple[int, ...]) -> Node:
    """The node with the checkpoints of `steps` kept."""
    if not steps:
        return node
    tree = copy.deepcopy(dict(node.tree))
    own = node.draft().trainer.keep_steps
    set_key(tree, "trainer.keep_steps", sorted({*own, *steps}))
    kept = replace(node, tree=tree, steps=steps)
    kept.draft()
    return kept


def _taken_steps(name: str, nodes: Iterable[Node]) -> tuple[int, ...]:
    """Steps of the stage whose checkpoints others take."""
    outputs = {source.output for node in nodes for source in node.takes.values() if source.stage == name}
    return tuple(sorted(int(output.removeprefix(STEP)) for output in outputs if output.startswith(STEP)))


def _check_formats(node: Node) -> None:
    for key, source in node.takes.items():
        made, wanted = format_of(source.output), READS[node.stage].get(key, ())
        if made not in wanted:
            reads = f"reads {' or '.join(wanted)}" if wanted else "takes nothing from a stage"
            models = [key for key, formats in READS[node.stage].items() if "model" in formats]
            way = f": a model goes to {' or '.join(models)}" if made == "model" else ""
            raise ConfigError(f"stages.{node.name}: {key} takes {source} ({made}), and {reads}{way}")


def _check_source(name: str, source: Source, config: PipelineConfig) -> None:
    if source.stage not in config.stages:
        raise ConfigError(
            f"stages.{name} takes {source}: no stage {source.stage!r}{nearest(source.stage, config.stages)}"
        )
    kind = config.stages[source.stage].stage
    made = OUTPUTS.get(kind, ("model",))
    has_checkpoints = kind in ("pretrain", "vit", "sft", "dpo", "grpo")
    if source.output not in made and not (has_checkpoints and source.output.startswith(STEP)):
        raise ConfigError(f"stages.{name} takes {source}: {source.stage} makes {', '.join(made) or 'nothing'}")


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
    tree = _tree("eval", config.evaluate, config)
    starts = start_models(ordered)
    found = []
    for name, path in starts.items():
        own = copy.deepcopy(tree)
        set_key(own, MODEL_PATH, path)
        found.append(Node(name=f"{EVALUATIONS}{name}", stage="eval", tree=own))
    for node in ordered:
        found.append(node)
        if "model" in node.outputs:
            takes = {MODEL_PATH: Source(node.name, "model")}
            found.append(Node(name=f"{EVALUATIONS}{node.name}", stage="eval", tree=tree, takes=takes))
    for node in found:
        if node.is_evaluation:
            node.draft()
    return found


def start_models(nodes: Iterable[Node]) -> dict[str, str]:
    """Name -> path of each model that a stage trains and no stage makes: `start`, or `start_of_<stage>` of several."""
    paths: dict[str, str] = {}
    for node in nodes:
        if "model" in node.outputs and MODEL_PATH in READS[node.stage] and MODEL_PATH not in node.takes:
            paths.setdefault(node.draft().model.path, f"start_of_{node.name}")
    return {name if len(paths) > 1 else "start": path for path, name in paths.items()}
