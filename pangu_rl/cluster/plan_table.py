"""A `Plan` -> **what a person reads before a job is sent**: actors, devices, nodes, and what does not fit."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from pangu_rl.cluster.plan import Actor, Placed, Plan


def plan_table(plan: Plan) -> Group:
    """A table per phase; below it the devices that stay free, what the memory of learner ranks is made of, and the
    problems."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for header in ("phase", "actor", "node", "devices", "GiB per device"):
        table.add_column(header, no_wrap=True)
    table.add_row("", "driver, reward workers", plan.head, "-", "-")
    for phase in plan.phases:
        for index, placed in enumerate(phase.placed):
            table.add_row(phase.name if index == 0 else "", *_cells(placed), end_section=placed is phase.placed[-1])
    lines = [Text(f"does not fit: {problem}", style="bold red") for problem in plan.all_problems]
    return Group(table, Text(_summary(plan)), *_memory(plan), *lines)


def plan_json(plan: Plan) -> dict[str, Any]:
    return {"fits": plan.fits, "all_problems": plan.all_problems, **asdict(plan)}


def _cells(placed: Placed) -> list[str]:
    devices = ", ".join(map(str, placed.devices)) or "-"
    return [placed.actor.name, placed.node, devices, _gib(placed.actor)]


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
    used = [sum(len(placed.devices) for placed in phase.placed) for phase in plan.phases]
    if not plan.devices:
        return "no devices: the actors share the nodes' cores and memory"
    return f"{max(used, default=0)} of {plan.devices} devices are used" + (" in the widest phase" if used[1:] else "")
