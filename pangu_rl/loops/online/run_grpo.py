"""The online loop: sample, score, train, sync.

        prompts.jsonl
             |
      PromptStream --prompt--> Collector --requests--> RolloutPool (vLLM actors)
             ^                     |   <--completions, one by one--'        ^
             |                     '--completion--> RewardPool            | weights v(k+1): hashed,
        checkpoint                     scored groups, advantages            | names complete, probed
             ^                             |                                |
             '-------- Learners <--packs---'----> RolloutStore              |
                       (DeepSpeed ranks) --- publish -----------------------'

Synchronous by default: the rollouts of step s+1 wait for the weights of step s. With `max_staleness: k` the engines
draw without a pause (`draw_ahead`) and no token is older than k versions when it trains; importance weights correct it.
With `rollout.placement: shared` engines and learner take turns on the same devices (`turns`).
"""

from __future__ import annotations

from functools import partial

from pangu_rl.config.stages import GrpoConfig
from pangu_rl.data.stream import fingerprint
from pangu_rl.errors import Preempted
from pangu_rl.loops.actors.restarts import with_restarts
from pangu_rl.loops.begun_with import begun_with
from pangu_rl.loops.inputs.prompts import held_out_and_trained, read_grpo_inputs
from pangu_rl.loops.metrics import rollout_metrics, staleness_metrics
from pangu_rl.loops.online.open_parts import open_parts
from pangu_rl.loops.online.parts import GrpoParts
from pangu_rl.loops.online.sampler_alarm import check_sampler
from pangu_rl.loops.online.start import start_model
from pangu_rl.loops.online.train_step import train_on
from pangu_rl.loops.online.warnings import step_warnings
from pangu_rl.loops.session import Run, open_run
from pangu_rl.loops.skipped import log_skipped
from pangu_rl.monitoring.milestones import milestone
from pangu_rl.monitoring.run_log import logs_refusals


@logs_refusals
def run_grpo(config: GrpoConfig) -> dict[str, float]:
    """Run the stage to its last step, from the newest checkpoint if there is one.

    Returns the held-out accuracies of all weights that were measured (`heldout/<name>`).

    Raises:
        UserError, RunError: see `pangu_rl.errors`. Preempted: SIGTERM came, a checkpoint was written.
    """
    inputs = read_grpo_inputs(config)
    milestone(
        f"rows read: {len(inputs.train)} to train on, {len(inputs.heldout)} held out, {len(inputs.skipped)} left out"
    )
    if both := inputs.both():
        milestone(f"warning: {held_out_and_trained(both, len(inputs.heldout))}")
    start = start_model(config)
    begun = begun_with("grpo", config, start, {"rows": fingerprint(inputs.train, inputs.loader.digests)})
    with open_run(config, "GRPO", settings=begun) as run, open_parts(config, run, inputs, start) as parts:
        with_restarts(run, config.trainer.max_restarts, lambda: train(run, parts))
        return parts.finish()


def train(run: Run, parts: GrpoParts) -> None:
    """Every step that the newest checkpoint does not hold, by ranks of its own."""
    with parts.learning():
        try:
            for step in range(parts.restore() + 1, parts.config.trainer.steps + 1):
                metrics = grpo_step(run, parts, step)
                last = step == parts.config.trainer.steps
                try:
                    metrics |= parts.evaluate(f"step {step}", step) if parts.is_measured(step) else {}
                finally:  # the step was taken, also where SIGTERM ends what measures it
                    run.log(step, metrics, parts.samples())
                if last or run.preempted or run.saving.is_due(step):
                    parts.save(step)
                if not last:
                    run.raise_if_preempted(step)
            run.finish_saving()
        except Preempted:
            parts.leave()


def grpo_step(run: Run, parts: GrpoParts, step: int) -> dict[str, float]:
    """One step: groups in, weights version step + 1 in learner and engines out."""
    parts.turns.draw()
    with run.phase("rollout", waiting=parts.waiting, outstanding=parts.outstanding):
        batch = parts.take_batch(step)
    if folder := run.profile_folder(step):
        parts.learners.profile_next(folder)
    parts.turns.train()
    with run.phase("train", whole=True):
        placeholders, beside = parts.loader.encoder.placeholders, partial(parts.beside_training, step)
        trained = train_on(batch.trained, parts.learners, parts.config, placeholders, beside)
    metrics = trained.metrics
    log_skipped(step, metrics.get("train/skipped", 0.0), (group.prompt.uid for group in batch.trained))
    parts.trained = step
    with run.phase("sync", whole=True), parts.beside_sync(step, trained):
        check_sampler(run, parts.config, step, metrics)
        metrics |= parts.sync(step)
    found = (
        rollout_metrics(batch.groups, parts.loader.encoder.template.known_tokens)
        | staleness_metrics(batch.trained, step)
        | metrics
    )
    run.say_each(step_warnings(step, found))
    return found
