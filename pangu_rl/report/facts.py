"""A run directory -> **what its own files say**: configuration, metrics, evaluations, warnings; also in progress."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pangu_rl.checkpoint.step_folders import step_folders
from pangu_rl.checkpoint.store import STATE
from pangu_rl.errors import DataError
from pangu_rl.monitoring.sinks import METRICS, read_metrics
from pangu_rl.records import Evaluation

CONFIG = "config.yaml"
EVALUATIONS = "evaluations.json"
_WARNINGS = 40
_LEVELS = (" WARNING ", " ERROR ", " CRITICAL ")
_LEVEL_WITHIN = 33
"""Characters of a line that its time and level stand in."""
_PARTICULARS = re.compile(r"\d+|'[^']*'|\"[^\"]*\"|\S*/\S*")
"""What two warnings of one kind may differ by: numbers, names, paths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What there is; a stage that leaves something out leaves it empty here."""

    name: str
    config: str
    """The resolved configuration as YAML."""
    steps: int | None
    """That the configuration asks for."""
    metrics: Sequence[Mapping[str, Any]]
    evaluations: Sequence[Evaluation]
    warnings: Sequence[str]
    """Of run.log, each kind once."""

    @property
    def step(self) -> int:
        """The last logged step."""
        return self.metrics[-1]["step"] if self.metrics else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """Where the run's time went."""

    name: str
    seconds: float
    share: float
    mean: float
    """Over the steps that have the phase: an evaluation is none of most."""
    longest: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What was trained on of one source, from the start of the stage."""

    name: str
    samples: float
    sample_share: float
    token_share: float


def read_facts(run_dir: Path) -> Facts:
    """
    Raises:
        DataError: no folder, one that no run wrote, or a metrics.jsonl that is none.
    """
    if not run_dir.is_dir():
        raise DataError(f"{run_dir}: no such run directory; it is the run_dir of a stage")
    config, metrics = run_dir / CONFIG, run_dir / METRICS
    if not config.is_file() and not metrics.is_file():
        raise DataError(f"{run_dir}: no run directory, it has neither {CONFIG} nor {METRICS}")
    text = config.read_text(encoding="utf-8") if config.is_file() else ""
    try:
        rows = read_metrics(metrics) if metrics.is_file() else []
    except ValueError as error:
        raise DataError(f"{metrics}: a line is no JSON: {error}") from None
    return Facts(
        name=run_dir.resolve().name,
        config=text,
        steps=_steps(text),
        metrics=rows,
        evaluations=_evaluations(run_dir),
        warnings=_warnings(run_dir / "run.log"),
    )


def phases(metrics: Sequence[Mapping[str, Any]]) -> list[Phase]:
    """Seconds per phase, the longest first; the checkpoint of a step is logged with the next one."""
    seconds: dict[str, list[float]] = {}
    for row in metrics:
        for name, value in row.items():
            if name.startswith("time/") and value is not None:
                seconds.setdefault(name.removeprefix("time/"), []).append(value)
    total = sum(map(sum, seconds.values())) or 1.0
    found = [
        Phase(name=n, seconds=sum(v), share=sum(v) / total, mean=sum(v) / len(v), longest=max(v))
        for n, v in seconds.items()
    ]
    return sorted(found, key=lambda phase: -phase.seconds)


def sources(metrics: Sequence[Mapping[str, Any]]) -> list[Source]:
    """By the last step's metrics, the largest share of tokens first; none of a stage that counts no samples."""
    last = metrics[-1] if metrics else {}
    names = [name.removeprefix("data/samples/") for name in last if name.startswith("data/samples/")]
    found = [
        Source(
            name=name,
            samples=last[f"data/samples/{name}"],
            sample_share=last.get(f"data/sample_share/{name}", 1.0),
            token_share=last.get(f"data/share/{name}", 1.0),
        )
        for name in names
    ]
    return sorted(found, key=lambda source: (-source.token_share, source.name))


def ranges(metrics: Sequence[Mapping[str, Any]]) -> list[tuple[str, float, float, float, float]]:
    """Name, first, last, least and greatest value of every metric, by name."""
    values: dict[str, list[float]] = {}
    for row in metrics:
        for name, value in row.items():
            if name != "step" and value is not None:
                values.setdefault(name, []).append(value)
    return [(name, found[0], found[-1], min(found), max(found)) for name, found in sorted(values.items())]


def _steps(config: str) -> int | None:
    tree = yaml.safe_load(config) or {}
    steps = (tree.get("trainer") or {}).get("steps") if isinstance(tree, dict) else None
    return steps if isinstance(steps, int) else None


def _evaluations(run_dir: Path) -> list[Evaluation]:
    """Of the finished run, else of its newest checkpoint."""
    states = [state for step in step_folders(run_dir) if (state := step / STATE).is_file()]
    if (run_dir / EVALUATIONS).is_file():
        rows = json.loads((run_dir / EVALUATIONS).read_text(encoding="utf-8"))
    elif states:
        rows = json.loads(states[-1].read_text(encoding="utf-8")).get("evaluations", [])
    else:
        rows = []
    return [Evaluation(**row) for row in rows]


def _warnings(log: Path) -> list[str]:
    """Of a run that goes on for days most repeat: each kind once, where it was said first, and how often in all."""
    if not log.is_file():
        return []
    first: dict[str, str] = {}
    times: Counter[str] = Counter()
    with log.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if any(level in line[:_LEVEL_WITHIN] for level in _LEVELS):
                kind = _PARTICULARS.sub("#", line)
                first.setdefault(kind, line.rstrip())
                times[kind] += 1
    shown = list(first.items())
    if len(shown) > _WARNINGS:
        shown = [*shown[: _WARNINGS // 2], *shown[-_WARNINGS // 2 :]]
    return [f"{line} ({times[kind]} times)" if times[kind] > 1 else line for kind, line in shown]
