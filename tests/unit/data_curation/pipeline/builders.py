"""Small pipelines for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pangu_rl.config.curate import CurateConfig
from pangu_rl.config.load import checked

OWN = Path(__file__).with_name("own_operators.py")


def own(name: str, **args: Any) -> dict[str, Any]:
    return {"name": f"{OWN}:{name}", "args": args}


def write_jsonl(path: Path, rows: list[Any]) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def numbered(path: Path, count: int) -> Path:
    """Rows with n = 0, 1, 2, ..."""
    return write_jsonl(path, [{"id": f"r{n}", "n": n} for n in range(count)])


def pipeline(source: Path, output: Path, operators: list[Any], **more: Any) -> CurateConfig:
    """Shards of about ten numbered rows."""
    listed = [{"name": one} if isinstance(one, str) else one for one in operators]
    tree = {"input": [str(source)], "output": str(output), "operators": listed, "shard_mib": 200 / 2**20}
    return checked(CurateConfig, tree | more, "test")


def lines_of(folder: Path) -> list[dict[str, Any]]:
    """Of all shards in order."""
    return [json.loads(line) for file in sorted(folder.glob("*.jsonl")) for line in file.read_text().splitlines()]


def contents(output: Path) -> dict[str, bytes]:
    """What equal runs have equal: rows, side files, manifest."""
    files = [*output.glob("rows/*"), *output.glob("dropped/*"), output / "curation.json"]
    return {file.relative_to(output).as_posix(): file.read_bytes() for file in files}
