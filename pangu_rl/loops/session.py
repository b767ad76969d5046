"""What every stage's loop stands on: the run directory, Ray, metrics, checkpoints, the watchdog, preemption."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType

from pangu_rl.accelerators import Accelerator, get_accelerator
from pangu_rl.checkpoint.disk import disk_that_refuses, run_directory
from pangu_rl.checkpoint.manifest import check_quickly
from pangu_rl.checkpoint.run_lock import run_lock
from pangu_rl.checkpoint.settings import begin, claim
from pangu_rl.checkpoint.store import Checkpoint, CheckpointStore
from pangu_rl.cluster import ray_runtime
from pangu_rl.cluster.live_plan import require_room
from pangu_rl.cluster.own_ray import require_own_ray
from pangu_rl.cluster.placement import Placement, open_placement
from pangu_rl.config.evaluation import EvalConfig
from pangu_rl.config.load import dump_config
from pangu_rl.config.pretrain import PretrainConfig
from pangu_rl.config.sampling import SampledStage
from pangu_rl.config.sections.trainer import TrainerConfig
from pangu_rl.config.stages import DpoConfig, GrpoConfig, SftConfig
from pangu_rl.config.vision import VisionStageConfig
from pangu_rl.errors import ConfigError
from pangu_rl.learner.measure.checkpoint_size import least_checkpoint_bytes
from pangu_rl.loops.saving import Ranks, Saving
from pangu_rl.monitoring.live import LiveView, Sample
from pangu_rl.monitoring.milestones import milestone
from pangu_rl.monitoring.phases import PhaseTimer, Waiting
from pangu_rl.monitoring.run_log import run_log
from pangu_rl.monitoring.sinks import MetricSinks
from pangu_rl.monitoring.watchdog import Watchdog

log = logging.getLogger(__name__)

TrainingStage = GrpoConfig | SftConfig | DpoConfig | PretrainConfig | VisionStageConfig


@dataclass(slots=True, kw_only=True)
class Run:
    """One stage at work in its run directory."""

    dir: Path
    accelerator: Accelerator
    checkpoints: CheckpointStore
    saving: Saving
    sinks: MetricSinks
    view: LiveView
    phases: PhaseTimer
    watchdog: Watchdog
    preemption: ray_runtime.Preemption
    peak_flops: float = 0.0
    """FLOP/s that the learner's ranks reach together at most; 0 until they have started."""
    profile_steps: tuple[int, ...] = ()

    def profile_folder(self, step: int) -> Path | None:
        """Where the profile of `step` goes; None of a step that is not profiled."""
        return self.dir / "profile" / f"step_{step}" if step in self.profile_steps else None

    def phase(
        self, name: str, waiting: Waiting = tuple, whole: bool = False, outstanding: Callable[[], int] = lambda: 0
    ) -> AbstractContextManager[None]:
        """A phase that is timed and watched; one that is not `whole` may be left in its midst, see `stop`."""
        return self.phases.phase(name, waiting, whole, outstanding)

    def stop(self) -> None:
        """What engines and reward workers are waited for with: leaves the phase at once when SIGTERM has come.

        Raises:
            Preempted: for the loop, which writes down what is done and says so. RunError: the run's own Ray is gone.
        """
        require_own_ray()
        phase = self.phases.current
        if self.preempted and not (phase and phase.whole):
            raise self.preemption.preempted("nothing was lost; the same command goes on")

    def say(self, text: RenderableType) -> None:
        """Tell the person at the terminal, above the live view, and the log."""
        self.view.console.print(text)
        if isinstance(text, str):
            log.info(text)

    def milestone(self, text: str) -> None:
        """Say what the run is at before its first step, with the seconds since the program began."""
        milestone(text, self.view.console)

    def say_each(self, lines: Iterable[str]) -> None:
        """As `say`, line by line; what stands in them is text and no markup."""
        for line in lines:
            self.view.console.print(line, markup=False, soft_wrap=True)
            log.info("%s", line)

    def log(self, step: int, metrics: Mapping[str, float], samples: Sequence[Sample] = ()) -> None:
        """One row of metrics.jsonl, one update of the view; `samples` are completions of the step to look at.

        Raises:
            CheckpointError, RunError: the checkpoint that was under way could not be written.
        """
        self.saving.raise_if_failed()
        row = with_speeds({**metrics, **self.phases.take(), **self.saving.take()}, self.peak_flops)
        self.sinks.log(step, row)
        self.sinks.show(step, samples)
        self.view.update(step, row, next(iter(samples), None))

    def save(
        self, step: int, learners: Ranks, state: dict[str, Any], write: Callable[[Path], None] = lambda folder: None
    ) -> None:
        """Begin a checkpoint; the loop goes on while it is written. `write` adds files of the loop's own."""
        with self.phase("checkpoint", whole=True):
            self.saving.begin(step, learners, state, write)

    def finish_saving(self) -> None:
        """Before the ranks may end; raises what went wrong."""
        with self.phase("checkpoint", whole=True):
            self.saving.wait()

    def resume_from(self, checkpoint: Checkpoint) -> None:
        """Forget what was logged after `checkpoint`; those steps are about to be repeated."""
        self.milestone(f"resuming at step {checkpoint.step + 1}, from {checkpoint.path}")
        self.saving.resumed(checkpoint.step)
        self.sinks.truncate_after(checkpoint.step)
        self.view.start_at(checkpoint.step)

    def is_due(self, step: int, every: int | None) -> bool:
        """Whether something done every so many steps is to be done after `step`; never for None."""
        return every is not None and step % every == 0

    @property
    def preempted(self) -> bool:
        """Whether SIGTERM or Ctrl-C has come: save now, leave then."""
        return self.preemption.requested

    def placed(self, config: Any) -> AbstractContextManager[Placement]:
        """The devices of what `config` starts, asked of Ray; see `open_placement`. SIGTERM ends the wait for them."""
        return open_placement(
            config, self.accelerator, lambda: self.preemption.raise_if_requested("the run had no devices yet")
        )

    def raise_if_preempted(self, step: int) -> None:
        """Leave the loop after the checkpoint of `step`, with the exit code of a preemption."""
        if self.preempted:
            self.finish_saving()
            raise self.preemption.preempted(
                f"checkpoint of step {step} written in {self.dir}; the same command goes on from it"
            )


def with_speeds(row: dict[str, float], peak_flops: float = 0.0) -> dict[str, float]:
    """Add the speeds of the two phases that a step spends its time in, and `data/wait_share`: of the time for data and
    training together, the share that the learner waited for data.

    `speed/rollout_tokens_per_s`, `speed/train_tokens_per_s` (trained tokens), `speed/train_tflops` and, with a peak,
    `speed/mfu`: the share of it that the step's FLOPs come to over both phases, packing and waiting included.
    """
    speeds = {}
    if row.get("time/rollout") and "response/tokens" in row:
        # Answers that are older than the step's weights were drawn beside its other phases.
        beside = row.get("rollout/staleness_max", 0.0) > 0
        drawing = sum(seconds for name, seconds in row.items() if name.startswith("time/") and beside)
        speeds["speed/rollout_tokens_per_s"] = row["response/tokens"] / (drawing or row["time/rollout"])
    if row.get("time/train"):
        # Tokens and FLOPs are those of the step's mean update.
        waited = row.get("time/data", 0.0)
        updates_per_s = row.get("train/updates", 1.0) / (row["time/train"] + waited)
        if "time/data" in row:
            speeds["data/wait_share"] = waited / (row["time/train"] + waited)
        if "train/tokens" in row:
            speeds["speed/train_tokens_per_s"] = row["train/tokens"] * updates_per_s
        if "train/tflop" in row:
            speeds["speed/train_tflops"] = row["train/tflop"] * updates_per_s
            if peak_flops:
                speeds["speed/mfu"] = speeds["speed/train_tflops"] * 1e12 / peak_flops
    return row | speeds


@contextmanager
def open_run(
    config: TrainingStage | SampledStage | EvalConfig,
    title: str,
    steps: int | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Iterator[Run]:
    """Lock the run directory, write `config.yaml`, start Ray and everything that watches the run.

    `steps` are those of a stage whose configuration does not say how many it takes, `settings` what the directory
    belongs to from its first start on.

    Raises:
        CheckpointError: the newest one is broken, or there is no room for the first.
        ConfigError: another driver has the directory, or it was begun with other `settings`, or `resume: never` and it
            holds a checkpoint, or the cluster can never place the actors.
    """
    trainer = config.trainer
    directory = Path(trainer.run_dir)
    kept = (trainer.keep_checkpoints, trainer.keep_steps) if isinstance(trainer, TrainerConfig) else (1,)
    checkpoints = CheckpointStore(directory, *kept)
    accelerator = get_accelerator(config.cluster.accelerator)
    phases = PhaseTimer()
    with ExitStack() as stack:
        stack.enter_context(run_lock(directory))
        never = isinstance(trainer, TrainerConfig) and trainer.resume == "never"
        if never and not checkpoints.is_empty():
            raise ConfigError(
                f"{directory} holds checkpoints and trainer.resume is never: set resume to auto, or another run_dir"
            )
        console = Console(stderr=True)
        with run_directory(directory):
            if settings is not None:
                started = not (isinstance(trainer, TrainerConfig) and checkpoints.is_empty())
                (claim if started else begin)(directory, settings)
            checkpoints.discard_unfinished()
            checkpoints.latest(check_quickly)  # one that is broken is refused before anything starts
            checkpoints.require_first_room(least_checkpoint_bytes(config))
            (directory / "config.yaml").write_text(dump_config(config), encoding="utf-8")
            stack.enter_context(run_log(directory, console))
        stack.enter_context(disk_that_refuses(directory))
        sinks = stack.enter_context(MetricSinks(directory, config.monitoring))
        milestone(
            f"run directory {directory}; {'starting' if config.cluster.address == 'local' else 'joining'} Ray", console
        )
        preemption = stack.enter_context(ray_runtime.session(config.cluster))
        require_room(config, accelerator)
        view = LiveView(title, steps or trainer.steps, phases, live=config.monitoring.live, console=console)
        watchdog = Watchdog(phases, trainer.stall_s, directory)
        stack.enter_context(view)
        stack.enter_context(watchdog)
        yield Run(
            dir=directory,
            accelerator=accelerator,
            checkpoints=checkpoints,
            saving=Saving(checkpoints, *_saving_times(trainer)),
            sinks=sinks,
            view=view,
            phases=phases,
            watchdog=watchdog,
            preemption=preemption,
            profile_steps=trainer.profile_steps if isinstance(trainer, TrainerConfig) else (),
        )


def _saving_times(trainer: Any) -> tuple[int | None, float | None]:
    # Stages that sample store shards, and make no checkpoints.
    return (
        (trainer.checkpoint_every, trainer.checkpoint_every_s) if isinstance(trainer, TrainerConfig) else (None, None)
    )
