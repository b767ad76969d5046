"""Supervised fine-tuning: conversations -> packs -> **next-token loss on the assistant's turns** -> checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from pangu_rl.config.paths import resolve_path
from pangu_rl.config.stages import SftConfig
from pangu_rl.data.conversations import Conversation
from pangu_rl.data.drawn_rows import RowStream
from pangu_rl.data.mixing.seen import Seen
from pangu_rl.data.packs.batching import outline_conversations, pack_counts, root_count, split_ranks
from pangu_rl.loops.actors.restarts import with_restarts
from pangu_rl.loops.begun_with import begun_with
from pangu_rl.loops.inputs.conversations import SftInputs, read_sft_inputs
from pangu_rl.loops.session import Run, open_run
from pangu_rl.loops.stage_report import write_rows_read
from pangu_rl.loops.supervised.row_stage import RowStage
from pangu_rl.loops.supervised.stage import open_learners, train_stage
from pangu_rl.monitoring.milestones import milestone
from pangu_rl.monitoring.run_log import logs_refusals
from pangu_rl.records import MiniBatch

log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class SftParts(RowStage):
    """What the SFT loop works with."""

    config: SftConfig
    stream: RowStream[Conversation]

    def next_batch(self) -> tuple[list[MiniBatch], Seen, list[str]]:
        drawn = self.stream.next(self.config.trainer.sequences_per_step)
        rows = self.loader.conversations([conversation for _, conversation in drawn])
        packs = outline_conversations(rows, self.config.learner.pack_tokens, self.loader.encoder.placeholders)
        batches = split_ranks(packs, self.config.learner.groups, *pack_counts(packs), self.learners.dealing)
        seen = Seen.of((conversation.source, len(row.token_ids)) for (_, conversation), row in zip(drawn, rows))
        ids = [conversation.uid for _, conversation in drawn]
        return [replace(batch, loss_roots=root_count(packs)) for batch in batches], seen, ids

    def drawn(self) -> dict[str, Any]:
        return {"stream": self.stream.state_dict()}

    def load_drawn(self, state: Mapping[str, Any]) -> None:
        self.stream.load_state_dict(state["stream"])

    def left_out(self) -> dict[str, float]:
        return {f"data/{name}": float(count) for name, count in self.stream.left_out.items()}


@logs_refusals
def run_sft(config: SftConfig) -> dict[str, float]:
    """Run the stage to its last step, from the newest checkpoint if there is one; returns the last step's metrics.

    Raises:
        UserError, RunError: see `pangu_rl.errors`. Preempted: SIGTERM came, a checkpoint was written.
    """
    inputs = read_sft_inputs(config)
    milestone(f"rows read: {len(inputs.train)} to train on, {inputs.train.left_out} left out")

    def train() -> dict[str, float]:
        with open_parts(config, run, inputs) as parts:
            return train_stage(run, parts, config.trainer.steps)

    begun = begun_with("sft", config, resolve_path(config.model.path), {"rows": inputs.train.identity})
    with open_run(config, "SFT", settings=begun) as run:
        for line in inputs.train.skipped:
            log.warning("left out: %s", line)
        run.say_each(inputs.loader.notes)
        write_rows_read(run.dir, train=len(inputs.train), left_out=inputs.train.left_out)
        return with_restarts(run, config.trainer.max_restarts, train)


@contextmanager
def open_parts(config: SftConfig, run: Run, inputs: SftInputs) -> Iterator[SftParts]:
    """Start the learner; it ends with the context."""
    stream = inputs.train.stream(shuffle=config.data.shuffle, seed=config.trainer.seed)
    with (
        run.placed(config) as placement,
        open_learners(config, "sft", run, placement) as learners,
        closing(SftParts(config=config, loader=inputs.loader, stream=stream, learners=learners)) as parts,
    ):
        yield parts
