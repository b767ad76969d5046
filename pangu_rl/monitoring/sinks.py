"""metrics of a step -> **metrics.jsonl, TensorBoard, Weights & Biases, SwanLab**."""

from __future__ import annotations

import hashlib
import importlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from pangu_rl.config.sections.trainer import MonitoringConfig
from pangu_rl.errors import ConfigError

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
        if config.wandb_project:
            self._sinks.append(WeightsAndBiases(run_dir, config.wandb_project))
        if config.swanlab_project:
            self._sinks.append(SwanLab(run_dir, config.swanlab_project))
        if config.tensorboard:
            self._sinks.append(TensorBoard(run_dir))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for sink in self._sinks:
            sink.log(step, metrics)

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
        self._file.write(json.dumps({"step": step, **_finite(metrics)}) + "\n")
        self._file.flush()

    def amend(self, step: int, metrics: Mapping[str, float]) -> None:
        self._replace([row | _finite(metrics) if row["step"] == step else row for row in read_metrics(self.path)])

    def truncate_after(self, step: int) -> None:
        self._replace([row for row in read_metrics(self.path) if row["step"] <= step])

    def _replace(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._file.close()
        beside = self.path.with_suffix(".tmp")
        beside.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        os.replace(beside, self.path)
        self._file = self.path.open("a", encoding="utf-8")

    def close(self) -> None:
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


class WeightsAndBiases:
    """A run with an identity of its run directory, so that a resumed run goes on in the same charts."""

    def __init__(self, run_dir: Path, project: str) -> None:
        wandb = _service("wandb", "monitoring.wandb_project", key="WANDB_API_KEY", offline="WANDB_MODE")
        self._run = wandb.init(
            project=project, name=run_dir.name, id=_identity(run_dir), dir=str(run_dir), resume="allow"
        )

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step)

    amend = log

    def truncate_after(self, step: int) -> None:
        """The service keeps the first value of a step; the repeated steps are the same ones."""

    def close(self) -> None:
        self._run.finish()


class SwanLab:
    """As Weights & Biases."""

    def __init__(self, run_dir: Path, project: str) -> None:
        swanlab = _service("swanlab", "monitoring.swanlab_project", key="SWANLAB_API_KEY", offline="SWANLAB_MODE")
        self._run = swanlab.init(
            project=project,
            experiment_name=run_dir.name,
            id=_identity(run_dir),
            logdir=str(run_dir / "swanlog"),
            resume="allow",
        )

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step)

    amend = log

    def truncate_after(self, step: int) -> None:
        """The service keeps the first value of a step; the repeated steps are the same ones."""

    def close(self) -> None:
        self._run.finish()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Rows of a metrics.jsonl; a last line that a kill cut short is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("\n"):
            rows.append(json.loads(line))
    return rows


def _finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
    return {name: float(value) if math.isfinite(value) else None for name, value in metrics.items()}


def _service(name: str, option: str, *, key: str, offline: str) -> ModuleType:
    try:
        module = importlib.import_module(name)
    except ImportError:
        raise ConfigError(
            f"{option} is set but {name} is not installed: pip install {name}, or set it to null"
        ) from None
    # Without a key both services would ask for one on a terminal that nobody watches.
    if not os.environ.get(key) and os.environ.get(offline) not in ("offline", "disabled", "local"):
        raise ConfigError(
            f"{option} is set but {key} is not: export it, or {offline}=offline, or set the option to null"
        )
    return module


def _identity(run_dir: Path) -> str:
    return hashlib.sha256(str(run_dir.resolve()).encode()).hexdigest()[:21]
