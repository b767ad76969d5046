"""A cluster as `submit` sees it: nodes, devices, shared folders, a job's environment. Files: `configs/clusters/`."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, field_validator, model_validator

from pangu_rl.config.base import Strict
from pangu_rl.config.secrets import is_secret
from pangu_rl.config.sections.trainer import AcceleratorName

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


class NodeGroup(Strict):
    """Nodes that are alike."""

    name: str
    count: PositiveInt = 1
    devices: NonNegativeInt = 0
    """Of one node; an Atlas 800T A3 has 16, two on each of its 8 cards."""
    device_memory_gib: PositiveFloat | None = None
    """Of one device; null leaves memory out of the plan."""
    cpus: PositiveInt
    memory_gib: PositiveFloat


class ClusterProfile(Strict):
    description: str
    address: str | None = None
    """Of the dashboard, e.g. http://127.0.0.1:8265; `--address` goes before it."""
    accelerator: AcceleratorName
    """What learners and engines run on; the driver may run on a node that has none."""
    device: str | None = None
    """Its model, a name in configs/devices.yaml: what `pangu-rl plan` reckons with."""
    nodes: Annotated[tuple[NodeGroup, ...], Field(min_length=1)]
    """The first one's first node is the head, where the job's driver runs."""
    shared: tuple[str, ...] = ()
    """Folders that every node sees under the same path. With several nodes, model, data and run directory lie there."""
    python: str = "python"
    """The interpreter of the nodes."""
    env: dict[str, str] = Field(default_factory=dict)
    """Variables of the job and its actors, no secrets."""
    learner_env: dict[str, str] = Field(default_factory=dict)
    """Variables of learner ranks alone. They go before `env`, and before what the device's ranks have by default."""
    engine_env: dict[str, str] = Field(default_factory=dict)
    """Variables of engines alone."""
    secrets: tuple[str, ...] = ()
    """Names of variables that the nodes' own environment holds, such as WANDB_API_KEY. Their values never travel; a job
    on a cluster without one of them ends at once and names it."""
    excludes: tuple[str, ...] = ()
    """Patterns of the working directory that do not travel, beside the usual ones."""
    grace_s: PositiveInt = 900
    """Seconds between `stop`'s SIGTERM and Ray's SIGKILL: time to finish a step and write its checkpoint."""

    @field_validator("env", "learner_env", "engine_env")
    @classmethod
    def env_holds_no_secret(cls, env: dict[str, str]) -> dict[str, str]:
        # The value is not repeated: whoever wrote a key here must not find it in a log as well.
        for name in env:
            if is_secret(name, env[name]):
                raise ValueError(f"{name} looks like a secret: name it under secrets, and set its value on the cluster")
        return env

    @field_validator("secrets")
    @classmethod
    def secrets_are_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not all(_VARIABLE.fullmatch(name) for name in names):
            raise ValueError("holds something that is no name of a variable: write names only, never values")
        return names

    @model_validator(mode="after")
    def groups_have_names_of_their_own(self) -> ClusterProfile:
        names = [group.name for group in self.nodes]
        if len(set(names)) < len(names):
            raise ValueError(f"nodes: two groups have one name in {names}")
        return self
