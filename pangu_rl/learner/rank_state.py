"""What a rank goes on from. Engine, counters, random numbers -> **its files of a checkpoint** -> the same, exactly."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pangu_rl.accelerators import Accelerator
from pangu_rl.checkpoint.manifest import Entry
from pangu_rl.checkpoint.rank_files import host_copy, write_files
from pangu_rl.errors import CheckpointError
from pangu_rl.learner.engine import load_states, read_state, take_states
from pangu_rl.learner.nonfinite import SkippedSteps
from pangu_rl.learner.objectives import Objective
from pangu_rl.learner.pictures import family_of_model
from pangu_rl.learner.spec import LearnerSpec
from pangu_rl.learner.weights.repartition import OtherRanks

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine

LEARNER = "learner.json"
"""What the learner itself keeps of a checkpoint, and by whom it can be loaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankState:
    """Of one rank; `save` and `load` are collective."""

    spec: LearnerSpec
    engine: DeepSpeedEngine
    accelerator: Accelerator
    skipped: SkippedSteps
    objective: Objective
    identity: Mapping[str, Any]
    """By what a checkpoint and a learner belong together; see `identity_of`."""

    def save(self, directory: Path) -> Future[dict[str, Entry]]:
        """Copy this rank's part and write it into `directory`, which exists, while training goes on.

        The result is there when the files are; see `write_files`.
        """
        states = take_states(self.engine, directory)
        states[_rng_file(self.spec.rank)] = host_copy(self.accelerator.rng_state())
        if self.spec.rank == 0:
            state = {"nonfinite_in_a_row": self.skipped.in_a_row, "objective": self.objective.state_dict()}
            states[LEARNER] = json.dumps({**self.identity, **state}, indent=1).encode()
        return write_files(directory, states)

    def load(self, directory: Path) -> None:
        """Continue exactly where `save` was called; under ZeRO 0 to 2 also with another number of ranks.

        Raises:
            CheckpointError: a file is missing, or it was made by another ZeRO stage, model or dtype, or under ZeRO 3 by
                other ranks.
        """
        saved = self._saved(directory)
        ranks, ours = saved["world_size"], self.spec.world_size
        # What is copied out of a file is mapped; DeepSpeed keeps the tensors of an optimizer's state as it gets them.
        copied = "" if ranks != ours else "model_states.pt"

        def read(path: Path) -> Any:
            return read_state(path, mapped=self.spec.learner.zero_stage > 0 and path.name.endswith(copied))

        load_states(self.engine, directory, read if ranks == ours else OtherRanks(ours, read))
        rng = directory / _rng_file(self.spec.rank % ranks)
        if not rng.is_file():
            raise CheckpointError(f"{rng} is missing")
        self.accelerator.set_rng_state(torch.load(rng, weights_only=True))
        self.skipped.in_a_row = saved["nonfinite_in_a_row"]
        self.objective.load_state_dict(saved.get("objective", {}))

    def _saved(self, directory: Path) -> dict[str, Any]:
        """What rank 0 said of the checkpoint, which is one that this learner can load."""
        try:
            saved = {"offload": "none"} | json.loads((directory / LEARNER).read_text(encoding="utf-8"))
        except (OSError, ValueError, TypeError) as error:
            raise CheckpointError(f"{directory}: not a learner checkpoint: {error}") from None
        # A checkpoint that does not say has one group a rate: norms and biases decayed with the matrices.
        ours = self.identity["parameter_groups"]
        saved.setdefault("parameter_groups", {rate: [sum(sizes)] for rate, sizes in ours.items()})
        for name, value in self.identity.items():
            may_differ = name == "world_size" and self.spec.learner.zero_stage < 3
            if saved.get(name) != value and not may_differ:
                raise CheckpointError(f"{directory}: saved with {name} {saved.get(name)!r}, this run has {value!r}")
        return saved


def identity_of(spec: LearnerSpec, lm: torch.nn.Module, group_sizes: Mapping[str, list[int]]) -> dict[str, Any]:
    """What a checkpoint of this learner says of itself; `group_sizes`: rate -> parameters of each of its groups."""
    identity = {
        "world_size": spec.world_size,
        "zero_stage": spec.learner.zero_stage,
        "dtype": spec.model.dtype,
        "offload": spec.learner.offload.optimizer,
        "model_type": lm.config.model_type,
        "parameters": {name: list(getattr(p, "ds_shape", p.shape)) for name, p in lm.named_parameters()},
    }
    if family_of_model(lm) is not None:
        identity["trainable"] = sorted(set(spec.learner.trainable))
    if spec.learner.lora is not None:
        identity["lora"] = spec.learner.lora.model_dump(mode="json")
    return identity | {"parameter_groups": dict(group_sizes)}


def _rng_file(rank: int) -> str:
    return f"rng_{rank}.pt"
