"""The data card of an export for the Hugging Face hub, and the manifest of every export."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pangu_rl.config.export import ExportConfig

VERSION = 1
MANIFEST = "manifest.json"
_WHAT = {
    "raw": "Every stored completion with its tokens, log-probs, reward parts and lineage.",
    "sft": "Conversations that end with a selected completion, for supervised fine-tuning.",
    "pairs": "A chosen and a rejected response to the same prompt, for preference training (DPO, MPO).",
    "prompts": "Prompts with answers and pass rates, for reinforcement learning with verifiable rewards.",
    "iterative": "Right answers to prompts that are hard for the model, for rejection-sampling fine-tuning.",
}
_TASKS = {"prompts": "question-answering"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is written down about an export. Nothing in it depends on when or where it was made."""

    config: ExportConfig
    runs: Sequence[Mapping[str, Any]]
    counts: Mapping[str, int]
    rule: str | None
    """What decided which response is good, for the targets that compare responses."""
    rows: int
    left_out: Mapping[str, int]
    pictures: int
    columns: Mapping[str, str]


def manifest(facts: Facts, folder: Path, rows: Mapping[str, int]) -> dict[str, Any]:
    """`rows` are those of each data file. A picture's hash is its name, so pictures are only counted."""
    files = {f"data/{name}": {**_identity(folder / "data" / name), "rows": count} for name, count in rows.items()}
    if (folder / "README.md").exists():
        files["README.md"] = _identity(folder / "README.md")
    return {
        "version": VERSION,
        "pangu_rl": importlib.metadata.version("pangu-rl"),
        "to": facts.config.to,
        "format": facts.config.format,
        "rows": facts.rows,
        "pictures": facts.pictures,
        "runs": list(facts.runs),
        "filters": facts.config.filters,
        "counts": dict(facts.counts),
        **({"rule": facts.rule} if facts.rule else {}),
        "left_out": dict(facts.left_out),
        "columns": dict(facts.columns),
        "files": files,
    }


def write_manifest(folder: Path, content: Mapping[str, Any]) -> None:
    (folder / MANIFEST).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_card(folder: Path, facts: Facts) -> None:
    """README.md, whose header tells `datasets` which files to load."""
    names = ", ".join(str(run["run"]) for run in facts.runs)
    runs = [(run["run"], run["rows"], *run["steps"]) for run in facts.runs]
    header = {
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data/*.parquet"}]}],
        "size_categories": [_size_category(facts.rows)],
        "task_categories": [_TASKS.get(facts.config.to, "image-text-to-text" if facts.pictures else "text-generation")],
        "tags": ["pangu_rl", "rollouts", facts.config.to],
    }
    lines = [
        f"# {names}: {facts.config.to}",
        "",
        _WHAT[facts.config.to],
        "",
        f"{facts.rows} rows and {facts.pictures} pictures, from rollouts stored by pangu_rl. Pictures are in the rows,",
        "and beside them in `images/`, named by the SHA-256 of their content.",
        "",
        "```python",
        "from datasets import load_dataset",
        "",
        'rows = load_dataset("path/to/this/folder", split="train")',
        "```",
        "",
        "## Where the rows come from",
        "",
        *_table(("run", "rows", "first step", "last"), runs),
        "",
        "## How they were chosen",
        "",
        *([facts.rule, ""] if facts.rule else []),
        *_table(("", "rows left"), [(f"`{name}`", count) for name, count in facts.counts.items()]),
        *[f"\nLeft out, {reason}: {count}" for reason, count in facts.left_out.items()],
        "",
        "## Columns",
        "",
        *_table(("column", "type"), [(f"`{name}`", f"`{kind}`") for name, kind in facts.columns.items()]),
        "",
    ]
    text = yaml.safe_dump(header, sort_keys=False, allow_unicode=True)
    (folder / "README.md").write_text(f"---\n{text}---\n\n" + "\n".join(lines), encoding="utf-8")


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    cells = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in cells]


def _size_category(rows: int) -> str:
    """One of the hub's words for it."""
    bounds = ((1e3, "n<1K"), (1e4, "1K<n<10K"), (1e5, "10K<n<100K"), (1e6, "100K<n<1M"), (1e7, "1M<n<10M"))
    return next((word for bound, word in bounds if rows < bound), "10M<n<100M")


def _identity(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
