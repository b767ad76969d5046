"""Evaluation: sets of prompts -> greedy answers of one model -> **accuracy per set and source, with intervals**."""

from __future__ import annotations

import json
import logging
from typing import Any

from pangu_rl.checkpoint.settings import write_whole
from pangu_rl.config.evaluation import EvalConfig
from pangu_rl.loops.evaluate import answers, greedy, verdicts, write_evaluations
from pangu_rl.loops.evaluation.eval_inputs import read_eval_inputs
from pangu_rl.loops.evaluation.open_evaluation import open_evaluation
from pangu_rl.loops.evaluation.resolution_search import search_resolutions
from pangu_rl.loops.evaluation.run_benchmarks import run_benchmarks
from pangu_rl.monitoring.accuracy_figures import figures
from pangu_rl.monitoring.accuracy_table import accuracy_table
from pangu_rl.monitoring.run_log import logs_refusals
from pangu_rl.records import Evaluation

log = logging.getLogger(__name__)


@logs_refusals
def run_eval(config: EvalConfig) -> dict[str, Any]:
    """Write `evaluations.json` (every item's verdict, as GRPO writes it) and `answers.jsonl` (what the model said).

    Returns per set `items`, `accuracy` and the 95 % interval `low`, `high`, and the same per source under `sources`.
    With `data.benchmarks` see `run_benchmarks`, with `resolutions` `search_resolutions`.

    Raises:
        UserError, RunError: see `pangu_rl.errors`.
    """
    if config.data.benchmarks:
        return run_benchmarks(config)
    inputs = read_eval_inputs(config)
    for line in inputs.skipped:
        log.warning("left out: %s", line)
    if config.resolutions is not None:
        return search_resolutions(config, inputs)
    evaluations: list[Evaluation] = []
    said: list[dict[str, Any]] = []
    with open_evaluation(config, inputs, "evaluation", len(inputs.sets)) as (run, engines):
        run.watchdog.processes = engines.processes
        engines.pool.start()
        for step, (name, prompts) in enumerate(inputs.sets.items(), start=1):
            with run.phase("evaluate", waiting=engines.waiting):
                answered = answers(
                    prompts,
                    loader=inputs.loader,
                    pool=engines.pool,
                    rewards=engines.rewards,
                    sampling=greedy(config.rollout.max_new_tokens, config.stop),
                )
            evaluations.append(verdicts(name, step, answered))
            said += [one.as_row(name) for one in answered]
            run.log(step, {"heldout/accuracy": evaluations[-1].accuracy})
        write_whole(run.dir / "answers.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in said))
        write_evaluations(run.dir, evaluations)
        run.say(accuracy_table(evaluations))
    return {evaluation.name: figures(evaluation) for evaluation in evaluations}
