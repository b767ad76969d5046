"""A pipeline: stages as data, what each takes from others, and the evaluation of every model that they make."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, field_validator, model_validator

from pangu_rl.config.base import Strict
from pangu_rl.config.inputs import Format
from pangu_rl.config.paths import RunDir
from pangu_rl.config.sections.trainer import ClusterConfig, MonitoringConfig

Kind = Literal[
    "assemble", "vit", "pack", "pretrain", "sft", "difficulty", "pairs", "dpo", "grpo", "iterative", "merge", "eval"
]
RESERVED = ("evaluate", "evaluations", "set_aside", "start")
"""Folders and names of the pipeline itself."""


def dotted(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys as dotted ones; of a key that is written both ways the later counts, as an override does."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        below = dotted(value, f"{prefix}{key}.") if isinstance(value, Mapping) and value else {f"{prefix}{key}": value}
        found |= below
    return found


class StageEntry(Strict):
    stage: Kind
    config: str | None = None
    """YAML of the stage, relative to the working directory. A merge has none."""
    set: dict[str, Any] = Field(default_factory=dict)
    """What is other than in the file: keys of the stage's configuration, dotted or nested."""
    takes: dict[str, str] = Field(default_factory=dict)
    """Key of the stage's configuration -> `<stage>.<output>`: `model.path: sft.model`, `data.train: pairs.pairs`.
    Outputs: `model`; of pairs `pairs`; of difficulty `prompts` and `left_out`; of pack `plan`; of eval none."""
    models: tuple[str, ...] = ()
    """Of a merge: the stages whose models it averages."""
    steps: tuple[PositiveInt, ...] | None = None
    """Of a merge: the checkpoints of each of `models` that it averages (MindVL 3.5.1); null takes the last one. The
    stages must keep them (`trainer.keep_checkpoints`)."""
    weights: tuple[PositiveFloat, ...] | None = None
    """Of a merge: one for each of `models`; equal by default."""

    @field_validator("set", "takes", mode="before")
    @classmethod
    def keys_are_dotted(cls, tree: Any) -> Any:
        return dotted(tree) if isinstance(tree, Mapping) else tree

    @model_validator(mode="after")
    def a_merge_has_models_and_others_a_file(self) -> StageEntry:
        if self.stage != "merge":
            if self.config is None:
                raise ValueError(f"a {self.stage} stage needs config: the YAML file of the stage")
            if self.models or self.weights or self.steps:
                raise ValueError(
                    f"models, steps and weights belong to a merge, this is a {self.stage} stage: remove them"
                )
            return self
        if self.config or self.set or self.takes:
            raise ValueError("a merge has models, steps and weights alone: remove config, set and takes")
        return self

    @model_validator(mode="after")
    def a_merge_has_several_models(self) -> StageEntry:
        if self.stage != "merge":
            return self
        count = len(self.models) * len(self.steps or (1,))
        if count < 2:
            raise ValueError(f"a merge needs two models or more, models is {list(self.models)}")
        if self.weights is not None and len(self.weights) != count:
            raise ValueError(f"{len(self.weights)} weights for {count} models: give one each")
        return self


def listed(path: str, places: Iterable[str]) -> str | None:
    """The one of `places` that `path` is or lies below, the deepest; None if it is under none."""
    found = [place for place in places if path == place or path.startswith(f"{place}/")]
    return max(found, key=len, default=None)


class EvaluateEntry(Strict):
    config: str
    """YAML of an evaluation; its `model.path` is replaced by each model in turn."""
    set: dict[str, Any] = Field(default_factory=dict)
    """As of a stage."""

    @field_validator("set", mode="before")
    @classmethod
    def keys_are_dotted(cls, tree: Any) -> Any:
        return dotted(tree) if isinstance(tree, Mapping) else tree


class PipelineTrainerConfig(Strict):
    run_dir: RunDir
    """A folder for each stage, `evaluations/`, `manifest.json`, and the table and plot of all evaluations."""
    steps: PositiveInt | None = None
    """To try a pipeline out: no stage takes more steps than this (optimiser steps, steps of queries, rounds)."""
    seed: NonNegativeInt | None = None
    """Of every stage that does not `set` its own; null leaves what their files say."""


class ExternalEntry(Strict):
    """What no stage makes."""

    format: Format
    what: str = ""
    """For people: where it is from, how it is made."""
    shape: str | None = None
    """Of a model: a folder with its `config.json`, for `--check`, which needs no weights; null looks at the model."""
    at: str | None = None
    """Where it lies, in place of the path that the stages' files name; null is there."""

    @model_validator(mode="after")
    def only_models_have_a_shape(self) -> ExternalEntry:
        if self.shape is not None and self.format != "model":
            raise ValueError(f"shape is {self.shape} and format is {self.format}: only a model has one")
        return self


class PipelineConfig(Strict):
    trainer: PipelineTrainerConfig
    stages: Annotated[dict[str, StageEntry], Field(min_length=1)]
    """By name, which is the stage's folder in `run_dir`. They run as soon as what they take is there, else in this
    order."""
    external: dict[str, ExternalEntry] = Field(default_factory=dict)
    """Path, as the stages' files name it -> what lies there that no stage makes. `pangu-rl pipeline --check` wants
    every input made by a stage or listed here."""
    evaluate: EvaluateEntry | None = None
    """Run on the model that the pipeline starts from and on the model of each stage."""
    cluster: ClusterConfig = ClusterConfig()
    """Where all stages run; it stands in place of what their files say."""
    monitoring: MonitoringConfig | None = None
    """In place of what the stages' files say; null leaves them that."""
    verify: bool = False
    """Read all rows and weights anew at this start; else only those whose file is not as it was when it was read."""

    @field_validator("stages")
    @classmethod
    def names_are_folders(cls, stages: dict[str, StageEntry]) -> dict[str, StageEntry]:
        for name in stages:
            if name in RESERVED or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
                raise ValueError(
                    f"{name!r} cannot name a stage: letters, digits, _ and -, and none of {', '.join(RESERVED)}"
                )
        return stages
