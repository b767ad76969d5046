"""What the commands share: the program itself, the options they have in common, a stage's configuration."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pangu_rl.cli.program import Program
from pangu_rl.errors import ConfigError

if TYPE_CHECKING:
    from pangu_rl.config.base import Strict

STAGES = (
    *("grpo", "sft", "dpo", "vit", "pretrain"),
    *("difficulty", "pairs", "iterative", "eval", "assemble", "pipeline"),
)
"""What has a configuration; a stage's name is its command."""

app = typer.Typer(
    cls=Program,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ConfigFile = Annotated[
    Path, typer.Option("--config", help="YAML of the stage, or the name of a shipped one: quickstart/grpo_text.")
]
Overrides = Annotated[list[str] | None, typer.Argument(help="Overrides, e.g. trainer.steps=10 run_dir=runs/x.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object for a machine to read.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show rows, steps, memory and files; start nothing.")]
StageName = Annotated[str, typer.Argument(help=f"{', '.join(STAGES)}.")]


def schema_of(stage: str) -> type[Strict]:
    """
    Raises:
        ConfigError: no such stage.
    """
    from pangu_rl.config.pipelines.node import SCHEMAS
    from pangu_rl.config.pipelines.pipeline import PipelineConfig

    if stage not in STAGES:
        near = difflib.get_close_matches(stage, STAGES, n=1)
        meant = f"did you mean {near[0]}? There are" if near else "there are"
        raise ConfigError(f"no stage {stage!r}: {meant} {', '.join(STAGES)}")
    return PipelineConfig if stage == "pipeline" else SCHEMAS[stage]


def load_stage(stage: str, path: Path, overrides: list[str] | None) -> Any:
    """The checked configuration of `stage`: the file, then the overrides; of a pipeline also its stages'.

    Raises:
        ConfigError: an unknown stage, file, key or value.
    """
    from pangu_rl.config.load import read_tree

    given = [expanded(override) for override in overrides or ()]
    return stage_of(stage, read_tree(path, given), path, given)


def stage_of(stage: str, tree: dict[str, Any], path: Path, overrides: Sequence[str] = ()) -> Any:
    """The same of a `tree` that was read of `path` and `overrides`."""
    from pangu_rl.config.load import load_tree

    schema = schema_of(stage)
    with read_for(stage, path):
        config = load_tree(schema, tree, path, overrides)
    if stage == "pipeline":
        from pangu_rl.config.pipelines.graph import read_graph

        read_graph(config)
    return config


@contextmanager
def read_for(command: str, path: Path) -> Iterator[None]:
    """Within it the file `path` is read as a configuration of `command`: of one that is another's the error says so."""
    try:
        yield
    except ConfigError:
        if (others := _commands_of(path)) and command not in others:
            raise ConfigError(
                f"{path}: is a configuration of {' or '.join(others)}, not of {command}: "
                f"`pangu-rl {others[0]} --config {path}`"
            ) from None
        raise


def _commands_of(path: Path) -> list[str]:
    """Whose configuration the file `path` is, as it stands."""
    from pangu_rl.config.curate import CurateConfig
    from pangu_rl.config.load import load_config

    found = []
    for command in (*STAGES, "curate"):
        with suppress(ConfigError):
            load_config(CurateConfig if command == "curate" else schema_of(command), path)
            found.append(command)
    return found


def load_run(stage: str, path: Path, overrides: list[str] | None, starts: bool = True) -> Any:
    """`load_stage`, where a run directory as `model.path` is the model that the run made; data in object storage are
    fetched. What `starts` a run leaves its refusal in the run's log, too.

    Raises:
        UserError, RunError: as `load_stage` and `bring_inputs`, or that run has made no model, or a corrupt one.
    """
    from pangu_rl.checkpoint.run_model import with_start
    from pangu_rl.monitoring.run_log import refusals_logged
    from pangu_rl.storage.inputs import bring_inputs

    config = load_stage(stage, path, overrides)
    with refusals_logged(Path(config.trainer.run_dir)) if starts else nullcontext():
        bring_inputs(stage, config)
        return with_start(config)


def expanded(override: str) -> str:
    """`run_dir=X` is short for `trainer.run_dir=X`: the one key that every stage has and every user sets."""
    return f"trainer.{override}" if override.startswith("run_dir=") else override
