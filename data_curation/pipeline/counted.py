"""What the blocks of a run counted -> **one table**: what each operator did to how many rows, and why."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table

from data_curation.pipeline.folder import Folder, read_json
from data_curation.pipeline.stages import Stage
from data_curation.pipeline.steps import Tally

KEPT_VALUES = 20_000
"""Of one name, for a histogram."""


@dataclass(slots=True)
class Summary:
    tallies: list[Tally] = field(default_factory=list)
    """One for each operator, in order; `input` is the first."""
    rows: int = 0
    """That are left."""
    output: str = ""
    processor_seconds: float = 0.0
    """Of all workers and set operators, reading and writing included."""
    peak_mib: float = 0.0
    """The most memory that a worker has held."""
    told: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Set operator -> rows of a table on all rows."""

    @property
    def errors(self) -> Counter[str]:
        return sum((tally.errors for tally in self.tallies), Counter())

    def counts(self) -> list[dict[str, Any]]:
        """Without times."""
        return [
            {
                "operator": tally.name,
                "in": tally.rows_in,
                "out": tally.rows_out,
                "dropped": dict(sorted(tally.dropped.items())),
                "errors": dict(sorted(tally.errors.items())),
                "edited": dict(sorted(tally.edited.items())),
                "annotated": tally.annotated,
                "repeated": tally.repeated,
            }
            for tally in self.tallies
        ]

    def as_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "operators": self.counts(), "output": self.output}


def summed(folder: Folder, stages: Sequence[Stage], blocks: int) -> Summary:
    """Of the blocks that are done."""
    found: dict[str, Tally] = {}
    over_all: dict[str, list[dict[str, float]]] = defaultdict(list)
    """Times of set operators, which read features in one stage and are applied in the next."""
    summary = Summary(output=str(folder.root))
    for stage in stages:
        for number in range(blocks):
            if (counted := read_json(folder.done(stage.number, number))) is None:
                continue
            for tree in counted["operators"]:
                found.setdefault(tree["name"], Tally(tree["name"])).add(tree, KEPT_VALUES)
            if stage.last:
                summary.rows += counted["rows"]
            if stage.closing is not None:
                over_all[stage.closing.name].append(counted["features"])
            summary.processor_seconds += counted["processor_seconds"]
            summary.peak_mib = max(summary.peak_mib, counted["peak_mib"])
        if stage.closing is not None and (decided := read_json(folder.decided(stage.number))) is not None:
            over_all[stage.closing.name].append(decided)
            summary.processor_seconds += decided["processor_seconds"]
            if decided["told"]:
                summary.told[stage.closing.name] = list(map(dict, decided["told"]))
    for name in over_all.keys() & found.keys():
        for times in over_all[name]:
            found[name].spend(times)
    summary.tallies = list(found.values())
    return summary


def counts_table(tallies: Iterable[Tally]) -> Table:
    """For a terminal."""
    table = Table(box=None, pad_edge=False)
    for name in ("operator", "in", "out", "dropped", "errors", "seconds", "why"):
        justify = "left" if name in ("operator", "why") else "right"
        table.add_column(name, justify=justify, overflow="fold", no_wrap=name != "why")
    for tally in tallies:
        whys = [f"{count} {reason}" for reason, count in (tally.dropped + tally.errors + tally.edited).most_common()]
        numbers = (tally.rows_in, tally.rows_out, tally.dropped.total(), tally.errors.total())
        table.add_row(tally.name, *map(str, numbers), f"{tally.seconds:.1f}", ", ".join(whys))
    return table
