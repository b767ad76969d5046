"""Folders from the command line -> **what there is to look at**: runs, their rounds, pipelines and their stages, and
curations.

It is found anew at each look, since stages and rounds begin while the page is open.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from pangu_rl.config.paths import resolve_path
from pangu_rl.errors import DataError
from pangu_rl.monitoring.sinks import METRICS
from pangu_rl.report.facts import CONFIG, read_facts
from pangu_rl.view.curations import is_curation
from rollout.footers import identity
from rollout.shards import live_shards
from rollout.store import RolloutStore

PAIRS = "pairs.jsonl"
"""What the stage of preference pairs makes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A folder with metrics, rollouts or pairs."""

    name: str
    folder: Path

    @property
    def config(self) -> dict[str, Any]:
        """As it was resolved; empty of a stage that leaves none."""
        return config_of(self.folder)

    @property
    def has_rollouts(self) -> bool:
        return bool(live_shards(self.folder / "rollouts"))

    @property
    def pairs(self) -> Path | None:
        """The preference pairs that it made, or that it trains on."""
        if (self.folder / PAIRS).is_file():
            return self.folder / PAIRS
        config = self.config
        trained = "beta" in (config.get("algorithm") or {}) and (config.get("data") or {}).get("train")
        return resolve_path(trained) if isinstance(trained, str) else None

    @property
    def age(self) -> float | None:
        """Seconds since the last step was logged."""
        path = self.folder / METRICS
        return time.time() - path.stat().st_mtime if path.is_file() else None


class Opened:
    """The folders that were named.

    Raises:
        DataError: one that no run wrote, one that is named twice, or a store of a newer schema.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        for folder in folders:
            if not is_curation(folder):
                read_facts(folder)
        self._folders = _named_apart([folder.resolve() for folder in folders])
        for run in self.runs().values():
            if run.has_rollouts:
                RolloutStore(run.folder).shards()

    def runs(self) -> dict[str, Run]:
        """By name."""
        folders = [(name, folder) for name, folder in self._folders.items() if not is_curation(folder)]
        return {run.name: run for name, folder in folders for run in _runs(name, folder)}

    def pipelines(self) -> dict[str, Path]:
        """By name."""
        return {name: folder for name, folder in self._folders.items() if is_pipeline(folder)}

    def curations(self) -> dict[str, Path]:
        """By name."""
        return {name: folder for name, folder in self._folders.items() if is_curation(folder)}

    def run(self, name: str) -> Run:
        """
        Raises:
            DataError: none of this name is open.
        """
        runs = self.runs()
        if name not in runs:
            raise DataError(f"no run {name[:80]!r} is open: {', '.join(runs) or 'none is'}")
        return runs[name]


def is_pipeline(folder: Path) -> bool:
    return isinstance(config_of(folder).get("stages"), dict)


def config_of(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    return _config(path, identity(path))


@lru_cache(maxsize=256)
def _config(path: Path, state: tuple[int, ...]) -> dict[str, Any]:
    tree = yaml.safe_load(path.read_text(encoding="utf-8")) if state else None
    return tree if isinstance(tree, dict) else {}


def _runs(name: str, folder: Path) -> Iterator[Run]:
    stages = [folder / stage for stage in config_of(folder)["stages"]] if is_pipeline(folder) else [folder]
    for stage in stages:
        label = name if stage == folder else f"{name}/{stage.name}"
        rounds = sorted(stage.glob("round_*/samples"))
        has_any = any((stage / name).exists() for name in (METRICS, "rollouts", PAIRS))
        if stage.is_dir() and (has_any or not rounds):
            yield Run(name=label, folder=stage)
        for samples in rounds:
            yield Run(name=f"{label}/{samples.parent.name}", folder=samples)


def _named_apart(folders: Sequence[Path]) -> dict[str, Path]:
    """By as many of the last parts of their paths as it takes to tell them apart."""
    if twice := [folder for folder in folders if folders.count(folder) > 1]:
        raise DataError(f"{twice[0]}: named twice")
    parts = 1
    while len({folder.parts[-parts:] for folder in folders}) < len(folders):
        parts += 1
    return {"/".join(folder.parts[-parts:]): folder for folder in folders}
