"""What the commands share: the program itself, the options they have in common, a stage's configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pangu_rl.config.evaluation import EvalConfig
from pangu_rl.config.load import load_config
from pangu_rl.config.pipeline import PipelineConfig
from pangu_rl.config.pipeline_graph import read_graph
from pangu_rl.config.pipeline_node import SCHEMAS
from pangu_rl.config.pretrain import PretrainConfig
from pangu_rl.config.sampling import SampledStage
from pangu_rl.config.stages import DpoConfig, GrpoConfig, SftConfig
from pangu_rl.config.vision import VisionStageConfig
from pangu_rl.errors import ConfigError

STAGES = {**SCHEMAS, "pipeline": PipelineConfig}
"""Name of a stage, which is its command -> its schema."""

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

ConfigFile = Annotated[Path, typer.Option("--config", help="YAML of the stage; configs/ has the shipped ones.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="Overrides, e.g. trainer.steps=10 run_dir=runs/x.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object for a machine to read.")]
StageName = Annotated[str, typer.Argument(help=f"{', '.join(STAGES)}.")]


def load_stage(
    stage: str, path: Path, overrides: list[str] | None
) -> (
    GrpoConfig | SftConfig | DpoConfig | PretrainConfig | VisionStageConfig | SampledStage | EvalConfig | PipelineConfig
):
    """The checked configuration of `stage`: the file, then the overrides; of a pipeline also its stages'.

    Raises:
        ConfigError: an unknown stage, file, key or value.
    """
    if stage not in STAGES:
        raise ConfigError(f"unknown stage {stage!r}: one of {', '.join(STAGES)}")
    config = load_config(STAGES[stage], path, [expanded(override) for override in overrides or ()])
    if isinstance(config, PipelineConfig):
        read_graph(config)
    return config


def load_run(stage: str, path: Path, overrides: list[str] | None) -> Any:
    """`load_stage`, where a run directory as `model.path` is the model that the run made; data in object storage are
    fetched.

    Raises:
        UserError, RunError: as `load_stage` and `bring_inputs`, or that run has made no model, or a corrupt one.
    """
    from pangu_rl.checkpoint.run_model import with_start
    from pangu_rl.storage.inputs import bring_inputs

    config = load_stage(stage, path, overrides)
    bring_inputs(stage, config)
    return with_start(config)


def expanded(override: str) -> str:
    """`run_dir=X` is short for `trainer.run_dir=X`: the one key that every stage has and every user sets."""
    return f"trainer.{override}" if override.startswith("run_dir=") else override
