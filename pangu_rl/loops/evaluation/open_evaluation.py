"""What both evaluations stand on: **the run, with what was read told, and the engines**, yet to be started."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pangu_rl.config.evaluation import EvalConfig
from pangu_rl.loops.actors.engines import Engines, EnginesConfig, open_engines
from pangu_rl.loops.evaluation.eval_inputs import EvalInputs
from pangu_rl.loops.session import Run, open_run
from pangu_rl.loops.stage_report import write_rows_read


@contextmanager
def open_evaluation(
    config: EvalConfig, inputs: EvalInputs, title: str, steps: int, settings: Mapping[str, Any] | None = None
) -> Iterator[tuple[Run, Engines]]:
    """A run, see `open_run`, and its engines, see `open_engines`; both end with the context."""
    sections = EnginesConfig(
        model=config.model,
        rollout=config.rollout,
        rewards=config.rewards,
        seed=config.trainer.seed,
        end_tokens=inputs.loader.encoder.end_tokens,
        limits=inputs.limits,
    )
    with (
        open_run(config, title, steps, settings) as run,
        run.placed(config) as placement,
        open_engines(sections, run, placement) as engines,
    ):
        rows = {name: len(prompts) for name, prompts in inputs.sets.items()}
        write_rows_read(run.dir, left_out=len(inputs.skipped), **rows)
        run.say_each([*inputs.loader.notes, *([inputs.asked] if inputs.asked else [])])
        yield run, engines
