"""A checked chain -> **a table: devices, GiB of a learner rank by part, cache of an engine**; the same as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from pangu_rl.loops.pipeline.check.chain import Chain
from pangu_rl.loops.pipeline.check.stage_plan import PhasePlan

PARTS = ("weights", "gradients", "optimizer", "buckets", "activations", "workspace", "host")


def chain_table(chain: Chain) -> Group:
    """A row for each phase of a stage, and how many faults there are."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), title="GiB a device", title_justify="left")
    table.add_column("stage", no_wrap=True)
    for header in ("kind", "devices", "ranks", "total", *PARTS, "engines", "weights", "cache", "sequences"):
        table.add_column(header, no_wrap=True, justify="left" if header == "kind" else "right")
    for phase in chain.phases:
        table.add_row(phase.name, *_cells(phase))
    count = len(chain.faults)
    found = "nothing stands against it" if not count else f"{count} fault{'s' if count > 1 else ''}"
    return Group(table, Text(f"planned on {chain.profile}: {found}"))


def chain_json(chain: Chain) -> dict[str, Any]:
    return {"fits": not chain.faults, **asdict(chain)}


def _cells(phase: PhasePlan) -> list[str]:
    total = sum(phase.parts.values()) - phase.parts.get("host", 0.0)
    learner = [_gib(total), *(_gib(phase.parts[part]) for part in PARTS)] if phase.parts else ["-"] * (1 + len(PARTS))
    engine = ["-", "-", "-"]
    if phase.engine is not None:
        engine = [_gib(phase.engine.weights_gib), _gib(phase.engine.cache_gib), str(phase.engine.sequences)]
    counts = [str(count) if count else "-" for count in (phase.devices, phase.ranks)]
    return [phase.kind, *counts, *learner, str(phase.engines) if phase.engines else "-", *engine]


def _gib(size: float) -> str:
    return f"{size:.1f}"
