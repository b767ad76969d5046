"""Metrics reach every sink, and a resumed run repeats no step in them."""

from __future__ import annotations

import json
import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from pangu_rl.config.sections.trainer import MonitoringConfig
from pangu_rl.errors import ConfigError
from pangu_rl.monitoring.live import Sample
from pangu_rl.monitoring.sinks import MetricSinks, read_metrics
from pangu_rl.monitoring.trackers import CHARACTERS

QUIET = MonitoringConfig(tensorboard=False)


def test_each_step_is_a_line_on_disk_at_once(tmp_path):
    with MetricSinks(tmp_path, QUIET) as sinks:
        sinks.log(1, {"reward/mean": 0.5, "train/entropy": math.nan, "time/sync": np.float32(0.25)})
        text = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(text) == {"step": 1, "reward/mean": 0.5, "train/entropy": None, "time/sync": 0.25}


def test_resume_forgets_later_steps_and_a_line_cut_short(tmp_path):
    with MetricSinks(tmp_path, QUIET) as sinks:
        for step in (1, 2, 3):
            sinks.log(step, {"reward/mean": step / 10})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "rew')
    with MetricSinks(tmp_path, QUIET) as sinks:
        sinks.truncate_after(2)
        sinks.log(3, {"reward/mean": 0.9})
    assert [(row["step"], row["reward/mean"]) for row in read_metrics(tmp_path / "metrics.jsonl")] == [
        (1, 0.1),
        (2, 0.2),
        (3, 0.9),
    ]


def test_tensorboard_shows_the_resumed_values(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = MonitoringConfig(tensorboard=True)
    with MetricSinks(tmp_path, config) as sinks:
        for step in (1, 2, 3):
            sinks.log(step, {"reward/mean": 0.1})
    with MetricSinks(tmp_path, config) as sinks:
        sinks.truncate_after(1)
        sinks.log(2, {"reward/mean": 0.75})
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(event.step, round(event.value, 3)) for event in events.Scalars("reward/mean")] == [(1, 0.1), (2, 0.75)]


def test_a_step_that_was_logged_without_a_metric_gets_it(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with MetricSinks(tmp_path, MonitoringConfig(tensorboard=True)) as sinks:
        for step in (1, 2):
            sinks.log(step, {"reward/mean": math.nan})
        sinks.amend(2, {"heldout/accuracy": 0.5})
        sinks.log(3, {"reward/mean": 0.25})
    assert read_metrics(tmp_path / "metrics.jsonl") == [
        {"step": 1, "reward/mean": None},
        {"step": 2, "reward/mean": None, "heldout/accuracy": 0.5},
        {"step": 3, "reward/mean": 0.25},
    ]
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("heldout/accuracy")] == [(2, 0.5)]


@pytest.mark.parametrize("option", ["wandb_project", "swanlab_project", "mlflow_experiment", "trackio_project"])
def test_a_service_that_is_not_installed_is_one_clear_line(tmp_path, monkeypatch, option):
    name = option.partition("_")[0]
    monkeypatch.setitem(sys.modules, name, None)
    config = MonitoringConfig(tensorboard=False, **{option: "p"})
    with pytest.raises(ConfigError, match=f"monitoring.{option} is set but {name} is not installed: pip install"):
        MetricSinks(tmp_path, config)


@pytest.mark.parametrize("name", ["wandb", "swanlab"])
def test_a_service_gets_its_run_and_its_steps(tmp_path, monkeypatch, name):
    started, logged, finished = [], [], []
    run = SimpleNamespace(
        log=lambda metrics, step: logged.append((step, metrics)), finish=lambda: finished.append(True)
    )
    monkeypatch.setitem(sys.modules, name, SimpleNamespace(init=lambda **kwargs: started.append(kwargs) or run))
    config = MonitoringConfig(tensorboard=False, **{f"{name}_project": "p"})
    monkeypatch.delenv(f"{name.upper()}_API_KEY", raising=False)
    with pytest.raises(ConfigError, match=f"{name.upper()}_API_KEY is not: export it"):
        MetricSinks(tmp_path, config)
    monkeypatch.setenv(f"{name.upper()}_API_KEY", "k")
    for _ in range(2):
        with MetricSinks(tmp_path, config) as sinks:
            sinks.log(1, {"reward/mean": 0.5})
    assert [start["project"] for start in started] == ["p", "p"]
    assert started[0]["id"] == started[1]["id"] and len(started[0]["id"]) == 21
    assert "k" not in started[0].values()
    assert logged == [(1, {"reward/mean": 0.5})] * 2
    assert finished == [True, True]


SAMPLES = [
    Sample(prompt="2 + 2?", response="4" * (CHARACTERS + 1), reward=1.0),
    Sample(prompt="3 + 3?", response="<b>", reward=None),
]
ROWS = [[7, "2 + 2?", "4" * CHARACTERS, 1.0], [7, "3 + 3?", "<b>", None]]


def test_mlflow_goes_on_in_the_run_of_its_tag(tmp_path, monkeypatch):
    """A stand-in of MLflow's functions; a metric's name becomes one that MLflow takes, a path without empty parts."""
    calls, runs = [], []

    def start_run(**begun):
        calls.append(begun)
        runs.append(SimpleNamespace(info=SimpleNamespace(run_id="r1")))

    mlflow = SimpleNamespace(
        set_experiment=lambda name: calls.append(name),
        search_runs=lambda experiment_names, filter_string, output_format: list(runs),
        start_run=start_run,
        log_metrics=lambda metrics, step: calls.append((step, metrics)),
        log_table=lambda data, artifact_file: calls.append((artifact_file, data)),
        end_run=lambda: calls.append("end"),
    )
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    config = MonitoringConfig(tensorboard=False, mlflow_experiment="e")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ConfigError, match=r"monitoring\.mlflow_experiment is set but MLFLOW_TRACKING_URI is not"):
        MetricSinks(tmp_path, config)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///x.db")
    for _ in range(2):
        with MetricSinks(tmp_path, config) as sinks:
            sinks.log(7, {"reward//my/../r.py:short@2": 0.5, "train/loss": math.nan})
            sinks.show(7, SAMPLES)
            sinks.show(7, [])
    first, second = calls[1], calls[6]
    assert first["run_name"] == tmp_path.name and len(first["tags"]["pangu_rl"]) == 21 and second == {"run_id": "r1"}
    assert calls[2] == (7, {"reward/my/_/r.py:short_2": 0.5})
    columns = {
        "step": [7, 7],
        "prompt": ["2 + 2?", "3 + 3?"],
        "response": ["4" * CHARACTERS, "<b>"],
        "reward": [1.0, None],
    }
    assert calls[3] == ("rollouts/step_000007.json", columns)
    assert calls[4] == "end" and len(calls) == 10


@pytest.mark.parametrize("name", ["wandb", "trackio", "swanlab"])
def test_tables_of_rollouts_stand_beside_the_metrics_of_their_step(tmp_path, monkeypatch, name):
    logged, started = [], []

    class Table:
        def __init__(self, columns=(), data=()):
            self.add(columns, data)

        def add(self, headers, rows):
            self.headers, self.rows = headers, rows

    run = SimpleNamespace(log=lambda metrics, step: logged.append((step, metrics)), finish=lambda: None)
    service = SimpleNamespace(
        init=lambda **begun: started.append(begun) or run, Table=Table, echarts=SimpleNamespace(Table=Table)
    )
    monkeypatch.setitem(sys.modules, name, service)
    monkeypatch.setenv(f"{name.upper()}_API_KEY", "k")
    with MetricSinks(tmp_path, MonitoringConfig(tensorboard=False, **{f"{name}_project": "p"})) as sinks:
        sinks.log(7, {"reward/mean": 0.5})
        sinks.show(7, SAMPLES)
    assert started[0]["project"] == "p" and started[0]["resume"] == "allow"
    (_, metrics), (step, table) = logged
    assert metrics == {"reward/mean": 0.5} and step == 7
    assert table["rollouts"].headers == ["step", "prompt", "response", "reward"] and table["rollouts"].rows == ROWS
