"""The actors and files of one GRPO run, and what the loop asks of them beyond a single call."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import pyarrow.parquet as pq

from pangu_rl.config.stages import GrpoConfig
from pangu_rl.learner.spec import LearnerSpec
from pangu_rl.loops.actors.engines import Engines
from pangu_rl.loops.actors.learners import Learners, closing_ranks
from pangu_rl.loops.evaluate import evaluate, greedy, write_evaluations
from pangu_rl.loops.online import in_flight
from pangu_rl.loops.online.collect import Batch, Collector
from pangu_rl.loops.online.draw_ahead import DrawAhead
from pangu_rl.loops.online.train_step import Trained, by_completion
from pangu_rl.loops.online.turns import SharedTurns, Turns
from pangu_rl.loops.online.weight_sync import Probe, sync_weights
from pangu_rl.loops.pictures import RowLoader
from pangu_rl.loops.samples import samples_of
from pangu_rl.loops.session import Run
from pangu_rl.monitoring.accuracy_table import accuracy_table
from pangu_rl.monitoring.live import Sample
from pangu_rl.monitoring.plots import plot_curves
from pangu_rl.monitoring.watchdog import Process
from pangu_rl.records import Evaluation, Prompt
from rollout.store import RolloutStore


@dataclass(slots=True, kw_only=True)
class GrpoParts:
    """Everything between the prompt file and the checkpoint."""

    config: GrpoConfig
    run: Run
    loader: RowLoader
    heldout: list[Prompt]
    collector: Collector
    spec: LearnerSpec
    engines: Engines
    store: RolloutStore
    probe: Probe
    transport: str
    """Of weights to engines: `shm` or `broadcast`."""
    background: ThreadPoolExecutor
    evaluations: list[Evaluation] = field(default_factory=list)
    learners: Learners | None = None
    """Of the context of `learning`, as are the turns."""
    turns: Turns = field(default_factory=Turns)
    batch: Batch | None = None
    """The batch that this step trains on."""
    spent: Batch | None = None
    """The one before, until the driver has time: it takes a second to let a large one go."""
    ahead: DrawAhead | None = None
    """With stale rollouts: what draws for the next steps while this one trains."""
    trained: int = 0
    """Steps whose updates the learner's weights have."""
    drawing: bool = False
    """Whether the engines run."""
    unread: dict[str, Any] = field(init=False)
    """State of the prompt stream before the first step."""

    def __post_init__(self) -> None:
        self.unread = self.collector.stream.state_dict()

    @contextmanager
    def learning(self) -> Iterator[None]:
        """Start the engines if they do not run yet, then the learner's ranks, which end with the context."""
        pool, shared = self.engines.pool, self.config.rollout.placement == "shared"
        if not self.drawing:
            self.run.milestone(f"engines starting: {self.config.rollout.actors} x {self.config.rollout.engine}")
            pool.start()
            self.drawing = True
            self.run.milestone("engines ready")
        if shared:
            pool.sleep()
        self.run.milestone(f"learner starting: {self.spec.world_size} x {self.spec.accelerator}")
        learners = Learners(self.spec, self.config.trainer.silence_s, self.engines.placement)
        with closing_ranks(learners, self.run) as self.learners:
            self.turns = SharedTurns(pool, learners, self.run.phase) if shared else Turns()
            self.run.watchdog.processes = self.processes
            learners.choose_transport(self.transport, every_node=shared)
            try:
                yield
            finally:
                pool.end_resending()

    def restore(self) -> int:
        """Steps done. A fresh run measures its start; a resumed one goes on where its checkpoint was written."""
        if self.ahead is not None:  # of ranks that were lost: drawn by weights that are gone
            self.ahead.restore(0, None)
        self.batch, self.trained = None, 0
        checkpoint = self.run.checkpoints.latest(self.learners.check_files)
        if checkpoint is None:
            self.collector.stream.load_state_dict(self.unread)
            self.run.saving.resumed(0)
            self.store.truncate_after(0)
            self.run.sinks.truncate_after(-1)
            self._measure_start()
            return 0
        self.learners.load(checkpoint.path)
        self.collector.stream.load_state_dict(checkpoint.state["stream"])
        self.evaluations = [Evaluation(**row) for row in checkpoint.state["evaluations"]]
        self.store.truncate_after(checkpoint.step)
        self.run.resume_from(checkpoint)
        self.trained = checkpoint.step
        self.sync(checkpoint.step)
        if self.is_measured(checkpoint.step) and checkpoint.step not in [one.step for one in self.evaluations]:
            # The run was ended in the midst of it, and has logged the step without.
            self.run.sinks.amend(checkpoint.step, self.evaluate(f"step {checkpoint.step}", checkpoint.step))
        if self.ahead is not None:
            table = checkpoint.path / in_flight.FILE
            self.ahead.restore(checkpoint.step, pq.read_table(table) if table.exists() else None)
        return checkpoint.step

    def is_measured(self, step: int) -> bool:
        """Whether the weights after `step` answer the held-out prompts."""
        return step == self.config.trainer.steps or self.run.is_due(step, self.config.trainer.eval_every)

    def waiting(self) -> list[str]:
        return self.engines.waiting()

    def outstanding(self) -> int:
        """Answers that are asked for and not there yet."""
        return len(self.engines.pool.outstanding())

    def processes(self) -> dict[str, Process]:
        """Those whose stacks a stalled step needs."""
        return self.engines.processes() | self.learners.processes()

    def take_batch(self, step: int) -> Batch:
        """The groups of `step`."""
        batch = self.ahead.take(step) if self.ahead else self.collector.collect(step)
        self.spent, self.batch = self.batch, batch
        return batch

    @contextmanager
    def beside_training(self, step: int) -> Iterator[None]:
        """Meanwhile the batch is stored and further groups are drawn. It is on disk when the context ends, also by an
        error: what a failed update saw can be looked at."""
        writing = self.background.submit(self._store, step)
        try:
            with self.ahead.meanwhile(self.background) if self.ahead else nullcontext():
                yield
        finally:
            writing.result()

    @contextmanager
    def beside_sync(self, step: int, trained: Trained) -> Iterator[None]:
        """Meanwhile the log-probs that the learner trained with are stored, by completion; also before an error."""
        writing = self.background.submit(self._store_learned, step, trained) if trained.uids else None
        try:
            yield
        finally:
            if writing is not None:
                writing.result()

    def sync(self, step: int) -> dict[str, float]:
        """Give the engines the weights after `step` as version step + 1; begun answers go on under them."""
        waits = self.config.trainer.max_staleness == 0
        return sync_weights(step + 1, self.learners, self.engines.pool, self.probe, self.turns, learner_waits=waits)

    def evaluate(self, name: str, step: int) -> dict[str, float]:
        """Held-out accuracy of the weights in the engines; empty without held-out prompts."""
        if not self.heldout:
            return {}
        if self.ahead is not None:
            self.ahead.settle()
        self.turns.draw()
        with self.run.phase("evaluate", waiting=self.waiting, outstanding=self.outstanding):
            evaluation = evaluate(
                name,
                step,
                self.heldout,
                loader=self.loader,
                pool=self.engines.pool,
                rewards=self.engines.rewards,
                sampling=greedy(self.config.rollout.max_new_tokens),
            )
        self.evaluations.append(evaluation)
        self.run.say(f"held-out accuracy, {name}: {evaluation.accuracy:.1%} of {len(evaluation.correct)}")
        return {"heldout/accuracy": evaluation.accuracy}

    def save(self, step: int) -> None:
        """A whole checkpoint after `step`: DeepSpeed's files, a Hugging Face folder, and the loop's own state."""
        stream, table = self.ahead.state(step) if self.ahead else (self.batch.stream_state, None)
        state = {
            "stream": stream,
            "evaluations": [dataclasses.asdict(evaluation) for evaluation in self.evaluations],
        }

        def write_in_flight(folder: Path) -> None:
            if table is not None:
                pq.write_table(table, folder / in_flight.FILE, compression="zstd")

        self.turns.train()
        self.run.save(step, self.learners, state, write_in_flight)

    def leave(self) -> NoReturn:
        """End a run that SIGTERM has met within a phase, with a checkpoint of the last step that was trained.

        Raises:
            Preempted: always.
        """
        if self.trained == 0:
            raise self.run.preemption.preempted("no step was trained yet; the same command begins anew")
        if self.run.saving.step < self.trained:
            self.save(self.trained)
        self.run.raise_if_preempted(self.trained)

    def samples(self) -> list[Sample]:
        """The first completion of each of the step's first groups, to look at."""
        return samples_of(self.batch.groups)

    def finish(self) -> dict[str, float]:
        """The table of held-out accuracies, `evaluations.json` and `curves.png`."""
        if self.evaluations:
            self.run.say(accuracy_table(self.evaluations))
            write_evaluations(self.run.dir, self.evaluations)
        plot_curves(self.run.dir)
        return {f"heldout/{evaluation.name}": evaluation.accuracy for evaluation in self.evaluations}

    def _store(self, step: int) -> None:
        self.store.append(step, self.batch.groups, self.collector.sampling)
        self.spent = None

    def _store_learned(self, step: int, trained: Trained) -> None:
        self.store.learned.append(step, by_completion(trained.uids, self.learners.old_logprobs()))

    def _measure_start(self) -> None:
        # Ranks that are lost before the first checkpoint leave behind what was measured before the first step.
        self.evaluations = [evaluation for evaluation in self.evaluations if evaluation.step == 0]
        measured = [evaluation.name for evaluation in self.evaluations]
        # The engines begin with `model.path`; the first sync gives them what GRPO starts from.
        if self.config.start is not None and "base" not in measured:
            self.evaluate("base", 0)
        self.sync(0)
        if "start" not in measured:
            self.evaluate("start", 0)
        if self.evaluations:
            self.run.log(0, {"heldout/accuracy": self.evaluations[-1].accuracy})
        self.run.view.start_at(0)
