"""An override set: one file over a pipeline's -> **the same pipeline in another size**, on other data, on other nodes.

configs/pipeline/openpangu_7b.yaml  +  configs/overrides/openpangu_miniature.yaml  ->  the dry run on a CPU
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from pangu_rl.config.base import Strict
from pangu_rl.config.keys import nearest
from pangu_rl.config.load import apply_override, checked, load_config, read_yaml
from pangu_rl.config.names.named_files import take_beside
from pangu_rl.config.names.shipped import shipped
from pangu_rl.config.pipelines.pipeline import Kind, PipelineConfig, dotted
from pangu_rl.errors import ConfigError

FREE_MAPS = ("set", "takes")
"""Keys of a stage's entry that hold keys of its configuration, dotted or nested."""


class OverrideSet(Strict):
    kinds: dict[Kind, dict[str, Any]] = Field(default_factory=dict)
    """Kind of a stage -> what every stage of the kind sets, over what it says itself; `eval` is the evaluation too."""
    stages: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Name of a stage -> what its entry says otherwise (`set`, `takes`, `steps`); goes before `kinds`."""
    pipeline: dict[str, Any] = Field(default_factory=dict)
    """What the pipeline's other sections say otherwise: trainer, external, evaluate, cluster."""


def load_pipeline(
    path: str | Path, overrides: Sequence[str] = (), override_set: str | Path | None = None
) -> PipelineConfig:
    """The checked `PipelineConfig` of the file, the override set over it, and the overrides over both.

    Raises:
        ConfigError: as `load_config` and `with_overrides`.
    """
    path = shipped(path)
    tree = read_yaml(path)
    if override_set is not None:
        tree = with_overrides(tree, load_config(OverrideSet, override_set))
    for override in overrides:
        apply_override(tree, override)
    take_beside(tree, path.parent)
    return checked(PipelineConfig, tree, str(path))


def with_overrides(tree: Mapping[str, Any], overrides: OverrideSet) -> dict[str, Any]:
    """A pipeline's tree with the set laid over it; neither is changed.

    Raises:
        ConfigError: the set names a stage that the pipeline has not.
    """
    if "stages" in overrides.pipeline:
        raise ConfigError("pipeline.stages of an override set: write them under stages, by name")
    found, stages = _merged(tree, overrides.pipeline), tree.get("stages")
    if not isinstance(stages, Mapping):
        return found  # the schema tells of it
    for name in overrides.stages:
        if name not in stages:
            raise ConfigError(
                f"the override set names the stage {name!r}, the pipeline has none{nearest(name, stages)}"
            )
    found["stages"] = {
        name: _entry(entry, _of_kind(entry, overrides), overrides.stages.get(name, {}))
        for name, entry in stages.items()
    }
    if "evaluate" in found:
        found["evaluate"] = _entry(found["evaluate"], overrides.kinds.get("eval"), {})
    return found


def _of_kind(entry: Any, overrides: OverrideSet) -> Mapping[str, Any] | None:
    stage = entry.get("stage") if isinstance(entry, Mapping) else None
    return overrides.kinds.get(stage) if isinstance(stage, str) else None


def _entry(entry: Any, kind: Mapping[str, Any] | None, own: Mapping[str, Any]) -> Any:
    """What is no section is left for the schema to tell of."""
    if not isinstance(entry, Mapping):
        return entry
    found = {**copy.deepcopy(dict(entry)), **copy.deepcopy({k: v for k, v in own.items() if k not in FREE_MAPS})}
    layers = {"set": (entry.get("set"), kind, own.get("set")), "takes": (entry.get("takes"), own.get("takes"))}
    for key, trees in layers.items():
        wrong = [tree for tree in trees if tree and not isinstance(tree, Mapping)]
        if any(trees):
            found[key] = wrong[0] if wrong else _layered(trees)
    return found


def _layered(trees: Iterable[Mapping[str, Any] | None]) -> dict[str, Any]:
    """Dotted keys in the order in which they are to be set: what is said last comes last."""
    found: dict[str, Any] = {}
    for tree in trees:
        for key, value in dotted(tree or {}).items():
            found.pop(key, None)
            found[key] = copy.deepcopy(value)
    return found


def _merged(tree: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    found = copy.deepcopy(dict(tree))
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(found.get(key), Mapping)
        found[key] = _merged(found[key], value) if both else copy.deepcopy(value)
    return found
