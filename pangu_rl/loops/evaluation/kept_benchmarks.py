"""Answers to one benchmark -> **a file that appears when all of them are scored**, for the same command to go on from.

answers --------> benchmarks/<name>.json : what was asked of which model, each answer, verdicts, the figure
the same command --> read                   another benchmark's answers are not drawn twice
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pangu_rl.checkpoint.settings import first_difference, write_whole
from pangu_rl.config.evaluation import EvalConfig
from pangu_rl.config.paths import resolve_path
from pangu_rl.data.stream import fingerprint
from pangu_rl.errors import ConfigError
from pangu_rl.loops.begun_with import model_digests
from pangu_rl.loops.evaluation.benchmark_inputs import BenchmarkSet
from pangu_rl.loops.free_keys import OPERATIONAL
from pangu_rl.records import Evaluation

FOLDER = "benchmarks"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptBenchmark:
    """A benchmark that is done."""

    answers: list[dict[str, Any]]
    """Rows of `answers.jsonl`."""
    evaluation: Evaluation
    result: dict[str, Any]
    """What `benchmarks.json` has of it."""


def run_settings(config: EvalConfig) -> dict[str, Any]:
    """What decides the answers to every benchmark, and what a run directory belongs to."""
    model = model_digests(resolve_path(config.model.path), config.model.chat_template)
    return {
        "model": config.model.model_dump(mode="json", exclude={"path"}) | model,
        **config.model_dump(mode="json", include={"rollout", "rewards", "stop"}, exclude=OPERATIONAL),
        "trainer": {"seed": config.trainer.seed},
    }


def benchmark_settings(one: BenchmarkSet, digests: Mapping[str, str]) -> dict[str, Any]:
    """What decides the answers to it beside these, and its figure."""
    return {
        "rows": fingerprint(one.rows.prompts, digests),
        "left_out": len(one.rows.left_out),
        "pixels": None if one.limits is None else dataclasses.asdict(one.limits),
        "definition": one.definition.model_dump(mode="json"),
    }


def keep(run_dir: Path, name: str, settings: Mapping[str, Any], done: KeptBenchmark) -> None:
    path = _path(run_dir, name)
    path.parent.mkdir(exist_ok=True)
    write_whole(path, json.dumps({"settings": settings, **dataclasses.asdict(done)}, ensure_ascii=False))


def kept(run_dir: Path, name: str, settings: Mapping[str, Any]) -> KeptBenchmark | None:
    """What an earlier start has done; None of a benchmark that is yet to be asked.

    Raises:
        ConfigError: it was done with other settings; names the first that differs, with both values.
    """
    path = _path(run_dir, name)
    if not path.is_file():
        return None
    tree = json.loads(path.read_text(encoding="utf-8"))
    if (difference := first_difference(tree["settings"], settings)) is not None:
        key, was, is_now = difference
        raise ConfigError(
            f"{path}: benchmark {name} was answered with {key} {was}, now it is {is_now}: set it back, remove the file "
            "to ask it again, or another run_dir"
        )
    return KeptBenchmark(answers=tree["answers"], evaluation=Evaluation(**tree["evaluation"]), result=tree["result"])


def _path(run_dir: Path, name: str) -> Path:
    return run_dir / FOLDER / f"{quote(name, safe='')}.json"
