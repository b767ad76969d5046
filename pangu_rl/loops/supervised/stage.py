"""The loop of every stage that learns from given rows: **a step, its metrics, a checkpoint when one is due**.

newest checkpoint --> step --> metrics.jsonl --> checkpoints/step_N: learner/, hf/ or adapter/, the stage's own state
                       ^                              |
                       '------------------------------'
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol

from pangu_rl.cluster.placement import Placement
from pangu_rl.config.pretrain import PretrainConfig
from pangu_rl.config.stages import DpoConfig, SftConfig
from pangu_rl.errors import CheckpointError
from pangu_rl.learner.spec import LearnerSpec
from pangu_rl.loops.actors.learners import Learners, RankActors, closing_ranks
from pangu_rl.loops.session import Run


class SupervisedStage(Protocol):
    """What a stage brings to the loop."""

    learners: RankActors
    """`Learners` where steps may be profiled."""

    def train_step(self, run: Run, step: int) -> dict[str, float]:
        """Train on the step's rows; its metrics."""

    def state_dict(self) -> dict[str, Any]:
        """What has been consumed, as JSON; the learners keep their own."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


def train_stage(run: Run, stage: SupervisedStage, steps: int) -> dict[str, float]:
    """Take every step up to `steps` that the newest checkpoint does not hold; returns the last one's metrics.

    Raises:
        Preempted: SIGTERM came, a checkpoint was written.
    """
    metrics: dict[str, float] = {}
    for step in range(_restore(run, stage) + 1, steps + 1):
        if folder := run.profile_folder(step):
            stage.learners.profile_next(folder)
        metrics = stage.train_step(run, step)
        run.log(step, metrics)
        last = step == steps
        if last or run.preempted or run.saving.is_due(step):
            run.save(step, stage.learners, stage.state_dict())
        if not last:
            run.raise_if_preempted(step)
    run.finish_saving()
    return metrics


def open_learners(
    config: SftConfig | DpoConfig | PretrainConfig, objective: Literal["sft", "mpo"], run: Run, placement: Placement
) -> AbstractContextManager[Learners]:
    """Start the ranks of a language model's learner; they end with the context."""
    spec = LearnerSpec(
        model=config.model,
        learner=config.learner,
        objective=objective,
        algorithm=config.algorithm,
        total_steps=config.trainer.steps,
        seed=config.trainer.seed,
        accelerator=run.accelerator.name,
        world_size=config.learner.ranks,
    )
    run.milestone(f"learner starting: {config.learner.ranks} x {run.accelerator.name}")
    return closing_ranks(Learners(spec, config.trainer.silence_s, placement), run)


def _restore(run: Run, stage: SupervisedStage) -> int:
    """Steps done; 0 when there is no checkpoint."""
    checkpoint = run.checkpoints.latest(stage.learners.check_files)
    if checkpoint is None:
        run.sinks.truncate_after(0)  # of a start that was killed before its first checkpoint
        return 0
    try:
        stage.load_state_dict(checkpoint.state)
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            f"{checkpoint.path}: written by another version of pangu_rl, whose state of the data is another "
            f"({type(error).__name__}: {error}): go on with that version, or start in a new trainer.run_dir"
        ) from None
    stage.learners.load(checkpoint.path)
    run.resume_from(checkpoint)
    return checkpoint.step
