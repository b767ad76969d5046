"""curves.png is drawn from whatever a stage logged."""

from __future__ import annotations

import json

from pangu_rl.monitoring.plots import plot_curves, running_mean


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
