"""Supervised fine-tuning: conversations -> packs -> **next-token loss on the assistant's turns** -> checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from pangu_rl.config.stages import SftConfig
from pangu_rl.data.batching import pack_conversations, pack_counts, root_count, split_ranks
from pangu_rl.data.conversations import Conversation
from pangu_rl.data.stream import PromptStream
from pangu_rl.learner.spec import LearnerSpec
from pangu_rl.loops.inputs import SftInputs, read_sft_inputs
from pangu_rl.loops.learners import Learners
from pangu_rl.loops.pictures import RowLoader
from pangu_rl.loops.session import Run, open_run
from pangu_rl.loops.stage_report import write_rows_read
from pangu_rl.records import MiniBatch

log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class SftParts:
    """What the SFT loop works with."""

    config: SftConfig
    loader: RowLoader
    stream: PromptStream[Conversation]
    learners: Learners

    def next_batch(self) -> list[MiniBatch]:
        """The next rows, packed, one mini-batch per group of ranks."""
        drawn = self.stream.next(self.config.trainer.sequences_per_step)
        rows = self.loader.conversations([conversation for _, conversation in drawn])
        packs = pack_conversations(rows, self.config.learner.pack_tokens, self.loader.encoder.placeholders)
        batches = split_ranks(packs, self.config.learner.groups, *pack_counts(packs))
        return [replace(batch, loss_roots=root_count(packs)) for batch in batches]

    def save(self, run: Run, step: int) -> None:
        folder = run.checkpoints.begin(step)
        self.learners.save(folder / "learner")
        self.learners.export(folder / "hf")
        run.checkpoints.commit(step, {"stream": self.stream.state_dict()})

    def restore(self, run: Run) -> int:
        """Steps done; 0 when there is no checkpoint."""
        checkpoint = run.checkpoints.latest()
        if checkpoint is None:
            return 0
        self.learners.load(checkpoint.path / "learner")
        self.stream.load_state_dict(checkpoint.state["stream"])
        run.resume_from(checkpoint)
        return checkpoint.step


def run_sft(config: SftConfig) -> dict[str, float]:
    """Run the stage to its last step, from the newest checkpoint if there is one; returns the last step's metrics.

    Raises:
        UserError, RunError: see `pangu_rl.errors`. Preempted: SIGTERM came, a checkpoint was written.
    """
    trainer = config.trainer
    metrics: dict[str, float] = {}
    inputs = read_sft_inputs(config)
    with open_run(config, "SFT") as run, open_parts(config, run, inputs) as parts:
        for step in range(parts.restore(run) + 1, trainer.steps + 1):
            with run.phase("train"):
                [update] = parts.learners.update([parts.next_batch()])
            metrics = {f"train/{name}": value for name, value in update.items()}
            run.log(step, metrics)
            last = step == trainer.steps
            if last or run.preempted or run.is_due(step, trainer.checkpoint_every):
                with run.phase("checkpoint"):
                    parts.save(run, step)
            if not last:
                run.raise_if_preempted(step)
    return metrics


@contextmanager
def open_parts(config: SftConfig, run: Run, inputs: SftInputs) -> Iterator[SftParts]:
    """Start the learner; it ends with the context."""
    for line in inputs.skipped:
        log.warning("left out: %s", line)
    write_rows_read(run.dir, train=len(inputs.train), left_out=len(inputs.skipped))
    spec = LearnerSpec(
        model=config.model,
        learner=config.learner,
        objective="sft",
        algorithm=config.algorithm,
        total_steps=config.trainer.steps,
        seed=config.trainer.seed,
        accelerator=run.accelerator.name,
        world_size=config.learner.ranks,
    )
    learners = Learners(spec)
    run.watchdog.pids = learners.pids
    run.view.start_at(0)
    try:
        yield SftParts(
            config=config,
            loader=inputs.loader,
            stream=PromptStream(
                inputs.train, shuffle=config.data.shuffle, seed=config.trainer.seed, digests=inputs.loader.digests
            ),
            learners=learners,
        )
    finally:
        learners.close()
