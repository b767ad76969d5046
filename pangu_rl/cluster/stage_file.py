"""A stage's configuration and its overrides, **read once**: what is planned is what is sent."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pangu_rl.config.cluster_profile import ClusterProfile
from pangu_rl.config.load import apply_override, read_tree


@dataclass(frozen=True, slots=True)
class StageFile:
    """What a user names beside a stage's command."""

    path: Path
    overrides: tuple[str, ...]
    tree: dict[str, Any]
    """What both come to; nothing of it is checked yet."""

    @classmethod
    def read(cls, path: Path, overrides: Sequence[str] = ()) -> Self:
        """
        Raises:
            ConfigError: no such file, not YAML, or an override that is none.
        """
        whole = tuple(f"trainer.{o}" if o.startswith("run_dir=") else o for o in overrides)
        return cls(path, whole, read_tree(path, whole))

    @property
    def run_dir(self) -> Path | None:
        run = self._section("trainer").get("run_dir")
        return Path(str(run)).expanduser().resolve() if run else None

    @property
    def profile(self) -> str | None:
        """`cluster.profile`."""
        profile = self._section("cluster").get("profile")
        return None if profile is None else str(profile)

    def job_overrides(self, profile: ClusterProfile | None = None) -> list[str]:
        """The user's overrides, made independent of the job's working directory, `cluster.address=auto`, and the
        profile's kind of device, which the node of the driver may not have."""
        added = []
        if run := self.run_dir:
            added.append(f"trainer.run_dir={json.dumps(str(run), ensure_ascii=False)}")  # read as YAML again
        if not any(o.startswith("cluster.address=") for o in self.overrides):
            added.append("cluster.address=auto")
        if profile is not None and self._section("cluster").get("accelerator", "auto") == "auto":
            added.append(f"cluster.accelerator={profile.accelerator}")
        return [*self.overrides, *added]

    def tree_of_job(self, profile: ClusterProfile | None = None) -> dict[str, Any]:
        """What the job's command will read, apart from what lies on another machine."""
        tree = copy.deepcopy(self.tree)
        for override in self.job_overrides(profile):
            apply_override(tree, override)
        return tree

    def _section(self, name: str) -> dict[str, Any]:
        found = self.tree.get(name)
        return found if isinstance(found, dict) else {}  # the schema tells of it
