"""Evaluation: sets of prompts -> greedy answers of one model -> **accuracy per set and source, with intervals**."""

from __future__ import annotations

import dataclasses
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pangu_rl.checkpoint.settings import write_whole
from pangu_rl.config.evaluation import EvalConfig
from pangu_rl.config.paths import resolve_path
from pangu_rl.data.prompts import load_prompts
from pangu_rl.loops.engines import EnginesConfig, open_engines
from pangu_rl.loops.evaluate import evaluate
from pangu_rl.loops.inputs import check_length, open_model, prompt_problem, with_sound_pictures
from pangu_rl.loops.pictures import RowLoader
from pangu_rl.loops.session import open_run
from pangu_rl.monitoring.accuracy_table import accuracy_table
from pangu_rl.monitoring.intervals import wilson
from pangu_rl.records import Evaluation, Prompt
from rewards.audit import gold_problem
from rewards.rubric import Rubric

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalInputs:
    """What is asked, by the set's name."""

    loader: RowLoader
    sets: dict[str, list[Prompt]]
    skipped: list[str]
    """A line (file, row, reason) for each row left out."""


def run_eval(config: EvalConfig) -> dict[str, Any]:
    """Write `evaluations.json` (every item's verdict, as GRPO writes it); returns per set `items`, `accuracy` and the
    95 % interval `low`, `high`, and the same per source under `sources`.

    Raises:
        UserError, RunError: see `pangu_rl.errors`.
    """
    inputs = read_eval_inputs(config)
    for line in inputs.skipped:
        log.warning("left out: %s", line)
    engines_config = EnginesConfig(
        model=config.model, rollout=config.rollout, rewards=config.rewards, seed=config.trainer.seed
    )
    evaluations: list[Evaluation] = []
    with (
        open_run(config, "evaluation", steps=len(inputs.sets)) as run,
        open_engines(engines_config, run.accelerator) as engines,
    ):
        run.watchdog.pids = engines.pids
        engines.pool.start()
        for step, (name, prompts) in enumerate(inputs.sets.items(), start=1):
            with run.phase("evaluate", waiting=engines.waiting):
                evaluation = evaluate(
                    name,
                    step,
                    prompts,
                    loader=inputs.loader,
                    pool=engines.pool,
                    rewards=engines.rewards,
                    max_new_tokens=config.rollout.max_new_tokens,
                )
            evaluations.append(evaluation)
            run.log(step, {"heldout/accuracy": evaluation.accuracy})
        rows = [dataclasses.asdict(evaluation) for evaluation in evaluations]
        write_whole(Path(config.trainer.run_dir) / "evaluations.json", json.dumps(rows))
        run.say(accuracy_table(evaluations))
    return {evaluation.name: figures(evaluation) for evaluation in evaluations}


def read_eval_inputs(config: EvalConfig) -> EvalInputs:
    """Read the sets; every gold must be graded correct by the first reward function.

    Raises:
        UserError: a file, a row, a picture, a model folder or a reward function that cannot be used.
    """
    data = config.data
    check_length(resolve_path(config.model.path), config.rollout.max_model_tokens, "rollout.max_model_tokens")
    encoder, folder = open_model(config.model, data)
    grade = Rubric.from_config(config.rewards).functions[0].call

    def problem(prompt: Prompt) -> str | None:
        return prompt_problem(prompt, encoder, folder, data.max_prompt_tokens) or gold_problem(prompt, grade)

    loaded = [
        load_prompts(resolve_path(path), on_bad_row=data.on_bad_row, check_gold=problem) for path in data.sets.values()
    ]
    sound, loader = with_sound_pictures(loaded, encoder, folder)
    return EvalInputs(
        loader=loader,
        sets={name: part.records[: data.limit] for name, part in zip(data.sets, sound, strict=True)},
        skipped=[line for part in sound for line in part.skipped],
    )


def figures(evaluation: Evaluation) -> dict[str, Any]:
    """`items`, `accuracy`, `low`, `high` of a set and of its `sources`."""
    by_source: dict[str, list[bool]] = {}
    for uid, right in evaluation.correct.items():
        by_source.setdefault(evaluation.sources[uid], []).append(right)
    sources = {source: _share(verdicts) for source, verdicts in sorted(by_source.items())}
    return _share(list(evaluation.correct.values())) | {"sources": sources}


def _share(verdicts: list[bool]) -> dict[str, float]:
    low, high = wilson(sum(verdicts), len(verdicts))
    return {"items": len(verdicts), "accuracy": sum(verdicts) / len(verdicts), "low": low, "high": high}
