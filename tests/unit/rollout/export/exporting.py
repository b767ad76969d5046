"""Export in the test's process, and read what came out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pangu_rl.config.export import ExportConfig
from rollout.export.export import export


def exported(run: Path, output: Path, **options: Any) -> list[dict[str, Any]]:
    """The rows of an export; `options` as on the command line."""
    export([run], ExportConfig(**options), output)
    return rows_of(output)


def rows_of(output: Path) -> list[dict[str, Any]]:
    rows = []
    for path in sorted((output / "data").iterdir()):
        if path.suffix == ".parquet":
            rows += pq.read_table(path).to_pylist()
        else:
            rows += [json.loads(line) for line in path.open(encoding="utf-8")]
    return rows


def manifest_of(output: Path) -> dict[str, Any]:
    return json.loads((output / "manifest.json").read_text(encoding="utf-8"))


def contents(output: Path) -> dict[str, bytes]:
    return {
        path.relative_to(output).as_posix(): path.read_bytes() for path in sorted(output.rglob("*")) if path.is_file()
    }
