"""What a user names -> **a case that can be predicted**, or one line that says what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from pangu_rl.config.cluster_profile import ClusterProfile
from pangu_rl.config.devices import DeviceFacts, DevicesConfig
from pangu_rl.config.load import load_config
from pangu_rl.config.paths import resolve_path
from pangu_rl.config.stages import GrpoConfig
from pangu_rl.errors import ConfigError
from pangu_rl.learner.measure.memory_inputs import number_bytes
from pangu_rl.learner.measure.model_shape import read_shape
from pangu_rl.simulation.lengths import Prompts, read_lengths
from pangu_rl.simulation.measured import fit, read_run
from pangu_rl.simulation.placements import Case
from pangu_rl.simulation.rates import Constants, ModelSize

DEVICES = "configs/devices.yaml"
"""Of the working directory, or else the shipped one."""


def read_case(config: GrpoConfig, profile: ClusterProfile, lengths: Path | None, measured: Sequence[Path]) -> Case:
    """With constants fitted to the `measured` runs, and the first one's lengths where none are given.

    Raises:
        ConfigError: no lengths, no device, no shape of the model, or stale rollouts on a machine without devices.
        DataError: a run or a file of lengths that cannot be used.
    """
    source = lengths or next(iter(measured), None)
    if source is None:
        raise ConfigError(
            "no lengths of answers: name a run that has drawn some (--measured RUN or --lengths RUN), or a file with "
            "median, sigma and prompt (--lengths FILE)"
        )
    if config.trainer.max_staleness and not any(group.devices for group in profile.nodes):
        raise ConfigError(
            f"trainer.max_staleness is {config.trainer.max_staleness} and the profile has no devices: engines and "
            "learner share its cores, which the model of stale rollouts does not know; set it to 0, or name "
            "another profile"
        )
    model = _model(config)
    runs = [read_run(path) for path in measured]
    case = Case(
        config=config,
        profile=profile,
        facts=_facts(profile),
        model=model,
        prompts=Prompts(
            lengths=read_lengths(source, config.rollout.max_new_tokens),
            completions=config.rollout.completions,
            flat=fmean(run.flat for run in runs) if runs else 0.0,
            seed=config.trainer.seed,
        ),
        constants=Constants(),
    )
    if not runs:
        return case
    _same_model(config, [run.config for run in runs], measured)
    return fit(case, runs)


def _model(config: GrpoConfig) -> ModelSize:
    shape = read_shape(resolve_path(config.model.path))
    if shape is None:
        raise ConfigError(
            f"model.path {config.model.path}: no config.json of a plain decoder there, so no sizes to reckon with: "
            "name a folder that has one (weights are not needed)"
        )
    return ModelSize(shape=shape, size=number_bytes(config.model.dtype))


def _facts(profile: ClusterProfile) -> DeviceFacts:
    known = load_config(DevicesConfig, DEVICES).devices
    if profile.device not in known:
        raise ConfigError(
            f"the cluster profile's device is {profile.device or 'null'}: set it to one of {', '.join(known)}, or add "
            f"yours to {DEVICES}"
        )
    return known[profile.device]


def _same_model(config: GrpoConfig, others: Sequence[GrpoConfig], paths: Sequence[Path]) -> None:
    for other, path in zip(others, paths, strict=True):
        if read_shape(resolve_path(other.model.path)) != read_shape(resolve_path(config.model.path)):
            raise ConfigError(
                f"{path} ran {other.model.path} and model.path is {config.model.path}, of other sizes: constants of "
                "the one do not hold for the other; name its lengths alone (--lengths)"
            )
