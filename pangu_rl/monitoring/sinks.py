"""metrics of a step -> **metrics.jsonl, TensorBoard, and the trackers that are configured**."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from pangu_rl.config.sections.trainer import MonitoringConfig
from pangu_rl.monitoring.live import Sample
from pangu_rl.monitoring.trackers import TRACKERS, Tracker
from pangu_rl.whole_file import whole_file

METRICS = "metrics.jsonl"


class Sink(Protocol):
    """Where the metrics of a step go."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def amend(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add metrics to a step that was logged without them."""

    def truncate_after(self, step: int) -> None:
        """Forget what a killed run logged after the checkpoint that this run goes on from."""

    def close(self) -> None: ...


class MetricSinks:
    """All sinks of a run; use as a context manager.

    Raises:
        ConfigError: a configured service is not installed or has no key.
    """

    def __init__(self, run_dir: Path, config: MonitoringConfig) -> None:
        run_dir = Path(run_dir)
        run_dir.mkdir(parents=True, exist_ok=True)
        self._sinks: list[Sink] = [JsonLines(run_dir / METRICS)]
        self._trackers: list[Tracker] = [
            tracker(run_dir, name) for option, tracker in TRACKERS.items() if (name := getattr(config, option))
        ]
        self._sinks += self._trackers
        if config.tensorboard:
            self._sinks.append(TensorBoard(run_dir))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for sink in self._sinks:
            sink.log(step, metrics)

    def show(self, step: int, samples: Sequence[Sample]) -> None:
        """Completions of a step to look at, where trackers have tables."""
        for tracker in self._trackers if samples else ():
            tracker.show(step, samples)

    def amend(self, step: int, metrics: Mapping[str, float]) -> None:
        for sink in self._sinks:
            sink.amend(step, metrics)

    def truncate_after(self, step: int) -> None:
        for sink in self._sinks:
            sink.truncate_after(step)

    def __enter__(self) -> MetricSinks:
        return self

    def __exit__(self, *_: object) -> None:
        for sink in self._sinks:
            sink.close()


class JsonLines:
    """One JSON object per step, flushed line by line; a value that is not finite is null."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("a", encoding="utf-8")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        try:
            self._file.write(json.dumps({"step": step, **_finite(metrics)}) + "\n")
            self._file.flush()
        except OSError as error:
            error.filename = str(self.path)  # a write does not say where
            raise

    def amend(self, step: int, metrics: Mapping[str, float]) -> None:
        self._replace([row | _finite(metrics) if row["step"] == step else row for row in read_metrics(self.path)])

    def truncate_after(self, step: int) -> None:
        self._replace([row for row in read_metrics(self.path) if row["step"] <= step])

    def _replace(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._file.close()
        with whole_file(self.path) as partial:
            partial.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        self._file = self.path.open("a", encoding="utf-8")

    def close(self) -> None:
        with suppress(OSError):  # of a line that `log` has raised for
            self._file.close()


class TensorBoard:
    """Event files in the run directory."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self._writer: Any = None
        self._purge_step: int | None = None

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.run_dir), purge_step=self._purge_step)
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    amend = log

    def truncate_after(self, step: int) -> None:
        # TensorBoard's own way: the next event file says from which step on the earlier ones are void.
        self._purge_step = step + 1

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Rows of a metrics.jsonl; a last line that a kill cut short is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("\n"):
            rows.append(json.loads(line))
    return rows


def _finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
    return {name: float(value) if math.isfinite(value) else None for name, value in metrics.items()}
