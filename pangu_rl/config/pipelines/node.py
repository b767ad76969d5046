"""A node of a pipeline's graph: **a stage, or the evaluation of a model, with what it takes from others**.

What it takes is known by name now and by path when the others have run, so its configuration is checked twice: with
names in place of the paths, and then with the paths.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pangu_rl.config.assemble import AssembleConfig
from pangu_rl.config.base import Strict
from pangu_rl.config.evaluation import EvalConfig
from pangu_rl.config.inputs import OUTPUTS
from pangu_rl.config.load import checked, set_key
from pangu_rl.config.pretrain import PretrainConfig
from pangu_rl.config.sampling import DifficultyConfig, IterativeConfig, PairsConfig
from pangu_rl.config.stages import DpoConfig, GrpoConfig, SftConfig
from pangu_rl.config.vision import VisionStageConfig

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
    "assemble": AssembleConfig,
}
"""Name of a stage, which is its command -> its schema."""
NODE_SCHEMAS: dict[str, type[Strict]] = SCHEMAS | {"pack": PretrainConfig}
"""Kind of a node -> its schema; a pack has the file of the stage that it packs for. A merge has none."""
WITHOUT_ACTORS = ("assemble", "pack", "merge")
"""Kinds that run in the driver."""
EVALUATIONS = "evaluations/"
MODEL_PATH = "model.path"
STEP = "step_"


@dataclass(frozen=True, slots=True)
class Source:
    """An output of a stage; `step_29000` is the model of its checkpoint of that step."""

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
    steps: tuple[int, ...] = ()
    """Checkpoints of it that others take."""

    @property
    def parents(self) -> list[str]:
        return list(dict.fromkeys(source.stage for source in self.takes.values()))

    @property
    def outputs(self) -> tuple[str, ...]:
        return OUTPUTS.get(self.stage, ("model",))

    @property
    def is_evaluation(self) -> bool:
        """One of those that `evaluate` asks for, and no stage."""
        return self.name.startswith(EVALUATIONS)

    def config(self, taken: Mapping[str, str]) -> Any:
        """The checked configuration with the values `taken` at their keys.

        Raises:
            ConfigError: a key or value that the stage's schema refuses.
        """
        tree = copy.deepcopy(dict(self.tree))
        for key, value in taken.items():
            set_key(tree, key, value)
        return checked(NODE_SCHEMAS[self.stage], tree, f"{self.name} ({self.stage})")

    def draft(self) -> Any:
        """The configuration with names in place of the paths that are not known yet."""
        return self.config({"trainer.run_dir": self.name} | {key: str(source) for key, source in self.takes.items()})
