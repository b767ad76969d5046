"""learner and loop state -> **checkpoints/step_NNNNNN** -> resume.

    begin(12)    checkpoints/.partial-step_000012/     the ranks write their files into it, and hash them as they do
    commit(12)   + state.json, manifest.json, COMPLETE, then one atomic rename
    latest()     checkpoints/step_000012/              every byte verified before anything is loaded

A run killed at any point leaves the previous checkpoint as it was, and at most a `.partial-` folder that is ignored and
removed by the next start.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pangu_rl.checkpoint import manifest
from pangu_rl.checkpoint.disk import folder_bytes, require_room, told
from pangu_rl.checkpoint.manifest import Entry
from pangu_rl.errors import CheckpointError

log = logging.getLogger(__name__)

STATE = "state.json"
RANKS, MODEL, ADAPTER = "learner", "hf", "adapter"
"""Folders of a checkpoint: what the ranks go on from, and for everybody else the model, or the adapter that was trained
beside one."""
FOLDED = "folded"
"""Folder of a run directory: whole models of steps that have an adapter alone (see `whole_model`)."""
LATEST = "latest"
"""Link in the run directory to the newest checkpoint."""
_PREFIX = "step_"
_PARTIAL = ".partial-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A verified checkpoint."""

    path: Path
    step: int
    """Steps done when it was written."""
    state: dict[str, Any]
    """What the loop handed to `commit`."""


def check_model(directory: Path, entries: Mapping[str, Entry]) -> None:
    """A `Check` for those who read the model alone."""
    whole = {name: entry for name, entry in entries.items() if name.startswith((f"{MODEL}/", f"{ADAPTER}/"))}
    manifest.check_files(directory, whole)


class CheckpointStore:
    """The checkpoints of one run directory, the newest `keep` of them and those of `keep_steps`."""

    def __init__(self, run_dir: Path, keep: int, keep_steps: Collection[int] = ()) -> None:
        self.directory = Path(run_dir) / "checkpoints"
        self.keep, self.keep_steps = keep, frozenset(keep_steps)

    def begin(self, step: int) -> Path:
        """An empty folder for the files of this step; what an earlier, killed attempt left there is removed.

        Raises:
            CheckpointError: there is one of that step, or no room for another as large as the newest.
        """
        if self._path(step).exists():
            raise CheckpointError(f"{self._path(step)} exists already: delete it, or start in another run_dir")
        self.discard(step)
        # Of a checkpoint of this step that was deleted: its adapter was another one.
        shutil.rmtree(self.directory.parent / FOLDED / self._path(step).name, ignore_errors=True)
        newest = self.newest_step()
        needed = 0 if newest is None else folder_bytes(self._path(newest))
        require_room(self.directory, needed, f"the checkpoint of step {step}")
        partial = self._partial(step)
        partial.mkdir(parents=True)
        return partial

    def require_first_room(self, needed: int) -> None:
        """Before anything starts, where there is no checkpoint yet whose size would tell.

        Raises:
            CheckpointError: fewer than `needed` bytes are free.
        """
        if self.is_empty():
            require_room(self.directory, needed, "the first checkpoint", "make room, or take another trainer.run_dir")

    def discard(self, step: int) -> None:
        """Remove what was written since `begin(step)`, as far as the disk lets us."""
        shutil.rmtree(self._partial(step), ignore_errors=True)

    def discard_unfinished(self) -> None:
        """At the start of a run, which holds the directory: what earlier ones left would fill the disk."""
        for partial in self._unfinished():
            log.warning("%s was never finished and is removed", partial)
            shutil.rmtree(partial, ignore_errors=True)

    def commit(self, step: int, state: dict[str, Any], written: Mapping[str, Entry]) -> Checkpoint:
        """Seal the folder of `begin(step)` together with `state` (JSON values), name it, and drop the oldest.

        `written` are the files that the ranks say they have written into it.

        Raises:
            CheckpointError: the disk refuses it, or a rank's file is not there; earlier checkpoints are untouched.
        """
        partial, final = self._partial(step), self._path(step)
        with told(partial):
            manifest.write(partial / STATE, json.dumps(state))
            size = manifest.seal(partial, step, written)
            os.replace(partial, final)
            manifest.flush(self.directory)
        log.info("checkpoint %s (%.1f MB)", final, size / 1e6)
        self._point_latest(final)
        self._prune()
        return Checkpoint(path=final, step=step, state=state)

    def is_empty(self) -> bool:
        """Whether the run has no checkpoint, sound or not."""
        return not self._steps()

    def newest_step(self) -> int | None:
        """Step of the newest checkpoint, sound or not; None if the run has none."""
        return max(self._steps(), default=None)

    def latest(self, check: manifest.Check = manifest.check_files) -> Checkpoint | None:
        """The newest checkpoint, verified, its files' content by `check`; None if the run has none.

        Raises:
            CheckpointError: it is corrupt. Going on from the one before is a person's decision, not ours.
        """
        for partial in self._unfinished():
            log.warning("%s was never finished and is ignored", partial)
        steps = self._steps()
        if not steps:
            return None
        path = self._path(steps[-1])
        try:
            manifest.verify(path, steps[-1], check)
        except CheckpointError as error:
            before = f"go on from step {steps[-2]}" if len(steps) > 1 else "start anew"
            raise CheckpointError(f"corrupt checkpoint: {error}; delete {path} to {before}") from None
        state = json.loads((path / STATE).read_text(encoding="utf-8"))
        return Checkpoint(path=path, step=steps[-1], state=state)

    def _point_latest(self, final: Path) -> None:
        """For people alone: where a folder can hold no links, there is none."""
        link = self.directory.parent / LATEST
        partial = link.with_name(f".{LATEST}.partial")
        with suppress(OSError):
            partial.unlink(missing_ok=True)
            partial.symlink_to(final.relative_to(link.parent))
            os.replace(partial, link)

    def _prune(self) -> None:
        kept = {*self._steps()[-self.keep :], *self.keep_steps}
        for step in self._steps():
            if step not in kept:
                # Unnamed first: a removal that is cut short must not leave half a checkpoint under a good name.
                with suppress(OSError):
                    os.replace(self._path(step), self._partial(step))
        for leftover in self._unfinished():
            # What another process still reads, on NFS, can be removed at the next one.
            shutil.rmtree(leftover, ignore_errors=True)

    def _unfinished(self) -> list[Path]:
        return sorted(self.directory.glob(f"{_PARTIAL}*"))

    def _steps(self) -> list[int]:
        numbers = (path.name.removeprefix(_PREFIX) for path in self.directory.glob(f"{_PREFIX}*") if path.is_dir())
        return sorted(int(number) for number in numbers if number.isdecimal())

    def _path(self, step: int) -> Path:
        return self.directory / f"{_PREFIX}{step:06d}"

    def _partial(self, step: int) -> Path:
        return self.directory / f"{_PARTIAL}{_PREFIX}{step:06d}"
