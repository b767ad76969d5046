"""Queries -> requests -> completions, scored as they finish -> **a store of all candidates**, one shard per step.

What difficulty, preference pairs and iterative fine-tuning share. A shard is stored whole or not at all, and its
requests enter the engines in a fixed order with a seed each; so a run that is killed goes on after its last whole shard
and ends with the same store as one that was not.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import cached_property
from typing import Any

from pangu_rl.algorithms.rejection_sampling import Candidate
from pangu_rl.config.sampling import SampledStage, SampleTrainerConfig, ScoredStage
from pangu_rl.data.stream import fingerprint
from pangu_rl.errors import DataError, RewardError
from pangu_rl.loops.actors.engines import Engines, EnginesConfig, open_engines
from pangu_rl.loops.evaluate import evaluate, greedy
from pangu_rl.loops.free_keys import OPERATIONAL
from pangu_rl.loops.metrics import rollout_metrics
from pangu_rl.loops.pictures import RowLoader
from pangu_rl.loops.samples import samples_of
from pangu_rl.loops.scored_completions import begin_groups, fill, sampling_of
from pangu_rl.loops.session import Run, open_run
from pangu_rl.records import Evaluation, FinishReason, Group, Outcome, Prompt, Score
from rewards.service import RewardPool
from rollout.store import RolloutStore

log = logging.getLogger(__name__)

DECIDING = {"rollout", "rewards", "aggregation"}
"""Sections of the configuration that decide what is drawn and how it is scored, but for their operational keys."""


class Sampler:
    """One model's answers to queries, in the run directory of `config`."""

    def __init__(self, config: SampledStage, run: Run, loader: RowLoader, start: Callable[[], Engines]) -> None:
        """`start` is called when the first completion is asked for: a run that has all its shards needs no engine."""
        self.config = config
        self.run = run
        self.loader = loader
        self.store = RolloutStore(run.dir, loader.folder.root)
        self.sampling = sampling_of(config.rollout)
        self._start = start

    @cached_property
    def engines(self) -> Engines:
        engines = self._start()
        engines.pool.start()
        self.run.watchdog.processes = engines.processes
        return engines

    def draw(self, batches: Sequence[Sequence[Prompt]], epoch: int = 0) -> None:
        """Store a shard for each of `batches` that has none yet; other epochs draw other samples.

        Raises:
            DataError: shards are missing among those of the run. Preempted: SIGTERM came, the shard is stored.
        """
        done = self._restore()
        if done < len(batches):
            waiting = self.engines.waiting
            self.run.view.start_at(done)  # what the engines took to start is no part of a step
        for step in range(done + 1, len(batches) + 1):
            with self.run.phase("rollout", waiting=waiting):
                groups = self._draw(step, batches[step - 1], epoch)
            self.store.append(step, groups, self.sampling)
            self.run.log(step, _metrics(groups), samples_of(groups))
            if step < len(batches):
                self.run.raise_if_preempted(step)

    def measure(self, name: str, step: int, prompts: Sequence[Prompt]) -> Evaluation:
        """Held-out accuracy by the first reward function alone."""
        rewards = self.config.rewards
        with ExitStack() as stack:
            pool = self.engines.rewards
            if len(rewards.functions) > 1:
                first = rewards.model_copy(update={"functions": rewards.functions[:1]})
                options = self.engines.placement.reward_options
                pool = stack.enter_context(closing(RewardPool(first, options, stop=self.run.stop)))
            stack.enter_context(self.run.phase("evaluate", waiting=self.engines.waiting))
            return evaluate(
                name,
                step,
                prompts,
                loader=self.loader,
                pool=self.engines.pool,
                rewards=pool,
                sampling=greedy(self.config.rollout.max_new_tokens),
            )

    def _restore(self) -> int:
        """Shards that are there, after what a killed run left behind them is gone."""
        steps = self.store.steps()
        done = len(steps)
        if steps != list(range(1, done + 1)):
            missing = min(set(range(1, done + 1)) - set(steps))
            raise DataError(
                f"{self.store.directory}: shard {missing} of {steps[-1]} is gone: restore it, or take another run_dir"
            )
        self.store.truncate_after(done)
        self.run.sinks.truncate_after(done)
        if done:
            log.info("going on after shard %d in %s", done, self.store.directory)
        return done

    def _draw(self, step: int, prompts: Sequence[Prompt], epoch: int) -> list[Group]:
        config, drawn = self.config, [(epoch, prompt) for prompt in prompts]
        count = config.rollout.completions
        groups, requests = begin_groups(drawn, self.loader, self.sampling, config.trainer.seed, step, count)
        fill(groups, requests, self.engines.pool, self.engines.rewards)
        for group in groups:
            group.scores = [final_score(score, config) for score in group.scores]
            group.advantages, group.trained = [0.0] * count, False
        return groups


@contextmanager
def open_sampler(
    config: SampledStage, loader: RowLoader, title: str, steps: int = 1, settings: Mapping[str, Any] | None = None
) -> Iterator[Sampler]:
    """A run, see `open_run`; engines start when they are needed and end with the context."""
    sections = EnginesConfig(
        model=config.model,
        rollout=config.rollout,
        rewards=config.rewards,
        seed=config.trainer.seed,
        end_tokens=loader.encoder.end_tokens,
    )
    with open_run(config, title, steps, settings) as run, ExitStack() as stack:
        run.say_each(loader.notes)

        def start() -> Engines:
            placement = stack.enter_context(run.placed(config))
            return stack.enter_context(open_engines(sections, run, placement))

        yield Sampler(config, run, loader, start)


def sample(
    config: SampledStage, prompts: Sequence[Prompt], loader: RowLoader, title: str, checksum: str
) -> dict[str, list[Candidate]]:
    """Draw and score every prompt, or as many as `trainer.steps` says; candidates by prompt uid, in drawn order.

    `checksum` is that of the model's weights.

    Raises:
        ConfigError: the run directory was begun with other settings, data or weights.
    """
    batches = in_batches(config, prompts)
    deciding = settings(config, prompts, loader, checksum)
    with open_sampler(config, loader, title, len(batches), deciding) as sampler:
        sampler.draw(batches)
    return candidates_of(sampler.store, len(batches))


def in_batches(config: SampledStage, prompts: Sequence[Prompt]) -> list[Sequence[Prompt]]:
    """The prompts of each step."""
    trainer = config.trainer
    size = trainer.prompts_per_step
    batches = [prompts[start : start + size] for start in range(0, len(prompts), size)]
    return batches[: trainer.steps] if isinstance(trainer, SampleTrainerConfig) else batches


def settings(config: SampledStage, prompts: Sequence[Prompt], loader: RowLoader, checksum: str) -> dict[str, Any]:
    """All that decides the store's content."""
    trainer = config.trainer
    return {
        "model": {"weights": checksum, **config.model.model_dump(mode="json", exclude={"path"})},
        "data": {"rows": len(prompts), "fingerprint": fingerprint(prompts, loader.digests)},
        **config.model_dump(mode="json", include=DECIDING, exclude=OPERATIONAL),
        "trainer": {"seed": trainer.seed, "prompts_per_step": trainer.prompts_per_step},
    }


def made_from(config: SampledStage, prompts: Sequence[Prompt], loader: RowLoader, checksum: str) -> dict[str, Any]:
    """The same for a manifest, with the names that the user gave."""
    deciding = settings(config, prompts, loader, checksum)
    model = {"path": config.model.path} | deciding["model"]
    return deciding | {"model": model, "data": {"queries": config.data.queries} | deciding["data"]}


def final_score(score: Score, config: SampledStage) -> Score:
    """The score with its parts made one value from 1 to 5, where the stage selects by that; None without a verdict.

    Raises:
        RewardError: a part is not from 1 to 5.
    """
    if not isinstance(config, ScoredStage):
        return score
    values = [part.value for part in score.parts.values()]
    if any(value is None for value in values):
        return dataclasses.replace(score, reward=None)
    for name, part in score.parts.items():
        if not 1.0 <= part.value <= 5.0:
            raise RewardError(
                f"reward function {name}, completion {score.completion_uid}: {part.value} is no score from 1 to 5"
            )
    if config.aggregation == "min":
        return dataclasses.replace(score, reward=min(values))
    weights = [function.weight for function in config.rewards.functions]
    total = sum(weight * value for weight, value in zip(weights, values, strict=True))
    return dataclasses.replace(score, reward=total / sum(weights))


def candidates_of(store: RolloutStore, steps: int) -> dict[str, list[Candidate]]:
    """The candidates of the first `steps` shards, by prompt uid, in drawn order."""
    columns = ["step", "prompt_uid", "completion_uid", "text", "finish_reason", "reward", "parts"]
    found: dict[str, list[Candidate]] = {}
    for batch in store.read().to_batches(columns=columns):
        for row in batch.to_pylist():
            if row["step"] <= steps:
                found.setdefault(row["prompt_uid"], []).append(_candidate(row))
    return found


def _candidate(row: dict[str, Any]) -> Candidate:
    return Candidate(
        uid=row["completion_uid"],
        text=row["text"],
        score=row["reward"],
        correct=row["parts"][0]["outcome"] == Outcome.CORRECT,
        whole=row["finish_reason"] == FinishReason.STOP,
    )


def _metrics(groups: Sequence[Group]) -> dict[str, float]:
    # Nothing is trained here: shares of trained groups would say nothing.
    return {name: value for name, value in rollout_metrics(groups).items() if not name.startswith("groups/")}
