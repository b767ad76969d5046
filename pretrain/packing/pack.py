"""`pangu-rl pack`: a file of sizes -> **the plan of a stage**, and what became of the samples."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from pangu_rl.config.sections.packing import PackingConfig
from pretrain.packing.metadata import read_metadata
from pretrain.packing.plan import Plan, make_plan
from pretrain.packing.plan_file import REST, write_plan

NAMED = 3
"""Samples of each reason that the notes name; all are in the plan's list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What the command says at its end."""

    output: Path
    manifest: dict[str, Any]
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        per_rank = self.manifest["packs"] // self.manifest["settings"]["ranks"]
        figures = ("fill", "visual_imbalance", "steps", "packs", "packs_carried_over", "samples", "samples_left_out")
        return {
            **{name: self.manifest[name] for name in figures},
            "packs_per_rank_max": per_rank,
            "packs_per_rank_min": per_rank,
            "seconds": round(self.seconds, 3),
            "output": str(self.output),
        }

    def __str__(self) -> str:
        found = self.as_dict()
        return (
            f"{self.output}: {found['samples']} samples in {found['packs']} packs, {found['steps']} steps, in "
            f"{self.seconds:.1f} s; fill {found['fill']:.2%}, visual imbalance {found['visual_imbalance']:.4f}"
        )


def pack_file(metadata_path: Path, output: Path, config: PackingConfig) -> Summary:
    """Plan `metadata_path` into the folder `output`; notes on stderr name what is left out.

    Raises:
        DataError, ConfigError: as `read_metadata`, `make_plan` and `write_plan` do.
    """
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    started = time.perf_counter()
    with console.status("reading the metadata") as status:
        metadata = read_metadata(metadata_path, config)
        status.update(f"packing {len(metadata)} samples")
        plan = make_plan(metadata, config, workers=len(os.sched_getaffinity(0)))
        status.update("writing the plan")
        manifest = write_plan(output, plan, metadata, config)
    for note in _notes(plan, metadata.ids.take(plan.left_out).to_pylist(), manifest):
        console.print(note, markup=False)
    return Summary(output=output, manifest=manifest, seconds=time.perf_counter() - started)


def _notes(plan: Plan, left_out: list[str | int], manifest: dict[str, Any]) -> list[str]:
    notes = []
    for number, (reason, count) in enumerate(manifest["samples_left_out"].items()):
        if count:
            some = [name for name, why in zip(left_out, plan.reasons, strict=True) if why == number][:NAMED]
            more = f" and {count - len(some)} more, all in {REST}" if count > len(some) else ""
            notes.append(f"left out, {reason}: {', '.join(map(repr, some))}{more}")
    if not plan.packs:
        ranks = manifest["settings"]["ranks"]
        notes.append(f"no step: {plan.carried_over} packs for {ranks} ranks; use fewer ranks or a shorter context")
    return notes
