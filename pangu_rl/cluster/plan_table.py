"""A `Plan` -> **what a person reads before a job is sent**: actors, devices, nodes, and what does not fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from pangu_rl.cluster.demand import ROLES, SCORER, Actor, span
from pangu_rl.cluster.plan import STRATEGY, Phase, Placed, Plan, asked


def plan_table(plan: Plan) -> Group:
    """A row for each run of actors that are alike, what Ray is asked for below it, what the memory of learner ranks is
    made of, and the problems."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for header in ("phase", "actor", "node", "bundle", "asks for", "GiB per device"):
        table.add_column(header, no_wrap=True)
    table.add_row("", "driver", plan.head, "-", "-", "-")
    for phase in plan.phases:
        alike = _alike(phase)
        for index, run in enumerate(alike):
            cells = _cells(run, phase, plan.resource)
            table.add_row(phase.name if index == 0 else "", *cells, end_section=run is alike[-1])
    lines = [Text(f"does not fit: {problem}", style="bold red") for problem in plan.all_problems]
    return Group(table, Text(_summary(plan)), *_memory(plan), *lines)


def plan_json(plan: Plan) -> dict[str, Any]:
    """The plan, with `asked`: of each phase the placement group that Ray will be asked for."""
    groups = [{"strategy": STRATEGY, "bundles": asked(phase, plan.resource)} for phase in plan.phases]
    return {"fits": plan.fits, "all_problems": plan.all_problems, **asdict(plan), "asked": groups}


def _alike(phase: Phase) -> list[list[Placed]]:
    """Neighbours of one role, node and number of devices; sixteen ranks of a node are one row."""

    def kind(placed: Placed) -> tuple[Any, ...]:
        actor = placed.actor
        name = actor.name if actor.role == SCORER else actor.role
        return name, placed.node, placed.bundle is None, actor.devices, actor.shares

    by_role = sorted(phase.placed, key=lambda placed: ROLES.index(placed.actor.role))
    return [list(run) for _, run in groupby(by_role, key=kind)]


def _cells(run: Sequence[Placed], phase: Phase, resource: str | None) -> list[str]:
    first, actor = run[0], run[0].actor
    bundles, asks = "-", "-"
    if first.bundle is not None:
        bundles = _range([placed.bundle for placed in run])
        asks = f"{actor.devices} {resource}{' each' if run[1:] else ''}"
        if actor.shares:
            asks = f"shares {asks}"
    return [span([placed.actor for placed in run]), first.node, bundles, asks, _gib(actor)]


def _range(numbers: Sequence[int]) -> str:
    return str(numbers[0]) if numbers[0] == numbers[-1] else f"{numbers[0]}-{numbers[-1]}"


def _gib(actor: Actor) -> str:
    if actor.gib_per_device is None:
        return "-"
    return f"{'about' if actor.parts else 'at least'} {actor.gib_per_device:.1f}"


def _memory(plan: Plan) -> list[Table]:
    """GiB of a learner rank by part, a row for each phase with an estimate."""
    ranks = {phase.name: placed.actor for phase in plan.phases for placed in phase.placed if placed.actor.parts}
    if not ranks:
        return []
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), title="GiB of a learner rank", title_justify="left")
    names = list(next(iter(ranks.values())).parts)
    for header in ("phase", *names):
        table.add_column(header, no_wrap=True, justify="left" if header == "phase" else "right")
    for phase, actor in ranks.items():
        table.add_row(phase, *(f"{size:.1f}" for size in actor.parts.values()))
    return [table]


def _summary(plan: Plan) -> str:
    used = [phase.devices for phase in plan.phases]
    if not plan.devices:
        return "no devices: the actors share the nodes' cores and memory"
    widest = " in the widest phase" if used[1:] else ""
    return (
        f"{max(used, default=0)} of {plan.devices} devices are used{widest}; Ray is asked for one placement group "
        f"({STRATEGY}) a phase, each bundle on its node"
    )
