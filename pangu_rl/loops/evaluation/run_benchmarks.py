"""Many benchmarks, one engine: files as the hub has them -> greedy answers -> **each benchmark's figure**.

    for each benchmark: its picture sizes -> its prompts -> answers -> scores by its metric -> a line of the table

`benchmarks.json` has the figures, `answers.jsonl` every answer with its score, `evaluations.json` what is right and
wrong, as other evaluations leave it.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
from collections.abc import Sequence
from typing import Any

from pangu_rl.checkpoint.settings import write_whole
from pangu_rl.config.evaluation import BY_METRIC, EvalConfig
from pangu_rl.config.sections.rewards import RewardFunctionConfig
from pangu_rl.loops.actors.engines import Engines
from pangu_rl.loops.evaluate import Answered, answers, greedy, verdicts
from pangu_rl.loops.evaluation.benchmark_inputs import BenchmarkSet, read_benchmarks
from pangu_rl.loops.evaluation.benchmark_scores import figure, figures_by_category
from pangu_rl.loops.evaluation.eval_inputs import EvalInputs
from pangu_rl.loops.evaluation.open_evaluation import open_evaluation
from pangu_rl.loops.session import Run
from pangu_rl.monitoring.benchmark_table import benchmark_table
from pangu_rl.records import Prompt

log = logging.getLogger(__name__)
RESULT = "benchmarks.json"
VIDEOS_AT_ONCE = 256
"""Rows whose frames are held together: the released budget is 34 MB a row, and a benchmark has thousands of rows."""


def run_benchmarks(config: EvalConfig) -> dict[str, Any]:
    """Returns what `benchmarks.json` holds, by the benchmark's name: `title`, `split`, `metric`, `figure`,
    `categories`, `left_out` (rows that could not be asked).

    Raises:
        UserError, RunError: see `pangu_rl.errors`; also too many rows that cannot be asked, or without a verdict.
    """
    sets, inputs = read_benchmarks(config)
    for line in inputs.skipped:
        log.warning("left out: %s", line)
    scored = _by_metric(config)
    answered: dict[str, list[Answered]] = {}
    with open_evaluation(scored, inputs, "benchmarks", len(sets)) as (run, engines):
        run.watchdog.pids = engines.pids
        engines.pool.start()
        for step, one in enumerate(sets, start=1):
            answered[one.name] = _answers(config, one, inputs, run, engines)
            run.log(step, {f"benchmark/{one.name}": figure(one.definition, answered[one.name]).value})
            if step < len(sets):
                run.raise_if_preempted(step)
        results = {one.name: _result(one, answered[one.name]) for one in sets}
        _write(run, answered, results)
        run.say(benchmark_table(list(results.values())))
    return _without_nan(results)


def _by_metric(config: EvalConfig) -> EvalConfig:
    if config.rewards.functions[0].name in BY_METRIC:
        return config
    by_metric = config.rewards.model_copy(update={"functions": (RewardFunctionConfig(name="benchmark"),)})
    return config.model_copy(update={"rewards": by_metric})


def _answers(config: EvalConfig, one: BenchmarkSet, inputs: EvalInputs, run: Run, engines: Engines) -> list[Answered]:
    if one.limits is not None:
        inputs.loader.folder.limits = one.limits
    written = greedy(config.rollout.max_new_tokens, config.stop)
    with run.phase("evaluate", waiting=engines.waiting):
        return [
            answered
            for some in pieces(one.rows.prompts, VIDEOS_AT_ONCE if one.definition.video else len(one.rows.prompts))
            for answered in answers(
                some,
                loader=inputs.loader,
                pool=engines.pool,
                rewards=engines.rewards,
                sampling=written if one.letters is None else one.letters.sampling,
            )
        ]


def pieces(prompts: Sequence[Prompt], size: int) -> list[Sequence[Prompt]]:
    """The prompts, in order, at most `size` of them at once."""
    return [prompts[start : start + size] for start in range(0, len(prompts), size)]


def _result(one: BenchmarkSet, answered: list[Answered]) -> dict[str, Any]:
    categories = figures_by_category(one.definition, answered)
    return {
        "title": one.definition.title,
        "split": one.definition.split,
        "metric": one.definition.metric,
        "figure": dataclasses.asdict(figure(one.definition, answered)),
        "categories": {name: dataclasses.asdict(part) for name, part in categories.items()},
        "left_out": len(one.rows.left_out),
    }


def _write(run: Run, answered: dict[str, list[Answered]], results: dict[str, Any]) -> None:
    said = [_said(name, one) for name, some in answered.items() for one in some]
    write_whole(run.dir / "answers.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in said))
    evaluations = [verdicts(name, step, some) for step, (name, some) in enumerate(answered.items(), start=1)]
    write_whole(run.dir / "evaluations.json", json.dumps([dataclasses.asdict(one) for one in evaluations]))
    write_whole(run.dir / RESULT, json.dumps(_without_nan(results), indent=1) + "\n")


def _said(name: str, one: Answered) -> dict[str, Any]:
    """A row of `answers.jsonl`."""
    judged = {} if one.part.extraction is None else {"judge": dataclasses.asdict(one.part.extraction)}
    return one.as_row(name) | {"score": one.part.value} | judged


def _without_nan(value: Any) -> Any:
    """A figure of no items is null in JSON."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
