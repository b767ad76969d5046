"""`pangu-rl curate --config`: rows -> **stage after stage, block by block** -> shards, side files, report.

    examine input -> for each stage: blocks over Ray Data -> a set operator decides -> next stage -> manifest

What is done is not done again: a run that was killed goes on, and one whose settings changed begins at the first
operator that is another one.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xxhash

from data_curation.pipeline.blocks import Block, InputFile, examine_all
from data_curation.pipeline.changes import first_change
from data_curation.pipeline.counted import Summary, summed
from data_curation.pipeline.decide import decide
from data_curation.pipeline.doubled_ids import number_doubled_ids
from data_curation.pipeline.folder import MANIFEST, PLAN, Folder, read_json, write_json
from data_curation.pipeline.guarded import end_child
from data_curation.pipeline.operator import Operator
from data_curation.pipeline.registry import resolve_all
from data_curation.pipeline.retried import forget_errors
from data_curation.pipeline.stages import VERSION, Stage, digests, stages_of
from data_curation.pipeline.work import StageTask, make_work
from data_curation.report.page import write_report
from pangu_rl.cluster.ranges import tables_of
from pangu_rl.config.curate import CurateConfig
from pangu_rl.config.paths import is_address, resolve_path
from pangu_rl.data.index.files import row_files
from pangu_rl.errors import DataError, RunError
from pangu_rl.storage.copies import bring
from pangu_rl.storage.file_lock import lock

if TYPE_CHECKING:
    from pangu_rl.cluster.ray_runtime import Preemption

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is made of."""

    config: CurateConfig
    folder: Folder
    operators: tuple[Operator, ...]
    stages: tuple[Stage, ...]
    files: tuple[InputFile, ...]

    @property
    def blocks(self) -> list[tuple[int, Block]]:
        return list(enumerate(block for file in self.files for block in file.blocks))

    @property
    def media_root(self) -> Path | None:
        return resolve_path(self.config.media_root).absolute() if self.config.media_root else None

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)


def run_pipeline(config: CurateConfig, tell: Tell = lambda line: None) -> Summary:
    """Run it to its end; `tell` gets a line for each stage and for what is computed again.

    Raises:
        ConfigError: an operator that cannot be used. DataError: input that cannot be read, another run in the folder.
        RunError: more errors than `max_error_rate`, a worker that died, a disk that is full.
    """
    plan = planned(config)
    try:
        with _alone(plan.folder.root):
            return _run(plan, tell)
    except OSError as error:
        raise RunError(f"{error.filename or plan.folder.root}: {error.strerror or error}") from None
    finally:
        end_child()


def planned(config: CurateConfig) -> Plan:
    """Operators resolved and input examined; nothing is written."""
    operators = resolve_all(config.operators)
    sources = [resolve_path(source) for source in config.input]
    if remote := [source for source, name in zip(sources, config.input, strict=True) if is_address(name)]:
        bring(remote)
    paths = row_files(sources)
    if len(set(paths)) < len(paths):
        raise DataError(f"{paths[0].parent}: a file of the input is named twice: its rows would be there twice")
    files = examine_all(paths, int(config.shard_mib * 2**20))
    return Plan(config, Folder(resolve_path(config.output)), tuple(operators), tuple(stages_of(operators)), files)


def _run(plan: Plan, tell: Tell) -> Summary:
    _keep_what_holds(plan, tell)
    try:
        with _runtime(plan) as preemption:
            for stage in plan.stages:
                _run_stage(plan, stage, tell)
                if preemption is not None:
                    preemption.raise_if_requested(f"stage {stage.number} is done")
    except RunError as error:
        _report(plan, summed(plan.folder, plan.stages, len(plan.blocks)), str(error))
        raise
    if renamed := number_doubled_ids(plan.folder, plan.stages[-1].number, len(plan.blocks)):
        tell(f"{renamed} rows have the id of an earlier one, which ends in ~2, ~3, ... now")
    summary = summed(plan.folder, plan.stages, len(plan.blocks))
    write_json(plan.folder.root / MANIFEST, _manifest(plan, summary))
    _report(plan, summary)
    return summary


@contextmanager
def _runtime(plan: Plan) -> Iterator[Preemption | None]:
    """One Ray for all stages that have several workers: each would start its own."""
    if len(plan.blocks) == 1 or all(getattr(plan.config.workers, stage.cost) == 1 for stage in plan.stages):
        yield None
        return
    from pangu_rl.cluster.ray_runtime import session

    with session(plan.config.cluster) as preemption:
        yield preemption


def _report(plan: Plan, summary: Summary, problem: str = "") -> None:
    names = ", ".join(Path(file.path).name for file in plan.files[:3])
    write_report(summary, f"Curation of {names}", plan.media_root, problem)


def _keep_what_holds(plan: Plan, tell: Tell) -> None:
    inputs = {
        "files": [file.identity() for file in plan.files],
        "shard_mib": plan.config.shard_mib,
        "media_root": str(plan.media_root) if plan.media_root else None,
    }
    found = digests(plan.stages, inputs)
    ours = {
        "version": VERSION,
        "inputs": inputs,
        "stages": [{"digest": digest, **stage.identity()} for digest, stage in zip(found, plan.stages, strict=True)],
    }
    ours = json.loads(json.dumps(ours, default=str))
    (plan.folder.root / "stages").mkdir(parents=True, exist_ok=True)
    before = read_json(plan.folder.root / PLAN)
    if before is not None and (change := first_change(before, ours)) is not None:
        stage, what = change
        tell(f"stage {stage} and later are computed again: {what}")
        plan.folder.forget_from(stage)
    write_json(plan.folder.root / PLAN, ours)
    errors = summed(plan.folder, plan.stages, len(plan.blocks)).errors.total()
    if _too_many(errors, plan) and forget_errors(plan.folder, plan.stages, len(plan.blocks)):
        tell("rows that ended in an error are tried again, with those of their shards")


def _run_stage(plan: Plan, stage: Stage, tell: Tell) -> None:
    folder = plan.folder
    folder.prepare(stage.number)
    waiting = [(number, block) for number, block in plan.blocks if not folder.done(stage.number, number).is_file()]
    started = time.perf_counter()
    errors = sum(summed(folder, plan.stages, len(plan.blocks)).errors.values())
    task = StageTask(
        operators=tuple(plan.config.operators),
        stage=stage.number,
        output=folder.root.absolute(),
        media_root=plan.media_root,
        blocks=tuple(waiting),
        concurrency=plan.config.workers.concurrency,
    )
    workers = min(getattr(plan.config.workers, stage.cost), max(1, len(waiting)))
    tables = tables_of(partial(make_work, task), len(waiting), plan.config.cluster, workers, rows=1)
    for table in tables:
        for counted in map(json.loads, table["counted"].to_pylist()):
            errors += sum(sum(tally["errors"].values()) for tally in counted["operators"])
        _require_few(errors, plan)
    _require_few(errors, plan)
    if stage.closing is not None and not folder.decided(stage.number).is_file():
        decide(folder, stage.number, stage.closing)
    names = [operator.name for operator in (*stage.operators, *((stage.closing,) if stage.closing else ()))]
    said = f"{len(waiting)} of {len(plan.blocks)} blocks in {time.perf_counter() - started:.1f} s"
    tell(f"stage {stage.number} ({', '.join(names) or 'as decided'}): {said}")


def _require_few(errors: int, plan: Plan) -> None:
    if _too_many(errors, plan):
        raise RunError(
            f"{errors} of {plan.rows} rows ended in an error, more than max_error_rate {plan.config.max_error_rate}: "
            f"see {plan.folder.root / 'dropped'}, mend their cause and run again, which tries them again, or raise it; "
            "the rest of what is done is kept"
        )


def _too_many(errors: int, plan: Plan) -> bool:
    return errors > plan.config.max_error_rate * plan.rows


def _manifest(plan: Plan, summary: Summary) -> dict[str, Any]:
    """Without times and paths of this machine: equal runs have equal manifests."""
    shards = (plan.folder.rows(plan.stages[-1].number, number, last=True) for number, _ in plan.blocks)
    return {
        "input": [file.identity() for file in plan.files],
        "operators": [operator.identity() for operator in plan.operators],
        "rows": summary.rows,
        "counts": summary.counts(),
        "shards": [{"file": f"rows/{shard.name}", "xxh3_128": _digest(shard)} for shard in shards],
    }


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """One run in a folder at a time."""
    if root.exists() and not (root / "stages").is_dir() and any(root.iterdir()):
        raise DataError(f"{root}: holds something that no pipeline made: name another output")
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("w") as file:
        if not lock(file, root):
            raise DataError(f"{root}: another run is at work in it: wait for it, or name another output")
        yield
