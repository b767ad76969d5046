"""Operators whose libraries decode what strangers made: one record -> **its verdict, from a child that may die**.

A PDF or a video can end the process that decodes it, or hold it for ever. Here it ends a child of the worker: the row
is put aside with how it ended, and the next one has another child. Verdicts come back in a file, since pages and frames
are more than a child may send.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from data_curation.pipeline.operator import Operator
from data_curation.pipeline.record import Record, Verdict
from data_curation.pipeline.registry import resolve
from data_curation.pipeline.verdicts import checked_verdict, from_json, to_json
from pangu_rl.config.curate import OperatorConfig
from rewards.children import ChildPool

DEADLINE_S = 900.0
"""For a row: an hour of video in high definition takes some minutes."""
MEMORY_MIB = 4096


def guarded_verdict(operator: Operator, record: Record) -> Verdict:
    """
    Raises:
        ChildKilled, ChildTimeout: what the row holds ended the child, by a signal or over its memory, or took too long.
        ChildError: the operator raised.
    """
    with TemporaryDirectory(prefix="pangu_rl_verdict_") as scratch:
        answer = Path(scratch) / "verdict.json"
        media_root = str(record.media_root) if record.media_root else None
        _pool().run(_judge, operator.config, operator.name, record.row, record.uid, media_root, str(answer))
        return from_json(json.loads(answer.read_bytes()))


def end_child() -> None:
    """The next verdict has another one."""
    if _pool.cache_info().currsize:
        _pool().close()
        _pool.cache_clear()


@cache
def _pool() -> ChildPool:
    """One of a process."""
    return ChildPool(size=1, deadline_s=DEADLINE_S, memory_mib=MEMORY_MIB, warm_up=_nothing)


def _judge(
    config: OperatorConfig, name: str, row: dict[str, Any], uid: str, media_root: str | None, answer: str
) -> None:
    """In the child."""
    operator = _resolved(config.model_dump_json(), name)
    record = Record(row, uid, "", Path(media_root) if media_root else None)
    verdict = checked_verdict(operator.function(record, **operator.settings), name)
    Path(answer).write_text(json.dumps(to_json(verdict)), encoding="utf-8")


@cache
def _resolved(config: str, name: str) -> Operator:
    return resolve(OperatorConfig.model_validate_json(config), name)


def _nothing() -> None:
    """A child of operators needs no algebra."""
