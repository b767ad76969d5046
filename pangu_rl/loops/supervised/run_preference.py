"""Preference optimisation: pairs, SFT rows -> packs -> **MPO or DPO against the start model** -> checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from pangu_rl.config.paths import resolve_path
from pangu_rl.config.stages import DpoConfig
from pangu_rl.data.conversations import Conversation
from pangu_rl.data.drawn_rows import RowStream
from pangu_rl.data.mixing.seen import Seen
from pangu_rl.data.packs.batching import outline_pairs, pack_counts, split_ranks
from pangu_rl.data.pairs import Pair
from pangu_rl.data.reference import Reference, ReferenceStore
from pangu_rl.data.stream import PromptStream, fingerprint
from pangu_rl.errors import ConfigError
from pangu_rl.loops.actors.restarts import with_restarts
from pangu_rl.loops.begun_with import begun_with
from pangu_rl.loops.inputs.pairs import DpoInputs, read_dpo_inputs
from pangu_rl.loops.session import Run, open_run
from pangu_rl.loops.stage_report import write_rows_read
from pangu_rl.loops.supervised.reference import open_store, reference_log_probs
from pangu_rl.loops.supervised.row_stage import RowStage
from pangu_rl.loops.supervised.stage import open_learners, train_stage
from pangu_rl.monitoring.milestones import milestone
from pangu_rl.monitoring.run_log import logs_refusals
from pangu_rl.records import MiniBatch

log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class PreferenceParts(RowStage):
    """What the preference loop works with; what it has seen are pairs."""

    config: DpoConfig
    pairs: PromptStream[Pair]
    sft: RowStream[Conversation] | None
    reference: Mapping[str, Reference]

    def next_batch(self) -> tuple[list[MiniBatch], Seen, list[str]]:
        drawn = [pair for _, pair in self.pairs.next(self.config.trainer.pairs_per_step)]
        pairs = [self.reference[pair.uid].on(row) for pair, row in zip(drawn, self.loader.pairs(drawn), strict=True)]
        mixed_in = self.sft.next(self.config.sft_per_step) if self.sft else []
        rows = self.loader.conversations([conversation for _, conversation in mixed_in])
        packs = outline_pairs(pairs, self.config.learner.pack_tokens, self.loader.encoder.placeholders, rows)
        tokens, sequences = pack_counts(packs)
        row_tokens = tokens - sum(len(pair.chosen) + len(pair.rejected) for pair in pairs)
        batches = split_ranks(packs, self.config.learner.groups, tokens, sequences, self.learners.dealing)
        seen = Seen.of((pair.source, row.num_tokens) for pair, row in zip(drawn, pairs, strict=True))
        ids = [row.uid for row in [*drawn, *(conversation for _, conversation in mixed_in)]]
        return [replace(batch, loss_pairs=len(pairs), row_tokens=row_tokens) for batch in batches], seen, ids

    def drawn(self) -> dict[str, Any]:
        return {"pairs": self.pairs.state_dict(), "sft": self.sft.state_dict() if self.sft else None}

    def load_drawn(self, state: Mapping[str, Any]) -> None:
        self.pairs.load_state_dict(state["pairs"])
        if (self.sft is None) != (state["sft"] is None):
            was, now = ("mixed in", "not") if state["sft"] else ("not mixed in", "they are")
            raise ConfigError(
                f"data.sft: SFT rows were {was} when the run began, now {now}: set it back, or another run_dir"
            )
        if self.sft:
            self.sft.load_state_dict(state["sft"])

    def left_out(self) -> dict[str, float]:
        left_out = self.sft.left_out if self.sft else {}
        return {f"data/sft/{name}": float(count) for name, count in left_out.items()}


@logs_refusals
def run_preference(config: DpoConfig) -> dict[str, float]:
    """Run the stage to its last step, from the newest checkpoint if there is one; returns the last step's metrics.

    Raises:
        UserError, RunError: see `pangu_rl.errors`. Preempted: SIGTERM came, a checkpoint was written.
    """
    inputs = read_dpo_inputs(config)
    milestone(f"rows read: {len(inputs.train)} pairs, {inputs.left_out} rows left out")
    store = open_store(config, inputs)

    def train() -> dict[str, float]:
        with open_parts(config, run, inputs, store) as parts:
            return train_stage(run, parts, config.trainer.steps)

    rows = {
        "rows": fingerprint(inputs.train, inputs.loader.digests),
        "sft_rows": inputs.sft.identity if inputs.sft else fingerprint(()),
    }
    begun = begun_with("dpo", config, resolve_path(config.model.path), rows)
    with open_run(config, "DPO", settings=begun) as run:
        _tell_rows(run, inputs)
        return with_restarts(run, config.trainer.max_restarts, train)


def _tell_rows(run: Run, inputs: DpoInputs) -> None:
    for line in inputs.skipped:
        log.warning("left out: %s", line)
    run.say_each(inputs.loader.notes)
    write_rows_read(
        run.dir,
        pairs=len(inputs.train),
        sft=len(inputs.sft) if inputs.sft else 0,
        left_out=inputs.left_out,
        sft_asked_by_pairs=inputs.asked_by_pairs,
    )
    if inputs.left_out or inputs.asked_by_pairs:
        run.say(f"left out: {inputs.left_out} bad rows, {inputs.asked_by_pairs} SFT rows that ask what a pair asks")


@contextmanager
def open_parts(config: DpoConfig, run: Run, inputs: DpoInputs, store: ReferenceStore) -> Iterator[PreferenceParts]:
    """Start the learner and have it compute the reference log-probs; it ends with the context."""
    order = {"shuffle": config.data.shuffle, "seed": config.trainer.seed}
    with run.placed(config) as placement, open_learners(config, "mpo", run, placement) as learners:
        parts = PreferenceParts(
            config=config,
            loader=inputs.loader,
            pairs=PromptStream(inputs.train, **order, digests=inputs.loader.digests),
            sft=inputs.sft.stream(**order) if inputs.sft else None,
            reference=reference_log_probs(config, run, inputs, store, learners),
            learners=learners,
        )
        with closing(parts):
            yield parts
