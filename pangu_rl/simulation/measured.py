"""Runs that were measured: metrics and rollout store -> **the constants of the model of the step**.

Noise makes a step slower and never faster: of every run the quieter half of its steps counts, those that took the least
of what the model says. The first step warms up and is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median

import numpy as np

from pangu_rl.config.load import load_config
from pangu_rl.config.stages import GrpoConfig
from pangu_rl.errors import DataError
from pangu_rl.monitoring.sinks import METRICS, read_metrics
from pangu_rl.simulation.lengths import DrawnGroup, read_store
from pangu_rl.simulation.loop import draw_round
from pangu_rl.simulation.placements import Case, Split, learner_cost, set_up
from pangu_rl.simulation.rates import GIGA, Constants

ROUNDS = 6
"""Of fitting: the quiet steps, and the engine that ends last, depend on the constants."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredStep:
    groups: list[DrawnGroup]
    """Those drawn."""
    trained: list[DrawnGroup]
    rollout_s: float
    train_s: float
    sync_s: float
    peak_flops: float
    """What the ranks of the run reach at most, together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredRun:
    config: GrpoConfig
    steps: list[MeasuredStep]

    @property
    def split(self) -> Split:
        return Split(engines=self.config.rollout.actors, ranks=self.config.learner.ranks)

    @property
    def flat(self) -> float:
        """Share of groups that were not trained on."""
        return 1 - sum(len(step.trained) for step in self.steps) / sum(len(step.groups) for step in self.steps)


def read_run(run_dir: Path) -> MeasuredRun:
    """
    Raises:
        DataError: no run of GRPO with at least two whole steps and their rollouts.
    """
    if not (run_dir / METRICS).is_file() or not (run_dir / "config.yaml").is_file():
        raise DataError(f"{run_dir} has no {METRICS} and config.yaml: name the run directory of a GRPO run")
    config = load_config(GrpoConfig, run_dir / "config.yaml")
    if config.trainer.max_staleness:
        raise DataError(
            f"{run_dir} has trainer.max_staleness {config.trainer.max_staleness}: its phases overlap; name a run with "
            "0, which says what each of them takes"
        )
    drawn = read_store(run_dir).steps
    rows = [row for row in read_metrics(run_dir / METRICS) if "time/rollout" in row and row["step"] in drawn]
    steps = [
        MeasuredStep(
            groups=[group for group, _ in drawn[row["step"]]],
            trained=[group for group, trained in drawn[row["step"]] if trained],
            rollout_s=row["time/rollout"],
            train_s=row["time/train"],
            sync_s=row["time/sync"],
            peak_flops=1e12 * row["speed/train_tflops"] / row["speed/mfu"] if row.get("speed/mfu") else 0.0,
        )
        for row in rows[1:]
    ]
    if not steps:
        raise DataError(f"{run_dir} has {len(rows)} whole steps with rollouts, and the first warms up: two are needed")
    return MeasuredRun(config=config, steps=steps)


def fit(case: Case, runs: Sequence[MeasuredRun]) -> Case:
    """`case` with constants, and the peak of its devices, as the runs show them on its cluster."""
    peaks = [step.peak_flops for run in runs for step in run.steps if step.peak_flops]
    if peaks:
        case = replace(
            case, facts=case.facts.model_copy(update={"tflops": median(peaks) / _workers(case, runs) / 1e12})
        )
    for _ in range(ROUNDS):
        case = replace(case, constants=_refit(case, runs))
    return case


def _workers(case: Case, runs: Sequence[MeasuredRun]) -> float:
    """Devices, or cores, that the ranks of a run have."""
    if any(case.devices):
        return fmean(run.config.learner.ranks for run in runs)
    return sum(group.cpus * group.count for group in case.profile.nodes)


def _refit(case: Case, runs: Sequence[MeasuredRun]) -> Constants:
    own = [replace(case, config=run.config) for run in runs]
    step_s, sequence_s = _solve(
        own, runs, rollout_parts, (case.constants.step_s, case.constants.sequence_s), "rollout_s"
    )
    inverse, update_s = _solve(
        own, runs, train_parts, (1 / case.constants.learner_share, case.constants.update_s), "train_s"
    )
    sync_s = fmean(median(step.sync_s for step in run.steps) for run in runs)
    return replace(
        case.constants,
        step_s=max(step_s, 1e-6),
        sequence_s=sequence_s,
        learner_share=1 / max(inverse, 1e-6),
        update_s=update_s,
        sync_s=0.0,
        sync_gb_s=case.model.weight_bytes / GIGA / sync_s,
    )


Parts = Callable[[Case, MeasuredRun, MeasuredStep], tuple[float, float, float]]
"""(seconds that no unknown scales, what the first unknown multiplies, what the second does)."""


def rollout_parts(case: Case, run: MeasuredRun, step: MeasuredStep) -> tuple[float, float, float]:
    """Of the engine that ends last: (the rest, its steps, its sequences' steps)."""
    setup = set_up(case, run.split, None)
    fleet = setup.fleet()
    draw_round(setup, fleet, step.groups)
    last = max(fleet.engines, key=lambda engine: engine.now)
    known = case.constants.step_s * last.steps + case.constants.sequence_s * last.sequence_steps
    return last.now - known, last.steps, last.sequence_steps


def train_parts(case: Case, run: MeasuredRun, step: MeasuredStep) -> tuple[float, float, float]:
    """(communication, arithmetic at the device's peak, number of updates)."""
    whole = replace(case, constants=replace(case.constants, learner_share=1.0, update_s=0.0))
    cost = learner_cost(whole, run.split, None)
    quiet = replace(cost, micro_batch_s=0.0, update_s=0.0)
    arithmetic = quiet.training(step.trained).seconds
    return cost.training(step.trained).seconds - arithmetic, arithmetic, cost.mini_batches


def _solve(
    cases: Sequence[Case], runs: Sequence[MeasuredRun], parts: Parts, known: tuple[float, float], name: str
) -> tuple[float, float]:
    rows: list[tuple[float, float, float, float]] = []
    for case, run in zip(cases, runs, strict=True):
        own = [(*parts(case, run, step), getattr(step, name)) for step in run.steps]
        own.sort(key=lambda row: row[3] / max(row[0] + known[0] * row[1] + known[1] * row[2], 1e-9))
        rows += own[: (len(own) + 1) // 2]
    return non_negative(np.array(rows))


def non_negative(rows: np.ndarray) -> tuple[float, float]:
    """Least squares of [rest, a, b, seconds] rows: rest + x a + y b = seconds, neither x nor y below 0; what counts is
    a row's error as a share of its seconds."""
    target, columns = (rows[:, 3] - rows[:, 0]) / rows[:, 3], rows[:, 1:3] / rows[:, 3:]
    both = np.linalg.lstsq(columns, target, rcond=None)[0]
    if (both >= 0).all():
        return float(both[0]), float(both[1])
    alone = [max(0.0, float(column @ target / (column @ column))) for column in columns.T]
    errors = [float(((column * x - target) ** 2).sum()) for column, x in zip(columns.T, alone, strict=True)]
    return (alone[0], 0.0) if errors[0] <= errors[1] else (0.0, alone[1])
