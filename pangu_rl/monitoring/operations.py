"""A profiler's trace -> **time by operation and by kind of operation** -> `operations.csv`, `operations.png`.

Where the trace has kernels of a device, times are theirs; else they are what each operation of the host takes without
the operations inside it. An operation inside attention, a norm, the log-probs or the optimizer is of that kind: a
matrix product within attention is attention.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

OWNERS = (
    ("attention", r"attention|flash|fmha|_treeattention|softmax"),
    ("norms", r"norm"),
    ("log-probs", r"logprobs"),
    ("optimizer", r"optimizer|adam"),
    ("communication", r"c10d|all_?reduce|all_?gather|reduce_?scatter|all_?to_?all|broadcast|ccl|gloo"),
)
KINDS = (
    ("matrix products", r"(\b|_|add|b)mm(_\w*|backward\d*)?\b|matmul|linear|gemm|dot\b|conv|cutlass|xmma"),
    ("copies and gathers", r"copy|_to\b|::to\b|cat|index|gather|scatter|contiguous|clone|memcpy|embedding|repeat"),
    ("fills", r"zero|fill|ones|memset"),
    ("elementwise", r"add|mul|div|sub|neg|silu|gelu|exp|log|sum|mean|sqrt|pow|elementwise|reduce|where|cos|sin|abs"),
)
OTHER = "other"
GAPS = "between operations"
DEVICE_CATEGORIES = {"kernel", "gpu_memcpy", "gpu_memset"}
HOST_CATEGORIES = {"cpu_op", "user_annotation"}
SHOWN = 15
"""Operations in the picture."""


@dataclass(slots=True, kw_only=True)
class Operation:
    """All calls of one name that are of one kind."""

    name: str
    kind: str
    calls: int = 0
    microseconds: float = 0.0
    """Without the operations inside."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    operations: list[Operation]
    """The longest first."""
    wall: float
    """Microseconds from the first operation's start to the last one's end."""

    def share(self, microseconds: float) -> float:
        """Of the wall time; 0 of none."""
        return microseconds / self.wall if self.wall else 0.0

    def by_kind(self) -> dict[str, float]:
        """Microseconds of each kind, the longest first, and of what is left of the wall time."""
        kinds: dict[str, float] = {}
        for operation in self.operations:
            kinds[operation.kind] = kinds.get(operation.kind, 0.0) + operation.microseconds
        kinds[GAPS] = max(self.wall - sum(kinds.values()), 0.0)
        return dict(sorted(kinds.items(), key=lambda item: -item[1]))


def read_trace(path: Path) -> list[dict[str, Any]]:
    """The events of a gzipped Chrome trace, which is an object or, just as well, their array."""
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        trace = json.load(stream)
    return trace if isinstance(trace, list) else trace["traceEvents"]


def profile_of(events: Iterable[Mapping[str, Any]]) -> Profile:
    """Events of a Chrome trace -> its operations; times in microseconds."""
    spans = [event for event in events if event.get("ph") == "X"]
    on_device = [event for event in spans if event.get("cat") in DEVICE_CATEGORIES]
    chosen = on_device or [event for event in spans if event.get("cat") in HOST_CATEGORIES]
    found: dict[tuple[str, str], Operation] = {}
    for name, kind, own in _own_times(chosen):
        operation = found.setdefault((name, kind), Operation(name=name, kind=kind))
        operation.calls += 1
        operation.microseconds += own
    start = min((event["ts"] for event in chosen), default=0.0)
    end = max((event["ts"] + event["dur"] for event in chosen), default=0.0)
    return Profile(operations=sorted(found.values(), key=lambda one: -one.microseconds), wall=end - start)


def write_operations(profile: Profile, path: Path) -> None:
    """CSV: name, kind, calls, milliseconds, and the share of the wall time."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(("operation", "kind", "calls", "self_ms", "share"))
        for one in profile.operations:
            share = profile.share(one.microseconds)
            rows.writerow((one.name, one.kind, one.calls, f"{one.microseconds / 1e3:.3f}", f"{share:.4f}"))


def plot_operations(profile: Profile, path: Path, title: str) -> None:
    """Two bar charts: time by kind, and the longest operations."""
    figure = Figure(figsize=(12, 5), layout="constrained")
    figure.suptitle(f"{title}: {profile.wall / 1e6:.2f} s")
    kinds = profile.by_kind()
    colours = {kind: f"C{index}" for index, kind in enumerate(kinds)}
    by_kind = [(kind, time, colours[kind]) for kind, time in kinds.items()]
    longest = [
        (f"{_short(one.name)} ({one.calls})", one.microseconds, colours[one.kind]) for one in profile.operations[:SHOWN]
    ]
    for place, (name, rows) in enumerate((("By kind", by_kind), ("Longest operations (calls)", longest)), start=1):
        _bars(figure.add_subplot(1, 2, place), name, profile, rows)
    figure.savefig(path, dpi=120)


def _own_times(spans: Sequence[Mapping[str, Any]]) -> Iterable[tuple[str, str, float]]:
    """(name, kind, microseconds without what is inside) of every span; spans of a thread nest or follow each other."""
    threads: dict[tuple[Any, Any], list[Mapping[str, Any]]] = {}
    for span in spans:
        threads.setdefault((span.get("pid"), span.get("tid")), []).append(span)
    for own in threads.values():
        # An outer span starts no later than an inner one, and ends no earlier.
        own.sort(key=lambda span: (span["ts"], -span["dur"]))
        open_spans: list[list[Any]] = []
        for span in own:
            while open_spans and open_spans[-1][0] <= span["ts"]:
                yield tuple(open_spans.pop()[1:])
            owner = open_spans[-1][2] if open_spans and open_spans[-1][2] in dict(OWNERS) else None
            if open_spans:
                open_spans[-1][3] -= span["dur"]
            kind = owner or _kind(span["name"])
            open_spans.append([span["ts"] + span["dur"], span["name"], kind, span["dur"]])
        yield from (tuple(span[1:]) for span in reversed(open_spans))


def _kind(name: str) -> str:
    return next((kind for kind, words in (*OWNERS, *KINDS) if re.search(words, name, re.IGNORECASE)), OTHER)


def _short(name: str) -> str:
    name = name.removeprefix("autograd::engine::evaluate_function: ").removeprefix("aten::")
    return name if len(name) <= 40 else f"{name[:39]}…"


def _bars(axes: Axes, title: str, profile: Profile, rows: Sequence[tuple[str, float, str]]) -> None:
    """`rows` are (label, microseconds, colour); labels may repeat, since an operation may be of two kinds."""
    bars = axes.barh(range(len(rows)), [time / 1e3 for _, time, _ in rows], color=[colour for *_, colour in rows])
    axes.bar_label(bars, [f" {profile.share(time):.1%}" for _, time, _ in rows], fontsize=8)
    axes.set_yticks(range(len(rows)), [label for label, *_ in rows], fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set_xlabel("milliseconds")
    axes.set_title(title, fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
