"""Where the driver's time of a GRPO step goes, at 4,096 answers of 8k tokens: seconds by part.

The answers are made up, everything else is the code that runs: the engine pool and its actors, the reward workers with
the boxed grader, groups and advantages, the store, packing, dealing, and the way to the learner's ranks, which only lay
out what they are given. Two figures a part: seconds on the clock, and processor seconds, of the driver or, where the
ranks lay out, of the slowest of them.

Devices wait while the step's requests are made, its groups judged, its packs outlined, dealt and put where the ranks
find them (`time/driver`), and while the step is reckoned up. That ranks lay their packs out is counted too, all of it,
though each lays out one while its device works on the one before. Engines draw during `draw and score`, whose length
here is that of making the answers up; ranks train while the store is written and the step before is let go.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import ray

from benchmarks.machine import machine
from pangu_rl.accelerators.cpu import CPU
from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.config.sections.rollout import RolloutConfig
from pangu_rl.config.stages import GrpoConfig
from pangu_rl.data.packs.layout import TrainingRow
from pangu_rl.data.packs.micro_batches import BY_TOKENS
from pangu_rl.data.stream import PromptStream
from pangu_rl.loops.actors.learners import Learners
from pangu_rl.loops.metrics import rollout_metrics, staleness_metrics
from pangu_rl.loops.online.collect import Batch, Collector
from pangu_rl.loops.online.train_step import train_on
from pangu_rl.records import Completion, FinishReason, Group, MiniBatch, Prompt, RolloutRequest, SamplingParams
from rewards.service import RewardPool
from rollout.engine import EngineSpec
from rollout.intake import Intake
from rollout.pool import RolloutPool
from rollout.store import RolloutStore

COMPLETIONS, PROMPT_TOKENS, VOCABULARY, WORDS = 8, 512, 150_000, 4.0
RANKS = 4
WAITED = ("ask", "judge", "outline, deal, send", "lay out", "reckon up")
"""Parts during which all devices wait."""

Parts = dict[str, tuple[float, float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=4096)
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--steps", type=int, default=2, help="the fastest of each part counts")
    args = parser.parse_args()
    config = configuration(args)
    ray.init(num_cpus=8, include_dashboard=False, object_store_memory=9 * 2**30, logging_level="error")
    with tempfile.TemporaryDirectory() as folder:
        turns = measure(config, args, Path(folder))
    best = {part: [min(turn[part][i] for turn in turns) for i in (0, 1)] for part in turns[0]}
    best["devices wait"] = [sum(best[part][i] for part in WAITED) for i in (0, 1)]
    report = {
        "machine": machine(),
        "answers": args.answers,
        "tokens": args.answers * args.tokens,
        "parts": {
            part: {"seconds": round(wall, 3), "processor_seconds": round(busy, 3)}
            for part, (wall, busy) in best.items()
        },
    }
    print(json.dumps(report, indent=1))


def measure(config: GrpoConfig, args: argparse.Namespace, folder: Path) -> list[Parts]:
    spec = EngineSpec(
        model=ModelConfig(path="none"),
        rollout=RolloutConfig(actors=2, engine="fake"),
        accelerator=CPU,
        model_path=folder,
        factory=MadeUp,
    )
    pool, rewards = RolloutPool(spec), RewardPool(config.rewards)
    pool.start()
    collector = TimedCollector(config, stream(args.answers), Rows(), pool, rewards)
    learners, store = Counting(config), RolloutStore(folder)
    turns: list[Parts] = []
    batch: Batch | None = None
    for step in range(1, args.steps + 1):
        parts: Parts = {}
        collector.parts = parts
        gc.collect()
        with timed(parts, "draw and score"):
            spent, batch = [batch], collector.collect(step)
        write = partial(store_and_let_go, store, batch, collector.sampling, spent)
        with ExitStack() as waiting:
            waiting.enter_context(timed(parts, "outline, deal, send"))
            train_on(batch.trained, learners, config, frozenset(), partial(beside, waiting, parts, write))
        parts["lay out"] = learners.laying_out
        with timed(parts, "reckon up"):
            rollout_metrics(batch.groups) | staleness_metrics(batch.trained, step)
        print(step, parts, file=sys.stderr)
        turns.append(parts)
    pool.close()
    rewards.close()
    return turns


@contextmanager
def beside(waiting: ExitStack, parts: Parts, write: Callable[[], None]) -> Iterator[None]:
    """What the loop does beside training: here the ranks have their packs."""
    waiting.close()
    with timed(parts, "store, let go"), ThreadPoolExecutor(1) as background:
        writing = background.submit(write)
        yield
        writing.result()


def store_and_let_go(store: RolloutStore, batch: Batch, sampling: SamplingParams, spent: list[Batch | None]) -> None:
    store.append(batch.step, batch.groups, sampling)
    spent.clear()


@contextmanager
def timed(parts: Parts, name: str) -> Iterator[None]:
    """Seconds on the clock, and of this process's threads."""
    wall, busy = time.perf_counter(), time.process_time()
    yield
    parts[name] = time.perf_counter() - wall, time.process_time() - busy


class TimedCollector(Collector):
    """With the seconds that engines wait for it."""

    parts: Parts

    def begin(self, drawn: Sequence[tuple[int, Prompt]], step: int) -> tuple[list[Group], list[RolloutRequest]]:
        with timed(self.parts, "ask"):
            return super().begin(drawn, step)

    def judge(self, groups: list[Group]) -> None:
        with timed(self.parts, "judge"):
            super().judge(groups)


def configuration(args: argparse.Namespace) -> GrpoConfig:
    return GrpoConfig.model_validate(
        {
            "model": {"path": "none"},
            "data": {"train": "none", "max_prompt_tokens": PROMPT_TOKENS},
            "rollout": {
                "completions": COMPLETIONS,
                "max_new_tokens": args.tokens,
                "max_model_tokens": args.tokens + PROMPT_TOKENS,
            },
            "algorithm": {"mini_batches": 2},
            "learner": {"ranks": RANKS, "pack_tokens": 24_576},
            "trainer": {"run_dir": "none", "steps": args.steps, "prompts_per_step": args.answers // COMPLETIONS},
        }
    )


def stream(answers: int) -> PromptStream:
    return PromptStream(
        [
            Prompt(uid=f"p{number}", messages=({"role": "user", "content": "How many?"},), answer="3")
            for number in range(answers // COMPLETIONS)
        ],
        shuffle=False,
        seed=0,
    )


class Rows:
    """What a `RowLoader` of text does, without a tokenizer."""

    def prompts(self, prompts: Sequence[Prompt]) -> list[TrainingRow]:
        return [TrainingRow(token_ids=(1000,) * PROMPT_TOKENS, trained=(False,) * PROMPT_TOKENS) for _ in prompts]


class MadeUp:
    """An engine that makes answers up, `max_new_tokens` each, a quarter of them right."""

    weight_version = 0

    def __init__(self, spec: EngineSpec) -> None:
        self._words = ["word" if number % 5 else "so, " for number in range(8192)]

    def generate(self, requests: Sequence[RolloutRequest], intake: Intake | None = None) -> Iterator[Completion]:
        for request in requests:
            rng = np.random.default_rng(request.seed)
            length = request.sampling.max_new_tokens
            yield Completion(
                uid=request.uid,
                group=request.group,
                prompt_uid=request.prompt_uid,
                token_ids=tuple(rng.integers(0, VOCABULARY, length).tolist()),
                logprobs=tuple(rng.normal(-1, 0.3, length).astype(np.float32).tolist()),
                text="".join(map(self._words.__getitem__, range(length))) + f"\\boxed{{{request.seed % 4}}}",
                finish_reason=FinishReason.STOP,
                weight_versions=(0,) * length,
                seconds=1.0,
            )


@ray.remote(num_cpus=0)
class Rank:
    """A learner's rank that only lays out what it is given."""

    def update(self, batches: Sequence[MiniBatch]) -> tuple[dict[str, float], tuple[float, float]]:
        """Targets, and the seconds that laying them out takes."""
        parts: Parts = {}
        with timed(parts, "lay out"):
            targets = sum(outline.lay_out().num_targets for batch in batches for outline in batch.packs)
        return {"targets": float(targets)}, parts["lay out"]


class Counting(Learners):
    """The driver's side of training, over ranks that do not train."""

    laying_out = 0.0, 0.0
    """Seconds of the slowest rank in the last update."""

    def __init__(self, config: GrpoConfig) -> None:
        self._actors = [Rank.remote() for _ in range(RANKS)]
        self._spec = config
        self.dealing = BY_TOKENS

    def update_from(self, handles: Sequence[ray.ObjectRef]) -> list[dict[str, float]]:
        calls = [actor.update.remote(handle) for actor, handle in zip(self._actors, handles, strict=True)]
        found = ray.get(calls)
        self.laying_out = tuple(max(seconds[i] for _, seconds in found) for i in (0, 1))
        return [found[0][0]]


if __name__ == "__main__":
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    main()
