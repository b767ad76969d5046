"""Many benchmarks, one engine: files as the hub has them -> greedy answers -> **each benchmark's figure**.

    for each benchmark: its picture sizes -> its prompts -> answers -> scores by its metric -> benchmarks/<name>.json
                                                                             '-> a line of the table

`benchmarks.json` has the figures, `answers.jsonl` every answer with its score, `evaluations.json` what is right and
wrong, as other evaluations leave it. The same command goes on with the benchmarks that are missing, and starts no
engine if none is.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pangu_rl.checkpoint.settings import write_whole
from pangu_rl.config.evaluation import BY_METRIC, EvalConfig
from pangu_rl.config.sections.rewards import RewardFunctionConfig
from pangu_rl.loops.actors.engines import Engines
from pangu_rl.loops.evaluate import Answered, answers, greedy, verdicts, write_evaluations
from pangu_rl.loops.evaluation.benchmark_inputs import BenchmarkSet, read_benchmarks
from pangu_rl.loops.evaluation.benchmark_scores import figure, figures_by_category, incomplete_questions
from pangu_rl.loops.evaluation.eval_inputs import EvalInputs
from pangu_rl.loops.evaluation.kept_benchmarks import KeptBenchmark, benchmark_settings, keep, kept, run_settings
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
    `categories`, `left_out` (rows that could not be asked), `elsewhere` (rows of its file that the figure is not of).

    Raises:
        UserError, RunError: see `pangu_rl.errors`; also too many rows that cannot be asked, or without a verdict.
    """
    sets, inputs = read_benchmarks(config)
    for line in inputs.skipped:
        log.warning("left out: %s", line)
    scored = _by_metric(config)
    with open_evaluation(scored, inputs, "benchmarks", len(sets), run_settings(scored)) as (run, engines):
        run.say_each(one.elsewhere for one in sets if one.elsewhere)
        benchmarks = Benchmarks(scored, inputs, run, engines)
        done = benchmarks.kept(sets)
        for step, one in enumerate(sets, start=1):
            if one.name not in done:
                done[one.name] = benchmarks.answered(step, one)
            if step < len(sets):
                run.raise_if_preempted(step)
        results = {one.name: done[one.name].result for one in sets}
        _write(run, [done[one.name] for one in sets], results)
        run.say(benchmark_table(list(results.values())))
    return _without_nan(results)


@dataclass(slots=True)
class Benchmarks:
    """Those of one run directory."""

    config: EvalConfig
    inputs: EvalInputs
    run: Run
    engines: Engines
    _started: bool = False

    def kept(self, sets: Sequence[BenchmarkSet]) -> dict[str, KeptBenchmark]:
        """What earlier starts have done, by name.

        Raises:
            ConfigError: one was done with other settings.
        """
        found = {one.name: kept(self.run.dir, one.name, self._settings(one)) for one in sets}
        return {name: done for name, done in found.items() if done is not None}

    def answered(self, step: int, one: BenchmarkSet) -> KeptBenchmark:
        """Asked, scored, and kept."""
        answered = self._answers(one)
        for line in incomplete_questions(one.definition, answered):
            log.warning("%s counts nowhere: %s", one.name, line)
        found = KeptBenchmark(
            answers=[_said(one.name, answer) for answer in answered],
            evaluation=verdicts(one.name, step, answered),
            result=_result(one, answered),
        )
        keep(self.run.dir, one.name, self._settings(one), found)
        self.run.log(step, {f"benchmark/{one.name}": found.result["figure"]["value"]})
        return found

    def _settings(self, one: BenchmarkSet) -> dict[str, Any]:
        return benchmark_settings(one, self.inputs.loader.digests)

    def _answers(self, one: BenchmarkSet) -> list[Answered]:
        if not self._started:
            self.run.watchdog.processes = self.engines.processes
            self.engines.pool.start()
            self._started = True
        if one.limits is not None:
            self.inputs.loader.folder.limits = one.limits
        written = greedy(self.config.rollout.max_new_tokens, self.config.stop)
        with self.run.phase("evaluate", waiting=self.engines.waiting):
            return [
                answered
                for some in pieces(one.rows.prompts, VIDEOS_AT_ONCE if one.definition.video else len(one.rows.prompts))
                for answered in answers(
                    some,
                    loader=self.inputs.loader,
                    pool=self.engines.pool,
                    rewards=self.engines.rewards,
                    sampling=written if one.letters is None else one.letters.sampling,
                )
            ]


def _by_metric(config: EvalConfig) -> EvalConfig:
    if config.rewards.functions[0].name in BY_METRIC:
        return config
    by_metric = config.rewards.model_copy(update={"functions": (RewardFunctionConfig(name="benchmark"),)})
    return config.model_copy(update={"rewards": by_metric})


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
        "elsewhere": one.rows.elsewhere,
    }


def _write(run: Run, done: Sequence[KeptBenchmark], results: dict[str, Any]) -> None:
    said = [row for one in done for row in one.answers]
    write_whole(run.dir / "answers.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in said))
    write_evaluations(run.dir, [one.evaluation for one in done])
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
