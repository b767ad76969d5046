"""Stage configuration + cluster profile -> **what is wrong beside actors and devices**: paths, secrets, variables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pangu_rl.accelerators import ACCELERATORS
from pangu_rl.accelerators.base import ENGINE, LEARNER
from pangu_rl.cluster.demand import scorer_configs
from pangu_rl.cluster.jobs import job_variables
from pangu_rl.config.cluster_profile import ClusterProfile
from pangu_rl.config.paths import CACHE_SCHEME
from pangu_rl.config.pipelines.graph import read_graph, start_models
from pangu_rl.config.pipelines.node import WITHOUT_ACTORS
from pangu_rl.config.pipelines.pipeline import PipelineConfig
from pangu_rl.errors import ConfigError

KEYS = {
    "monitoring.wandb_project": "WANDB_API_KEY",
    "monitoring.swanlab_project": "SWANLAB_API_KEY",
    "monitoring.mlflow_experiment": "MLFLOW_TRACKING_URI",
}
"""Setting -> the secret that it needs."""


def model_paths(config: Any) -> list[str]:
    """The models that a stage starts from; a pipeline may start from several."""
    return (
        list(start_models(read_graph(config)).values()) if isinstance(config, PipelineConfig) else [config.model.path]
    )


def unshared_paths(config: Any, profile: ClusterProfile) -> list[str]:
    """Model and run directory where not every node sees them."""
    if sum(group.count for group in profile.nodes) == 1:
        return []
    known = ", ".join(profile.shared) or "none: list them under shared"
    named = [*(("model.path", path) for path in model_paths(config)), ("trainer.run_dir", config.trainer.run_dir)]
    return [
        f"{key} {value} is under no folder that all nodes see ({known})"
        for key, value in named
        if not is_shared(value, profile)
    ]


def is_shared(path: str, profile: ClusterProfile) -> bool:
    """Whether a path of a disk lies in a folder that every node sees."""
    return any(_on_the_cluster(path, profile).is_relative_to(root) for root in profile.shared)


def unnamed_secrets(config: Any, profile: ClusterProfile) -> list[str]:
    """Services that the configuration uses and whose keys the profile does not name."""
    stages = [config]
    if isinstance(config, PipelineConfig):
        stages = [node.draft() for node in read_graph(config) if node.stage not in WITHOUT_ACTORS]
    needed: dict[str, str] = {}
    for own in stages:
        needed |= {variable: setting for setting, variable in KEYS.items() if _setting(own, setting)}
        needed |= {s.api_key_env: f"scorer {s.name}" for s in scorer_configs(own) if s.api_key_env}
    return [
        f"{setting} needs {variable}: list it under the profile's secrets and set it on the cluster"
        for variable, setting in needed.items()
        if variable not in profile.secrets and variable not in profile.env
    ]


def contradicting_variables(profile: ClusterProfile) -> list[str]:
    """What the device's ranks or engines would refuse of the profile's variables, or not obey."""
    accelerator, variables = ACCELERATORS[profile.accelerator], job_variables(profile)
    problems = []
    for environment in (accelerator.train_env, accelerator.rollout_env):
        try:
            environment(1, variables)
        except ConfigError as error:
            problems.append(str(error))
    names = {name.removeprefix(LEARNER).removeprefix(ENGINE) for name in variables}
    if accelerator.visible_env in names:
        problems.append(f"{accelerator.visible_env} is set for each actor by its place: take it out of the profile")
    if "HCCL_IF_IP" in names and sum(group.count for group in profile.nodes) > 1:
        problems.append("HCCL_IF_IP is of one node, and all would have it: set HCCL_SOCKET_IFNAME instead")
    return list(dict.fromkeys(problems))


def _on_the_cluster(path: str, profile: ClusterProfile) -> Path:
    """A `cache://` path lies where the profile puts the cache, which is on no shared folder by itself."""
    if path.startswith(CACHE_SCHEME):
        return Path(profile.env.get("PANGU_RL_CACHE", "~/.cache/pangu_rl")) / path.removeprefix(CACHE_SCHEME)
    return Path(path)


def _setting(config: Any, key: str) -> Any:
    """The value of `section.name`; None in a stage without that section."""
    section, _, name = key.partition(".")
    return getattr(getattr(config, section, None), name, None)
