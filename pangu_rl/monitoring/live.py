"""metrics of a step -> **what a person sees meanwhile**: a live panel on a terminal, one line per step elsewhere."""

from __future__ import annotations

import math
import re
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pangu_rl.monitoring.phases import PhaseTimer, Progress

_FIELDS = {
    "Reward": "reward/",
    "Answers": "outcome/",
    "Held out": "heldout/",
    "Response": "response/",
    "Groups": "groups/",
    "Training": "train/",
    "Speed": "speed/",
    "Seconds": "time/",
}
"""Title of a box -> prefix of the metrics in it, in the order of a reader's interest."""

_BRIEF = {
    "reward": "reward/mean",
    "loss": "train/loss",
    "preferred": "train/accuracy",
    "margin": "train/reward_margin",
    "held out": "heldout/accuracy",
    "length": "response/length_mean",
    "clip low": "train/clip_fraction_low",
    "clip high": "train/clip_fraction_high",
    "rollout tok/s": "speed/rollout_tokens_per_s",
    "train tok/s": "speed/train_tokens_per_s",
    "MFU": "speed/mfu",
}
"""Label -> metric of the one-line form."""

_LINES: Mapping[str, Mapping[str, str]] = {
    "reward": {"mean": "reward/mean", "": "reward/"},
    "answers": {"": "outcome/"},
    "held out": {"": "heldout/"},
    "response": {"length": "response/length_mean", "longest": "response/length_max", "cut": "response/truncated"},
    "training": {
        "loss": "train/loss",
        "nll": "train/nll",
        "preferred": "train/accuracy",
        "margin": "train/reward_margin",
        "norm": "train/grad_norm",
        "rate": "train/lr",
        "entropy": "train/entropy",
        "mismatch": "train/logprob_diff",
        "clip low": "train/clip_fraction_low",
        "high": "train/clip_fraction_high",
    },
    "speed": {
        "rollout tok/s": "speed/rollout_tokens_per_s",
        "train tok/s": "speed/train_tokens_per_s",
        "MFU": "speed/mfu",
        "waiting for data": "data/wait_share",
    },
    "seconds": {"": "time/"},
}
"""Name of a line -> label -> metric, of a terminal that has no room for all; without a label the rest of a prefix, the
greatest first."""

_BARS = "▁▂▃▄▅▆▇█"
_EXCERPT = 600
_PROMPT_LINES = 3
"""Of a sample where room is short."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A completion to look at. Its text is the model's: it is shown as it is and never read as markup."""

    prompt: str
    response: str
    reward: float | None


class LiveView:
    """Follows a run of `steps` steps; use as a context manager.

    The view writes to `console` (standard error by default, so that a command's own output stays clean). Where that is
    no terminal, or `live` is off, each step is one line.
    """

    def __init__(
        self,
        title: str,
        steps: int,
        phases: PhaseTimer,
        *,
        live: bool = True,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.title = title
        self.steps = steps
        self.phases = phases
        self.console = console or Console(stderr=True)
        self.clock = clock
        self.step = 0
        self.metrics: dict[str, float] = {}
        self.sample: Sample | None = None
        self._trend: deque[float] = deque(maxlen=60)
        self._durations: deque[float] = deque(maxlen=20)
        self._last_update = clock()
        self._progress = Progress()
        self._live = (
            Live(console=self.console, get_renderable=self._render, refresh_per_second=2, transient=True)
            if live and self.console.is_terminal
            else None
        )

    def __enter__(self) -> LiveView:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self.console.print(self._render())

    def start_at(self, step: int) -> None:
        """Steps done before this process; its own start-up is no part of a step's duration."""
        self.step = step
        self._last_update = self.clock()

    def update(self, step: int, metrics: Mapping[str, float], sample: Sample | None = None) -> None:
        """Show a finished step. What was measured less often than every step stays until it is measured again."""
        now = self.clock()
        self._durations.append(now - self._last_update)
        self._last_update = now
        self.step = step
        self.sample = sample or self.sample
        kept = {name: value for name, value in self.metrics.items() if name.startswith("heldout/")}
        self.metrics = kept | dict(metrics)
        trend = metrics.get("reward/mean", metrics.get("train/loss"))
        if trend is not None and math.isfinite(trend):
            self._trend.append(trend)
        if self._live is None:
            self.console.print(self.line(), markup=False, highlight=False, soft_wrap=True)

    def line(self) -> str:
        """The step as one line."""
        brief = [f"{label} {number(self.metrics[key])}" for label, key in _BRIEF.items() if key in self.metrics]
        phases = [f"{k.removeprefix('time/')} {v:.1f}" for k, v in self.metrics.items() if k.startswith("time/")]
        seconds = f"{self._durations[-1]:.1f} s ({', '.join(phases)})" if phases else f"{self._durations[-1]:.1f} s"
        return "  ".join([f"step {self.step}/{self.steps}", *brief, seconds, f"left {self._left()}"])

    def _left(self) -> str:
        if not self._durations:
            return "-"
        return duration(median(self._durations) * (self.steps - self.step))

    def _render(self) -> RenderableType:
        """All boxes where the terminal has room for them, else one line for each; a line is left for the cursor."""
        whole, room = self._framed(self._boxes()), self.console.size.height - 1
        if len(self.console.render_lines(whole, pad=False)) <= room:
            return whole
        return self._framed(self._lines(room - 2))

    def _framed(self, parts: list[RenderableType]) -> RenderableType:
        return Panel(Group(*parts), title=Text(self.title, style="bold"), border_style="cyan")

    def _boxes(self) -> list[RenderableType]:
        boxes = []
        for name, prefix in _FIELDS.items():
            rows = {key.removeprefix(prefix): value for key, value in self.metrics.items() if key.startswith(prefix)}
            if rows:
                boxes.append(_box(name, rows))
        parts: list[RenderableType] = [self._head(), Columns(boxes, padding=(0, 1))]
        if self.sample is not None:
            parts.append(_sample_panel(self.sample))
        return parts

    def _lines(self, room: int) -> list[RenderableType]:
        """At most `room` lines: the figures that matter, then as much of the sample as there is room for."""
        table = Table.grid(padding=(0, 2), expand=True)
        table.add_column(style="dim", no_wrap=True)
        table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        for name, wanted in _LINES.items():
            if figures := _figures(wanted, self.metrics):
                table.add_row(name, Text("  ".join(figures)))
        head = self._head()
        used = head.row_count + table.row_count
        parts: list[RenderableType] = [head, table]
        if self.sample is not None and room - used > 3:
            parts.append(_short_sample(self.sample, room - used - 2, self.console))
        return parts

    def _head(self) -> Table:
        phase = self.phases.current
        doing = f"{phase.name} for {duration(self.phases.clock() - phase.started)}" if phase else ""
        if phase and (done := self._progress.of(phase)):
            doing = f"{doing}, {done}"
        head = Table.grid(expand=True, padding=(0, 2))
        head.add_column(no_wrap=True)
        head.add_column(ratio=1)
        head.add_column(no_wrap=True)
        head.add_column(no_wrap=True, justify="right")
        head.add_row(
            Text(f"step {self.step}/{self.steps}", style="bold"),
            ProgressBar(total=self.steps, completed=self.step),
            Text(doing, style="yellow"),
            Text(f"left {self._left()}"),
        )
        if len(self._trend) > 1:
            label = "reward" if "reward/mean" in self.metrics else "loss"
            head.add_row(Text(label), Text(sparkline(list(self._trend)), style="green", overflow="crop"), "", "")
        return head


def _box(name: str, rows: Mapping[str, float]) -> RenderableType:
    table = Table.grid(padding=(0, 1))
    table.add_column(style="dim")
    table.add_column(justify="right")
    for label, value in rows.items():
        table.add_row(Text(label), number(value))
    return Panel(table, title=Text(name), title_align="left", border_style="dim")


def _figures(wanted: Mapping[str, str], metrics: Mapping[str, float]) -> list[str]:
    """Label and value of what there is of `wanted`."""
    found = [(label, metrics[name]) for label, name in wanted.items() if label and name in metrics]
    named = set(wanted.values())
    for prefix in (name for label, name in wanted.items() if not label):
        rest = {name: value for name, value in metrics.items() if name.startswith(prefix) and name not in named}
        greatest_first = sorted(rest, key=lambda name: -rest[name] if rest[name] == rest[name] else 0.0)
        # A reward function is named by its file and its own name, of which the latter tells it apart.
        found += [(re.split("[/:]", name)[-1], rest[name]) for name in greatest_first]
    return [f"{label} {number(value)}" for label, value in found]


def _sample_panel(sample: Sample) -> RenderableType:
    prompt, response = Text(_printable(sample.prompt), style="dim"), Text(_printable(sample.response))
    return _sample_frame(sample, [prompt, response])


def _short_sample(sample: Sample, lines: int, console: Console) -> RenderableType:
    """In `lines` lines, of which the prompt gets few."""
    width = console.size.width - 8  # two frames, and a space within each
    prompt = Text(_printable(sample.prompt), style="dim").wrap(console, width)[: min(_PROMPT_LINES, lines - 1)]
    response = Text(_printable(sample.response)).wrap(console, width)[: lines - len(prompt)]
    return _sample_frame(sample, [*prompt, *response])


def _sample_frame(sample: Sample, texts: Sequence[Text]) -> RenderableType:
    reward = "no verdict" if sample.reward is None else f"reward {sample.reward:.2f}"
    return Panel(Group(*texts), title=Text(f"last sample, {reward}"), title_align="left", border_style="dim")


def _printable(text: str) -> str:
    """Excerpt without control characters: a model that writes escape sequences must not steer the terminal."""
    excerpt = text if len(text) <= _EXCERPT else text[:_EXCERPT] + " ..."
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in excerpt).strip()


def number(value: float) -> str:
    """Three or four significant digits, whole numbers with separators."""
    if value != value:
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}" if 0 < abs(value) < 0.01 else f"{value:.3f}"


def duration(seconds: float) -> str:
    """`42s`, `3m05s`, `2h07m`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def sparkline(values: list[float]) -> str:
    """Values as bars between their least and their greatest."""
    values = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(values), max(values)
    span = high - low or 1.0
    return "".join(_BARS[round((value - low) / span * (len(_BARS) - 1))] for value in values)
