"""Nodes of a pipeline -> **the shape of the model that each works with**, from descriptions alone, without weights."""

from __future__ import annotations

from collections.abc import Sequence

from pangu_rl.config.names.hub import local_folder
from pangu_rl.config.names.scorer_files import scorer_files
from pangu_rl.config.pipelines.node import MODEL_PATH, Node
from pangu_rl.config.pipelines.pipeline import ExternalEntry, PipelineConfig, listed
from pangu_rl.config.sections.scorers import JudgeConfig, ScorerConfig, ScorersConfig
from pangu_rl.learner.measure.model_shape import ModelShape, read_shape


def shapes_of(nodes: Sequence[Node], config: PipelineConfig) -> dict[str, ModelShape | None]:
    """By name of the node; None where nothing describes the model. The nodes stand in the order in which they run."""
    found: dict[str, ModelShape | None] = {}
    for node in nodes:
        if node.stage == "assemble":
            found[node.name] = read_shape(local_folder(node.draft().shape))
        elif node.stage == "merge":
            found[node.name] = found[node.takes["models.0"].stage]
        elif MODEL_PATH in node.takes:
            found[node.name] = found[node.takes[MODEL_PATH].stage]
        else:
            found[node.name] = external_shape(node.draft().model.path, config)
    return found


def external_of(path: str, config: PipelineConfig) -> tuple[str, ExternalEntry] | None:
    """The entry of `external` that `path` is, or lies below, and its name there."""
    names = {entry.at or name: name for name, entry in config.external.items()}
    place = listed(path, names)
    return None if place is None else (names[place], config.external[names[place]])


def external_shape(path: str, config: PipelineConfig) -> ModelShape | None:
    """Of a model that no stage makes: its own `config.json` where it is here, else what its entry names."""
    entry = external_of(path, config)
    described = entry[1].shape if entry is not None else None
    return read_shape(local_folder(path)) or (read_shape(local_folder(described)) if described else None)


def scorers_of(config: object) -> list[ScorersConfig | JudgeConfig]:
    """The files of scorers that a stage asks.

    Raises:
        ConfigError: one that cannot be used.
    """
    rewards = getattr(config, "rewards", None)
    return scorer_files(rewards.functions) if rewards is not None else []


def panel_engines(config: object) -> list[ScorerConfig]:
    """Judges that are engines of the run.

    Raises:
        ConfigError: a scorers file that cannot be used.
    """
    scorers = [scorer for file in scorers_of(config) for scorer in file.scorers]
    return [scorer for scorer in scorers if scorer.engine is not None]
