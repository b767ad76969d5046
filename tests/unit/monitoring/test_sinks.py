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
from pangu_rl.monitoring.sinks import MetricSinks, read_metrics

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


@pytest.mark.parametrize("name", ["wandb", "swanlab"])
def test_a_service_that_is_not_installed_is_one_clear_line(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    config = MonitoringConfig(tensorboard=False, **{f"{name}_project": "p"})
    with pytest.raises(ConfigError, match=f"monitoring.{name}_project is set but {name} is not installed: pip install"):
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
