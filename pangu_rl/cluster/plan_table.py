"""A `Plan` -> **what a person reads before a job is sent**: actors, devices, nodes, and what does not fit."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from pangu_rl.cluster.plan import Placed, Plan


def plan_table(plan: Plan) -> Group:
    """A table per phase; below it the devices that stay free, and the problems."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for header in ("phase", "actor", "node", "devices", "GiB per device"):
        table.add_column(header, no_wrap=True)
    table.add_row("", "driver, reward workers", plan.head, "-", "-")
    for phase in plan.phases:
        for index, placed in enumerate(phase.placed):
            table.add_row(phase.name if index == 0 else "", *_cells(placed), end_section=placed is phase.placed[-1])
    lines = [Text(f"does not fit: {problem}", style="bold red") for problem in plan.all_problems]
    return Group(table, Text(_summary(plan)), *lines)


def plan_json(plan: Plan) -> dict[str, Any]:
    return {"fits": plan.fits, "all_problems": plan.all_problems, **asdict(plan)}


def _cells(placed: Placed) -> list[str]:
    memory = placed.actor.gib_per_device
    devices = ", ".join(map(str, placed.devices)) or "-"
    return [placed.actor.name, placed.node, devices, "-" if memory is None else f"at least {memory:.1f}"]


def _summary(plan: Plan) -> str:
    used = [sum(len(placed.devices) for placed in phase.placed) for phase in plan.phases]
    if not plan.devices:
        return "no devices: the actors share the nodes' cores and memory"
    return f"{max(used, default=0)} of {plan.devices} devices are used" + (" in the widest phase" if used[1:] else "")
