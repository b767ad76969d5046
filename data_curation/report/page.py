"""A run of a pipeline -> **report.html**: one file without scripts or links, for a browser without a network."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from data_curation.pipeline.counted import Summary
from data_curation.report.pictures import thumbnails
from data_curation.report.samples import read_samples, text_of_row

NAME = "report.html"
BINS = 24
CHARS = 900


@dataclass(frozen=True, slots=True)
class Card:
    uid: str
    detail: str
    text: str
    pictures: list[tuple[str | None, str]]


def write_report(summary: Summary, title: str, media_root: Path | None, problem: str = "") -> Path:
    """Write the page of the run in `summary.output`; `problem` is why it ended before its end."""
    root = Path(summary.output)
    samples = read_samples(root)
    style = resources.files(__package__).joinpath("page.css").read_text(encoding="utf-8")
    environment = Environment(
        loader=PackageLoader(__package__, ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("page.html.j2").render(
        title=title,
        problem=shown(problem),
        style=Markup(style),
        # The policy names its hash: a style from anywhere else is not applied.
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        summary=summary,
        rows_in=summary.tallies[0].rows_in if summary.tallies else 0,
        histograms=[
            (tally.name, name, histogram(values))
            for tally in summary.tallies
            for name, values in tally.values.items()
            if len(set(values)) > 1
        ],
        aside={
            name: {
                reason: [card(line["row"], media_root, line["detail"]) for line in lines]
                for reason, lines in reasons.items()
            }
            for name, reasons in samples.aside.items()
        },
        pairs=[
            (card(line["row"], media_root, f"{line['operator']}: {line['detail']}"), card(row, media_root))
            for line, row in samples.pairs
        ],
        kept=[card(row, media_root) for row in samples.kept],
    )
    target, beside = root / NAME, root / f".{NAME}.partial"
    beside.write_bytes(page.encode("utf-8", "replace"))
    os.replace(beside, target)
    return target


def card(row: dict[str, Any], media_root: Path | None, detail: str = "") -> Card:
    text = shown(text_of_row(row))
    cut = text if len(text) <= CHARS else f"{text[:CHARS]} ... ({len(text):,} characters)"
    return Card(shown(str(row.get("id", ""))), shown(detail), cut, thumbnails(row, media_root))


def shown(text: str) -> str:
    """With what nobody sees, or what turns the order of signs around, made visible."""
    return "".join(sign if sign.isprintable() or sign in "\n\t" else f"\\u{ord(sign):04x}" for sign in text)


def histogram(values: Sequence[float]) -> dict[str, Any]:
    """Bars of 0 to 100, with the least and the greatest value."""
    low, high = min(values), max(values)
    counts = [0] * BINS
    for value in values:
        counts[min(BINS - 1, int((value - low) / (high - low) * BINS))] += 1
    most = max(counts)
    return {"low": low, "high": high, "bars": [100 * count / most for count in counts], "count": len(values)}
