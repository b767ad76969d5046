"""metrics and samples of a step -> **Weights & Biases, SwanLab, MLflow, trackio**: sinks of services that one installs.

Each run has an identity of its run directory, so that a resumed run goes on in the same charts. A service keeps the
first value of a step; the steps that a resumed run repeats are the same ones, so that nothing is to be forgotten.
"""

from __future__ import annotations

import hashlib
import importlib
import math
import os
import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from pangu_rl.errors import ConfigError
from pangu_rl.monitoring.live import Sample

TABLE = "rollouts"
COLUMNS = ("step", "prompt", "response", "reward")
CHARACTERS = 2000
"""Of a text in a table."""


class Tracker(Protocol):
    """A sink that has tables too."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def amend(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def truncate_after(self, step: int) -> None: ...

    def show(self, step: int, samples: Sequence[Sample]) -> None: ...

    def close(self) -> None: ...


class WeightsAndBiases:
    """Its table of a step stands beside the metrics of the step."""

    def __init__(self, run_dir: Path, project: str) -> None:
        self._wandb = _service("wandb", "monitoring.wandb_project")
        _require_key("monitoring.wandb_project", key="WANDB_API_KEY", offline="WANDB_MODE")
        self._run = self._wandb.init(
            project=project, name=run_dir.name, id=_identity(run_dir), dir=str(run_dir), resume="allow"
        )

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step)

    amend = log

    def truncate_after(self, step: int) -> None: ...

    def show(self, step: int, samples: Sequence[Sample]) -> None:
        self._run.log({TABLE: self._wandb.Table(columns=list(COLUMNS), data=_rows(step, samples))}, step=step)

    def close(self) -> None:
        self._run.finish()


class SwanLab:
    """As Weights & Biases."""

    def __init__(self, run_dir: Path, project: str) -> None:
        self._swanlab = _service("swanlab", "monitoring.swanlab_project")
        _require_key("monitoring.swanlab_project", key="SWANLAB_API_KEY", offline="SWANLAB_MODE")
        self._run = self._swanlab.init(
            project=project,
            experiment_name=run_dir.name,
            id=_identity(run_dir),
            logdir=str(run_dir / "swanlog"),
            resume="allow",
        )

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step)

    amend = log

    def truncate_after(self, step: int) -> None: ...

    def show(self, step: int, samples: Sequence[Sample]) -> None:
        table = self._swanlab.echarts.Table()
        table.add(list(COLUMNS), _rows(step, samples))
        self._run.log({TABLE: table}, step=step)

    def close(self) -> None:
        self._run.finish()


class MLflow:
    """It names its runs itself, so ours is found by a tag. A table is an artifact of its step."""

    def __init__(self, run_dir: Path, experiment: str) -> None:
        self._mlflow = _service("mlflow", "monitoring.mlflow_experiment")
        if not os.environ.get("MLFLOW_TRACKING_URI"):
            raise ConfigError(
                "monitoring.mlflow_experiment is set but MLFLOW_TRACKING_URI is not: export it, such as "
                "sqlite:///mlflow.db or the address of a server, or set the option to null"
            )
        tags = {"pangu_rl": _identity(run_dir)}
        self._mlflow.set_experiment(experiment)
        found = self._mlflow.search_runs(
            experiment_names=[experiment], filter_string=f"tags.pangu_rl = '{tags['pangu_rl']}'", output_format="list"
        )
        begun = {"run_id": found[0].info.run_id} if found else {"run_name": run_dir.name, "tags": tags}
        self._mlflow.start_run(**begun)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        named = {_mlflow_name(name): float(value) for name, value in metrics.items() if math.isfinite(value)}
        self._mlflow.log_metrics(named, step=step)

    amend = log

    def truncate_after(self, step: int) -> None: ...

    def show(self, step: int, samples: Sequence[Sample]) -> None:
        columns = zip(*_rows(step, samples), strict=True)
        table = {name: list(column) for name, column in zip(COLUMNS, columns, strict=True)}
        self._mlflow.log_table(data=table, artifact_file=f"{TABLE}/step_{step:06d}.json")

    def close(self) -> None:
        self._mlflow.end_run()


class Trackio:
    """On this machine, or where its own variables say."""

    def __init__(self, run_dir: Path, project: str) -> None:
        self._trackio = _service("trackio", "monitoring.trackio_project")
        name = f"{run_dir.name}-{_identity(run_dir)[:6]}"  # it tells runs apart by their names
        self._run = self._trackio.init(project=project, name=name, resume="allow", embed=False)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step)

    amend = log

    def truncate_after(self, step: int) -> None: ...

    def show(self, step: int, samples: Sequence[Sample]) -> None:
        table = self._trackio.Table(columns=list(COLUMNS), data=_rows(step, samples))
        self._run.log({TABLE: table}, step=step)

    def close(self) -> None:
        self._run.finish()


TRACKERS: Mapping[str, Callable[[Path, str], Tracker]] = {
    "wandb_project": WeightsAndBiases,
    "swanlab_project": SwanLab,
    "mlflow_experiment": MLflow,
    "trackio_project": Trackio,
}
"""Option of `monitoring` -> the tracker that it asks for."""


def _rows(step: int, samples: Sequence[Sample]) -> list[list[Any]]:
    """In the order of `COLUMNS`; a reward without a verdict is None."""
    return [[step, sample.prompt[:CHARACTERS], sample.response[:CHARACTERS], sample.reward] for sample in samples]


def _mlflow_name(name: str) -> str:
    """A metric's name as MLflow takes it: few signs, and a path without empty or relative parts."""
    return posixpath.normpath(re.sub(r"[^\w\-. :/]", "_", name).replace("..", "_")).lstrip("/")


def _service(name: str, option: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ConfigError(
            f"{option} is set but {name} is not installed: pip install {name}, or set it to null"
        ) from None


def _require_key(option: str, *, key: str, offline: str) -> None:
    # Without a key both services would ask for one on a terminal that nobody watches.
    if not os.environ.get(key) and os.environ.get(offline) not in ("offline", "disabled", "local"):
        raise ConfigError(
            f"{option} is set but {key} is not: export it, or {offline}=offline, or set the option to null"
        )


def _identity(run_dir: Path) -> str:
    return hashlib.sha256(str(run_dir.resolve()).encode()).hexdigest()[:21]
