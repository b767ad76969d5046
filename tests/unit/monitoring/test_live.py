"""The live view: what it shows, how it speaks to a file, and that a model's text cannot steer it."""

from __future__ import annotations

import io

from rich.console import Console

from pangu_rl.monitoring.live import LiveView, Sample, duration, number, sparkline
from pangu_rl.monitoring.phases import PhaseTimer

METRICS = {
    "reward/mean": 0.412,
    "reward/boxed_accuracy": 0.375,
    "outcome/correct": 0.375,
    "response/length_mean": 31.4,
    "train/clip_fraction_low": 0.001,
    "train/clip_fraction_high": 0.0,
    "speed/rollout_tokens_per_s": 1234.5,
    "time/rollout": 2.0,
    "time/train": 5.5,
}


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def view_on(stream, *, terminal, clock=None, width=110, height=60):
    clock = clock or Clock()
    console = Console(file=stream, force_terminal=terminal, width=width, height=height, color_system=None)
    return LiveView("grpo runs/x", 60, PhaseTimer(clock), console=console, clock=clock)


def test_without_a_terminal_a_step_is_one_line():
    stream, clock = io.StringIO(), Clock()
    with view_on(stream, terminal=False, clock=clock) as view:
        view.start_at(11)
        clock.now += 8.0
        view.update(12, METRICS)
    assert stream.getvalue().splitlines()[0] == (
        "step 12/60  reward 0.412  length 31.4  clip low 0.001  clip high 0.000  rollout tok/s 1,234"
        "  8.0 s (rollout 2.0, train 5.5)  left 6m24s"
    )
    assert stream.getvalue().count("\n") == 1


def test_the_panel_shows_metrics_phase_time_left_and_sample():
    stream, clock = io.StringIO(), Clock()
    with view_on(stream, terminal=True, clock=clock) as view:
        clock.now += 8.0
        view.update(1, METRICS, Sample(prompt="What is 2 + 3?", response="The sum is \\boxed{5}", reward=1.1))
        with view.phases.phase("train"):
            clock.now += 75
            text = rendered(view)
    for part in ("step 1/60", "0.412", "boxed_accuracy", "train for 1m15s", "left 7m52s", "reward 1.10", "\\boxed{5}"):
        assert part in text, part


WHOLE = METRICS | {
    "reward//home/me/rewards.py:drawn": 0.9,
    "outcome/no_box": 0.625,
    "heldout/accuracy": 0.71,
    "response/length_max": 64.0,
    "response/tokens": 992.0,
    "groups/zero_variance": 0.25,
    **{
        f"train/{name}": 0.5
        for name in ("loss", "grad_norm", "lr", "entropy", "logprob_diff", "ratio", "kl_old", "tokens")
    },
    "speed/train_tokens_per_s": 550.0,
    "speed/mfu": 0.4,
    "time/sync": 0.75,
}


def test_what_matters_fits_a_terminal_of_80_by_24():
    long = Sample(prompt="Question " * 60, response="word " * 400, reward=0.25)
    with view_on(io.StringIO(), terminal=True, width=80, height=24) as view:
        view.update(1, WHOLE, long)
        view.update(2, WHOLE, long)
        lines = rendered(view, width=80).splitlines()
    assert len(lines) == 23 and max(map(len, lines)) <= 80
    text = "\n".join(lines)
    for part in (
        "step 2/60",
        "reward    mean 0.412  drawn 0.900  boxed_accuracy 0.375",
        "no_box 0.625  correct 0.375",
        "accuracy 0.710",
        "length 31.4  longest 64.0",
        "loss 0.500",
        "mismatch 0.500",
        "rollout tok/s 1,234  train tok/s 550  MFU 0.400",
        "train 5.500  rollout 2.000  sync 0.750",
        "last sample, reward 0.25",
        "Question Question",
        "word word",
    ):
        assert part in text, part
    assert "kl_old" not in text
    with view_on(io.StringIO(), terminal=True, width=200, height=50) as view:
        view.update(1, WHOLE, long)
        assert "kl_old" in rendered(view, width=200)


def test_a_terminal_of_few_lines_leaves_the_sample_out():
    with view_on(io.StringIO(), terminal=True, width=80, height=14) as view:
        view.update(1, WHOLE, Sample(prompt="p", response="r", reward=1.0))
        lines = rendered(view, width=80).splitlines()
    assert len(lines) <= 13 and "last sample" not in "".join(lines)


def test_markup_and_escapes_of_a_model_stay_text():
    with view_on(io.StringIO(), terminal=True) as view:
        view.update(1, METRICS, Sample(prompt="[bold]p[/]", response="[red]x[/red] \x1b[2J\x07 [/nope]", reward=None))
        text = rendered(view)
    assert "[bold]p[/]" in text and "[red]x[/red] �[2J� [/nope]" in text and "\x07" not in text
    assert "no verdict" in text


def test_the_held_out_figure_stays_until_the_next_one():
    with view_on(io.StringIO(), terminal=True) as view:
        view.update(1, {**METRICS, "heldout/accuracy": 0.715})
        view.update(2, METRICS)
        assert "0.715" in rendered(view)


def test_small_helpers():
    assert [duration(s) for s in (0.4, 59.4, 60, 185, 7620)] == ["0s", "59s", "1m00s", "3m05s", "2h07m"]
    assert [number(v) for v in (0.0, 0.00012, 0.5, 31.44, 1234.5, float("nan"))] == [
        "0.000",
        "0.00012",
        "0.500",
        "31.4",
        "1,234",
        "-",
    ]
    assert sparkline([0, 1, 2, 7]) == "▁▂▃█"
    assert sparkline([1, 1]) == "▁▁"
    assert sparkline([float("inf"), 0, 7, float("nan")]) == "▁█"


def rendered(view, width=110):
    stream = io.StringIO()
    Console(file=stream, force_terminal=True, width=width, color_system=None).print(view._render())
    return stream.getvalue()
