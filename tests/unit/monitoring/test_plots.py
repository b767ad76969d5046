"""curves.png is drawn from whatever a stage logged."""

from __future__ import annotations

import json

from pangu_rl.monitoring.panels import panels_of
from pangu_rl.monitoring.plots import panels, plot_curves, running_mean


def write(run_dir, rows):
    (run_dir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_picture_of_a_run(tmp_path):
    write(
        tmp_path, [{"step": s, "reward/mean": s / 10, "train/entropy": None, "time/train": 1.0} for s in range(1, 20)]
    )
    path = plot_curves(tmp_path)
    assert path == tmp_path / "curves.png"
    assert path.read_bytes().startswith(b"\x89PNG")


def test_nothing_to_draw_is_no_picture(tmp_path):
    write(tmp_path, [{"step": 1, "unknown": 1.0}])
    assert plot_curves(tmp_path) is None


def test_running_mean():
    assert running_mean([1.0, 3.0, 5.0, 7.0], width=2) == [1.0, 2.0, 4.0, 6.0]


def test_every_stage_has_its_loss_rate_and_norm_under_their_own_names():
    sft = {"train/loss", "train/nll", "train/lr", "train/grad_norm", "data/wait_share", "train/fallback_ops"}
    shown = {panel.title: panel.curves for found in panels_of(sft).values() for panel in found}
    assert shown == {
        "Loss": {"loss": "train/loss"},
        "Negative log-likelihood": {"nll": "train/nll"},
        "Learning rate": {"language": "train/lr"},
        "Gradient norm": {"norm": "train/grad_norm"},
        "Waiting for data": {"waiting": "data/wait_share"},
    }
    dpo = panels_of({"train/accuracy", "train/reward_margin", "train/reward_chosen", "train/reward_rejected"})
    assert [panel.title for panel in dpo["Preferences"]] == [
        "Preferred response",
        "Preference margin",
        "Implicit rewards",
    ]


def test_families_take_all_names_under_their_prefix():
    found = panels_of({"reward/mean", "reward/a", "reward/b", "time/train"})
    assert {panel.title: panel.curves for section in found.values() for panel in section} == {
        "Reward": {"reward": "reward/mean"},
        "Reward parts": {"a": "reward/a", "b": "reward/b"},
        "Time per phase": {"train": "time/train"},
    }
    assert "Reward parts" not in {panel.title for panel in panels_of({"reward/mean"})["Results"]}


def test_a_metric_that_is_never_a_number_has_no_panel():
    assert panels([{"step": 1, "train/entropy": None, "train/loss": 1.0}]).keys() == {"Training"}
