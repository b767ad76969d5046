"""Bar, line, pie and scatter charts of real numbers, drawn by matplotlib; numbers to be read are written in them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from random import Random
from typing import Any

from PIL import Image

from data_curation.corpus.documents.tables_data import PACKAGE, Table, tables
from data_curation.corpus.materials import Materials
from data_curation.schema import Answer, Language, Picture, Sample, Turn, boxed
from data_curation.sources.items import Split

COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#555555", "#e07b00")
CLEAR = 0.05
"""Values must differ by this share of their axis for a question that tells them apart by eye; a bar's starts at 0."""

ASK = {
    "en": {
        "value": "What is the {column} for {label}?",
        "max": "For which {corner} is the {column} highest?",
        "min": "For which {corner} is the {column} lowest?",
        "count": "How many values does the chart show?",
        "above": "How many values lie above the dashed line?",
        "difference": "By how much is the {column} for {label} higher than for {other}?",
        "slice": "Which {corner} has the largest slice?",
    },
    "zh": {
        "value": "{label} 的{column}是多少？",
        "max": "哪个{corner}的{column}最高？",
        "min": "哪个{corner}的{column}最低？",
        "count": "图中一共有多少个数值？",
        "above": "有多少个数值高于虚线？",
        "difference": "{label} 的{column}比 {other} 高多少？",
        "slice": "哪个{corner}所占的扇形最大？",
    },
}


def charts(materials: Materials, split: Split, rng: Random) -> Iterator[Sample]:
    """One question on a chart of each table in turn, as long as they are wanted."""
    found = tables(materials, split)
    while found:
        for table in rng.sample(found, len(found)):
            language: Language = rng.choices(("en", "zh"), (6, 4))[0]
            sample = _question(materials, table, language, rng)
            if sample is not None:
                yield sample


def _question(materials: Materials, table: Table, language: Language, rng: Random) -> Sample | None:
    """None for a table whose values leave this question open."""
    index = rng.randrange(len(table.columns))
    values = table.column(index)
    kind = rng.choices(("bar", "barh", "line", "pie", "scatter"), (4, 2, 3, 1, 1))[0]
    tasks = ("slice",) if kind == "pie" else ("value", "max", "min", "count", "above", "difference")
    task = rng.choice(tasks)
    spread = max(values) - min(values)
    axis = spread if kind in ("line", "scatter") else max(map(abs, values))
    if spread <= 0 or (kind == "pie" and min(values) <= 0):
        return None
    ordered = sorted(range(len(values)), key=values.__getitem__)
    label, other, threshold = rng.randrange(len(values)), rng.randrange(len(values)), None
    if task in ("max", "slice", "min"):
        label, rival = (ordered[0], ordered[1]) if task == "min" else (ordered[-1], ordered[-2])
        if abs(values[label] - values[rival]) < CLEAR * axis:
            return None
        answer = Answer(table.labels[label])
    elif task == "above":
        cut = rng.randrange(1, len(values))
        low, high = values[ordered[cut - 1]], values[ordered[cut]]
        if high - low < 2 * CLEAR * axis:
            return None
        threshold = (low + high) / 2
        answer = Answer(str(len(values) - cut), "integer")
    elif task == "count":
        answer = Answer(str(len(values)), "integer")
    elif task == "difference":
        if values[label] <= values[other]:
            return None
        answer = Answer(table.shown(values[label] - values[other]), table.answer_type)
    else:
        answer = Answer(table.shown(values[label]), table.answer_type)
    drawn = language if materials.cjk_font else "en"
    chart = _Chart(table, index, kind, drawn, task in ("value", "difference"), threshold)
    question = ASK[language][task].format(
        column=table.columns[index][language],
        label=table.labels[label],
        other=table.labels[other],
        corner=table.corner[language],
    )
    turn = Turn((Picture(chart.draw(materials, rng)), question), boxed(answer.text))
    return Sample(category="chart", origin=PACKAGE, items=(table.key,), language=language, turns=(turn,), answer=answer)


class _Chart:
    """What a chart shows, and how."""

    def __init__(
        self, table: Table, index: int, kind: str, language: Language, written: bool, threshold: float | None
    ) -> None:
        self.table, self.index, self.kind = table, index, kind
        self.language, self.written, self.threshold = language, written, threshold
        self.values = table.column(index)

    def draw(self, materials: Materials, rng: Random) -> Image.Image:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.font_manager import FontProperties

        font = (
            FontProperties(fname=materials.cjk_font) if self.language == "zh" else FontProperties(family="DejaVu Sans")
        )
        figure = Figure(figsize=(rng.uniform(4.2, 7.0), rng.uniform(3.0, 4.6)), dpi=rng.choice((72, 80, 90, 100)))
        axes = figure.subplots()
        getattr(self, f"_{self.kind}")(axes, rng)
        if self.threshold is not None:
            line = axes.axvline if self.kind == "barh" else axes.axhline
            line(self.threshold, linestyle="--", color="black", linewidth=1.2)
        axes.set_title(self.table.title[self.language], fontproperties=font, fontsize=11)
        if self.kind != "pie":
            name = self.table.columns[self.index][self.language]
            (axes.set_xlabel if self.kind == "barh" else axes.set_ylabel)(name, fontproperties=font, fontsize=10)
            if rng.random() < 0.4:
                axes.grid(axis="x" if self.kind == "barh" else "y", alpha=0.4)
        figure.tight_layout()
        buffer = io.BytesIO()
        FigureCanvasAgg(figure).print_png(buffer)
        return Image.open(buffer).convert("RGB")

    def _bar(self, axes: Any, rng: Random) -> None:
        bars = axes.bar(self.table.labels, self.values, color=self._colours(rng))
        axes.tick_params(axis="x", rotation=self._rotation(), labelsize=8)
        self._write(axes, bars)

    def _barh(self, axes: Any, rng: Random) -> None:
        bars = axes.barh(self.table.labels, self.values, color=self._colours(rng))
        axes.tick_params(axis="y", labelsize=8)
        self._write(axes, bars)

    def _write(self, axes: Any, bars: Any) -> None:
        if self.written:
            axes.bar_label(bars, labels=[self.table.shown(value) for value in self.values], fontsize=8, padding=1)
            axes.margins(**{"x" if self.kind == "barh" else "y": 0.15})

    def _line(self, axes: Any, rng: Random) -> None:
        axes.plot(self.table.labels, self.values, marker=rng.choice("os^D"), color=rng.choice(COLOURS))
        self._annotate(axes)

    def _scatter(self, axes: Any, rng: Random) -> None:
        axes.scatter(self.table.labels, self.values, marker=rng.choice("os^D"), s=50, color=rng.choice(COLOURS))
        self._annotate(axes)

    def _annotate(self, axes: Any) -> None:
        axes.tick_params(axis="x", rotation=self._rotation(), labelsize=8)
        axes.margins(y=0.2)
        if self.written:
            for place, value in enumerate(self.values):
                axes.annotate(
                    self.table.shown(value), (place, value), (0, 6), textcoords="offset points", ha="center", fontsize=8
                )

    def _pie(self, axes: Any, rng: Random) -> None:
        axes.pie(self.values, labels=self.table.labels, colors=self._colours(rng, True), textprops={"fontsize": 8})

    def _colours(self, rng: Random, many: bool = False) -> list[str]:
        if many or rng.random() < 0.3:
            return [COLOURS[place % len(COLOURS)] for place in range(len(self.values))]
        return [rng.choice(COLOURS)] * len(self.values)

    def _rotation(self) -> int:
        return 60 if sum(map(len, self.table.labels)) > 30 else 0
