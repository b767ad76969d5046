"""`pangu-rl curate --config`: which rows are read, what is done to them, in which order, and where they go."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from pangu_rl.config.base import Arguments, Strict
from pangu_rl.config.sections.trainer import ClusterConfig

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class OperatorConfig(Strict):
    name: str
    """A built-in operator, `path/to/file.py:function`, or an entry point in the group `pangu_rl.operators`."""
    args: Arguments = Field(default_factory=dict)
    """Its own settings."""

    @model_validator(mode="before")
    @classmethod
    def written_with_its_name(cls, entry: Any) -> Any:
        if isinstance(entry, str):
            raise ValueError(f"write the operator {entry} as {{name: {entry}}}")
        if isinstance(entry, dict) and "name" not in entry and len(entry) == 1 and entry.keys() != {"args"}:
            [name] = entry
            raise ValueError(f"write the operator {name} as {{name: {name}, args: {{...}}}}")
        return entry


class WorkersConfig(Strict):
    """Processes of a stage, by what its operators cost; 1 is the process of the command itself, more are Ray Data's."""

    cpu: PositiveInt = 1
    model: PositiveInt = 1
    """Each holds the models of its stage."""
    endpoint: PositiveInt = 1
    concurrency: PositiveInt = 16
    """Rows that one process of an endpoint's stage has under way."""


class CurateConfig(Strict):
    input: list[str] = Field(min_length=1)
    """JSONL, Parquet and tar files, or folders of one kind of them."""
    output: str
    """Folder; a run that was interrupted goes on in it."""
    media_root: str | None = None
    """Folder that pictures of rows lie in."""
    operators: list[OperatorConfig]
    """In the order in which rows pass them."""
    max_error_rate: Share = 0.01
    """Share of the rows read that may end in an error (a row that is none, missing media, an operator that raises);
    with more the run ends with exit code 1. Rows that an operator drops are no errors."""
    shard_mib: PositiveFloat = 8.0
    """Of input that one shard of output is made of, and one worker holds."""
    workers: WorkersConfig = WorkersConfig()
    cluster: ClusterConfig = ClusterConfig()

    @field_validator("input", mode="before")
    @classmethod
    def one_or_several(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value
