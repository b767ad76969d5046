"""Iterative fine-tuning by rejection sampling (openPangu-VL 4.2): rounds of sample, score, select, train.

    model k --several answers to every SFT query--> scores 1-5 --> hard queries with a right answer
       ^                                                                  |
       |                                                     minus what is too like held-out prompts
       '------ SFT of model k, 1e-6 to 1e-7 <-- selected.jsonl <----------'

Each round has a folder: `samples/` (all candidates), `selected.jsonl`, `sft/` (the run that trained on them) and, when
it is over, `manifest.json`. A round with a manifest is never repeated; an unfinished one goes on where it ended.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from pangu_rl.checkpoint.model_folder import model_checksum
from pangu_rl.checkpoint.run_lock import run_lock
from pangu_rl.checkpoint.settings import claim
from pangu_rl.cluster import ray_runtime
from pangu_rl.config.load import dump_config
from pangu_rl.config.paths import resolve_path
from pangu_rl.config.sampling import IterativeConfig
from pangu_rl.data.stream import fingerprint
from pangu_rl.loops.evaluate import write_evaluations
from pangu_rl.loops.free_keys import OPERATIONAL
from pangu_rl.loops.sampling.iterative_round import Round, heldout_file, measure, run_round
from pangu_rl.loops.sampling.queries import Queries, read_queries
from pangu_rl.loops.sampling.sample import open_sampler
from pangu_rl.loops.stage_report import write_manifest
from pangu_rl.monitoring.accuracy_table import accuracy_table
from pangu_rl.monitoring.run_log import logs_refusals
from pangu_rl.records import Evaluation


@logs_refusals
def run_iterative(config: IterativeConfig) -> dict[str, Any]:
    """Run all rounds, or until one selects nothing; returns the manifest, which is also written to the run directory.

    Raises:
        UserError, RunError: see `pangu_rl.errors`. Preempted: SIGTERM came; the same command goes on.
    """
    run_dir = Path(config.trainer.run_dir)
    queries = read_queries(config)
    model = resolve_path(config.model.path)
    with run_lock(run_dir):
        claim(run_dir, _settings(config, queries, model_checksum(model)))
        (run_dir / "config.yaml").write_text(dump_config(config), encoding="utf-8")
        rounds: list[dict[str, Any]] = []
        turns = [Round(number=1, config=config, queries=queries, model=model)]
        with ray_runtime.session(config.cluster) as preemption:
            while len(rounds) < config.trainer.steps:
                rounds.append(run_round(turns[-1], preemption))
                if "model" not in rounds[-1]:
                    break
                turns.append(turns[-1].after(run_dir / rounds[-1]["model"]))
            _measure_last(turns[-1])
        return _finish(config, rounds, turns)


def _measure_last(turn: Round) -> None:
    """What the last round made is measured by a sampler of its own; every other model is, when its round begins."""
    if turn.queries.heldout and not heldout_file(turn).is_file():
        folder = Path(turn.config.trainer.run_dir) / "final"
        with open_sampler(turn.sampling_config(folder), turn.queries.loader, "Iterative, final") as sampler:
            measure(turn, sampler)


def _finish(config: IterativeConfig, rounds: Sequence[dict[str, Any]], turns: Sequence[Round]) -> dict[str, Any]:
    run_dir = Path(config.trainer.run_dir)
    files = [heldout_file(turn) for turn in turns if turn.queries.heldout]
    evaluations = [Evaluation(**json.loads(file.read_text(encoding="utf-8"))) for file in files]
    manifest = {
        "stage": "iterative",
        "made_from": {"model": config.model.path, "queries": config.data.queries, "heldout": config.data.heldout},
        "rule": config.hard.model_dump(mode="json"),
        "bad_rows": len(turns[0].queries.skipped),
        "decontamination": config.decontamination.model_dump(mode="json"),
        "rounds": list(rounds),
        "model": next((turn["model"] for turn in reversed(rounds) if "model" in turn), None),
        "heldout": {e.name: {"accuracy": e.accuracy, "items": len(e.correct)} for e in evaluations},
    }
    write_manifest(run_dir, manifest)
    if evaluations:
        write_evaluations(run_dir, evaluations)
        Console(stderr=True).print(accuracy_table(evaluations))
    return manifest


def _settings(config: IterativeConfig, queries: Queries, checksum: str) -> dict[str, Any]:
    """All that decides what the rounds do; how many there are and where they lie does not."""
    digests = queries.loader.digests
    free = {"trainer": {"run_dir", "steps", "stall_s", "checkpoint_every"}, "monitoring": True, "cluster": True}
    tree = config.model_dump(mode="json", exclude=OPERATIONAL | free | {"data": True, "model": True})
    return {
        "model": {"weights": checksum, **config.model.model_dump(mode="json", exclude={"path"})},
        "data": {
            "queries": fingerprint(queries.rows, digests),
            "heldout": fingerprint(queries.heldout, digests),
            "heldout_limit": config.data.heldout_limit,
        },
        **tree,
    }
