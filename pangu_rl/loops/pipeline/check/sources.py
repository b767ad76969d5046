"""What each stage reads -> **a line for whatever no stage makes and nobody lists**, or is listed as something else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pangu_rl.cluster.profile_checks import is_shared
from pangu_rl.config.cluster_profile import ClusterProfile
from pangu_rl.config.inputs import Input, format_of, inputs_of
from pangu_rl.config.names.named_files import is_here, named_files
from pangu_rl.config.paths import CACHE_SCHEME, is_address
from pangu_rl.config.pipelines.graph import EVALUATE, read_graph
from pangu_rl.config.pipelines.node import Node
from pangu_rl.config.pipelines.pipeline import PipelineConfig, listed
from pangu_rl.config.sections.scorers import ScorersConfig
from pangu_rl.errors import ConfigError
from pangu_rl.loops.pipeline.check.shapes import external_of, panel_engines, scorers_of

PACKED_FOR = (
    "learner.pack_tokens",
    "learner.groups",
    "trainer.packs_per_step",
    "data.train",
    "data.min_pixels",
    "data.max_pixels",
)
"""What a plan and the stage that trains by it agree on."""


def source_faults(config: PipelineConfig) -> list[str]:
    """In the order of the stages, by the paths that their files name, wherever `external` says that they lie.

    Raises:
        ConfigError: as `read_graph`.
    """
    named = {name: entry.model_copy(update={"at": None}) for name, entry in config.external.items()}
    config = config.model_copy(update={"external": named})
    nodes = read_graph(config)
    faults: list[str] = []
    by_name = {node.name: node for node in nodes}
    homes = {home: node for node in nodes if not node.is_evaluation for home in _homes(node, config)}
    for node in _once(nodes):
        draft = node.draft()
        name = EVALUATE if node.is_evaluation else node.name
        for one in [*inputs_of(node.stage, draft), *_judges(draft)]:
            if one.key in node.takes:
                continue
            entry = external_of(one.path, config)
            if entry is None:
                faults.append(f"{name}: {_unlisted(one, homes)}")
                continue
            if entry[1].format not in one.formats:
                faults.append(
                    f"{name}: {one.key} {one.path} is listed as {entry[1].format}, and the stage reads "
                    f"{' or '.join(one.formats)}: name another, or mend external.{entry[0]}.format"
                )
        faults += [f"{name}: {line}" for line in _missing_files(node, draft)]
        faults += [f"{name}: {line}" for line in _other_plan(node, draft, by_name)]
    return faults


def _once(nodes: Sequence[Node]) -> Iterator[Node]:
    """The stages and one of the evaluations, whose inputs are all alike but for the model, which its stage tells of."""
    yield from (node for node in nodes if node.stage != "merge" and not node.is_evaluation)
    yield from [node for node in nodes if node.is_evaluation and node.takes][:1]


def _homes(node: Node, config: PipelineConfig) -> list[str]:
    """Where the stage works in the pipeline, and where it would if it were run alone."""
    trainer = node.tree.get("trainer")
    alone = [trainer["run_dir"]] if isinstance(trainer, Mapping) and "run_dir" in trainer else []
    return [f"{config.trainer.run_dir}/{node.name}", *alone]


def _unlisted(one: Input, homes: Mapping[str, Node]) -> str:
    way, home = "take it from a stage", listed(one.path, homes)
    made = [output for output in homes[home].outputs if format_of(output) in one.formats] if home else []
    if made:
        source = f"{homes[home].name}.{made[0]}"
        way = f"take it from {homes[home].name} (takes: {{{one.key}: {source}}})"
    return (
        f"{one.key} {one.path}: no stage of the pipeline makes it, and external does not list it: {way}, or list it "
        f"with its format ({' or '.join(one.formats)})"
    )


def _judges(draft: Any) -> list[Input]:
    """Models, pictures of the panels that a stage asks; a file that cannot be read is told apart."""
    try:
        judges = [Input(key=f"scorer {one.name}", path=one.model, formats=("model",)) for one in panel_engines(draft)]
        panels = scorers_of(draft)
    except ConfigError:
        return []
    # A judge of benchmarks reads, and sees no picture.
    roots = [panel.media_root for panel in panels if isinstance(panel, ScorersConfig) and panel.media_root]
    return [*judges, *(Input(key="media_root of the scorers", path=root, formats=("media",)) for root in roots)]


def _missing_files(node: Node, draft: Any) -> Iterator[str]:
    """Files that travel with the working directory: prompts, templates, scorers, shapes, reward functions."""
    listed_ones = {one.key for one in inputs_of(node.stage, draft)}
    gone = {
        key: path
        for key, path in named_files(draft).items()
        if key not in listed_ones and not is_address(path) and not is_here(key, path)
    }
    for key, path in gone.items():
        yield f"{key} {path}: no such file: " + (
            "`pangu-rl curate` prepares those of cache://"
            if path.startswith(CACHE_SCHEME)
            else "it lies in the working directory, or under an absolute path"
        )
    if gone:
        return
    try:
        scorers_of(draft)
    except ConfigError as error:
        yield str(error)


def _other_plan(node: Node, draft: Any, by_name: Mapping[str, Node]) -> Iterator[str]:
    """A plan that was packed for something else than what the stage trains on."""
    source = node.takes.get("data.plan")
    if source is None:
        return
    packed = by_name[source.stage].draft()
    for key in PACKED_FOR:
        theirs, ours = (_value(config, key) for config in (packed, draft))
        if theirs != ours:
            yield f"data.plan is {source}, packed for {key} {theirs}, and the stage has {ours}: give both the same"


def _value(config: Any, key: str) -> Any:
    for name in key.split("."):
        config = getattr(config, name)
    return config


def unshared(config: PipelineConfig, profile: ClusterProfile) -> list[str]:
    """What not every node of a cluster of several sees; object storage is seen by all, but holds no models."""
    known = ", ".join(profile.shared) or "none: list them under shared"
    places = {f"external {name}": (entry.at or name, entry.format) for name, entry in config.external.items()}
    places["trainer.run_dir"] = config.trainer.run_dir, "model"
    return [
        f"{key} {place} is under no folder that all nodes see ({known})"
        for key, (place, form) in places.items()
        if not is_shared(place, profile) and not (is_address(place) and form != "model")
    ]
