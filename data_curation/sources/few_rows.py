"""A few rows of every source of the mini-corpus, for a dry run of a whole recipe in minutes.

Writes `sft.jsonl`, `train.jsonl` and `heldout.jsonl`, whose pictures lie in the mini-corpus; `mindvl.jsonl`, the first
with the three sources that MindVL packs apart; and `report.json`. The bytes are the same every time.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

from data_curation.corpus import build
from data_curation.sources.folders import Row, whole_folder, write_report, write_rows
from pangu_rl.config.paths import resolve_path

HOME = "cache://data/few_rows"
ROWS = {"sft": 48, "train": 12, "heldout": 4}
"""Of each source."""
WEB_TO_CODE = "screenshot"
"""The source that stands for it."""


def prepare(directory: Path) -> Path:
    """Write the rows into `directory`, and make the mini-corpus if it is not there; kept if already there."""
    if (directory / "report.json").is_file():
        return directory
    corpus = build.prepare(resolve_path(build.HOME))
    splits = {name: few(corpus / f"{name}.jsonl", count) for name, count in ROWS.items()}
    splits["mindvl"] = [row | {"source": mindvl_source(row)} for row in splits["sft"]]
    with whole_folder(directory) as folder:
        for name, rows in splits.items():
            write_rows(folder / f"{name}.jsonl", rows)
        write_report(folder / "report.json", splits)
    return directory


def few(path: Path, count: int) -> list[Row]:
    """The first `count` rows of each source, in the file's order."""
    taken: defaultdict[str, int] = defaultdict(int)
    found = []
    with path.open(encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            taken[row["source"]] += 1
            if taken[row["source"]] <= count:
                found.append(row)
    return found


def mindvl_source(row: Row) -> str:
    """Multimodal, web-to-code or text."""
    if row["source"] == WEB_TO_CODE:
        return "web_to_code"
    return "multimodal" if row.get("images") else "text"
