"""Which metrics are drawn together: **the table of panels** that pictures, the report and the viewer share.

A metric that no panel names is in `metrics.jsonl` and in the report's table of all.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes: its title, its unit, the metrics drawn (label -> name), and what to do with them."""

    title: str
    unit: str
    curves: Mapping[str, str]
    smooth: bool = False
    """Draw the raw curve pale and a running mean over it."""
    zero: bool = False
    """Start the axis at 0."""
    legend: bool = False
    """Name also a single curve."""
    stacked: bool = False
    """Bars over each other: shares of a whole."""


PANELS: Mapping[str, tuple[Panel, ...]] = {
    "Results": (
        Panel("Reward", "mean per completion", {"reward": "reward/mean"}, smooth=True),
        Panel("Held-out accuracy", "share of prompts", {"accuracy": "heldout/accuracy"}),
    ),
    "Preferences": (
        Panel("Preferred response", "share of pairs", {"more likely than before": "train/accuracy"}, zero=True),
        Panel("Preference margin", "implicit reward", {"margin": "train/reward_margin"}, smooth=True),
        Panel(
            "Implicit rewards",
            "beta times log-ratio to the start",
            {"chosen": "train/reward_chosen", "rejected": "train/reward_rejected"},
        ),
    ),
    "Responses": (
        Panel(
            "Response length", "tokens", {"mean": "response/length_mean", "longest": "response/length_max"}, zero=True
        ),
        Panel(
            "Shares",
            "share",
            {"truncated": "response/truncated", "groups without variance": "groups/zero_variance"},
            zero=True,
        ),
        Panel("Entropy", "nats per token", {"entropy": "train/entropy"}, zero=True),
    ),
    "Training": (
        Panel("Loss", "of the objective", {"loss": "train/loss"}, smooth=True),
        Panel("Negative log-likelihood", "nats per token", {"nll": "train/nll"}, smooth=True),
        Panel("Learning rate", "", {"language": "train/lr", "encoder": "train/lr_encoder"}, zero=True),
        Panel("Gradient norm", "before clipping", {"norm": "train/grad_norm"}, zero=True),
        Panel(
            "Clip fractions",
            "share of tokens",
            {"low": "train/clip_fraction_low", "high": "train/clip_fraction_high"},
            zero=True,
        ),
        Panel(
            "Sampler against learner",
            "mean |log-prob difference|, nats",
            {"mismatch": "train/logprob_diff"},
            zero=True,
        ),
    ),
    "Time": (
        Panel(
            "Throughput",
            "tokens/s",
            {"rollout": "speed/rollout_tokens_per_s", "training": "speed/train_tokens_per_s"},
            zero=True,
        ),
        Panel("Model FLOPs utilisation", "share of the peak", {"MFU": "speed/mfu"}, zero=True),
        Panel("Waiting for data", "share of training", {"waiting": "data/wait_share"}, zero=True),
    ),
}
"""Section -> its panels, in the order of a reader's interest."""

FAMILIES = (
    ("Results", Panel("Reward parts", "mean per completion", {}, zero=True, legend=True), "reward/"),
    ("Results", Panel("Answers", "share of completions", {}, zero=True, legend=True), "outcome/"),
    ("Time", Panel("Time per phase", "seconds per step", {}, zero=True, legend=True, stacked=True), "time/"),
)
"""Section, panel and prefix, of panels that draw every metric under the prefix."""


def panels_of(present: Collection[str]) -> dict[str, list[Panel]]:
    """Section -> the panels that have something to draw of the metrics `present`, with the curves that they have."""
    found: dict[str, list[Panel]] = {}
    for section, panels in PANELS.items():
        of_section = [_with(panel, panel.curves, present) for panel in panels]
        for where, panel, prefix in FAMILIES:
            if where == section:
                names = {name.removeprefix(prefix): name for name in sorted(present) if name.startswith(prefix)}
                of_section.append(_with(panel, names, set(present) - {"reward/mean"}))
        if shown := [panel for panel in of_section if panel.curves]:
            found[section] = shown
    return found


def _with(panel: Panel, curves: Mapping[str, str], present: Collection[str]) -> Panel:
    shown = {label: name for label, name in curves.items() if name in present}
    return Panel(panel.title, panel.unit, shown, panel.smooth, panel.zero, panel.legend, panel.stacked)
