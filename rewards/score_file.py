"""`pangu-rl score`: a JSONL file of predictions with their golds -> **the same rows with their verdicts**.

Line for line and in order, with a bounded window of rows in memory. A row that cannot be graded stays, with outcome
`error` and the reason; the output appears under its name only when it is complete.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

from rich.console import Console
from rich.progress import DownloadColumn, Progress

from pangu_rl.errors import DataError
from pangu_rl.records import Outcome
from pangu_rl.whole_file import whole_file
from rewards.children import ChildPool
from rewards.grader import Grader
from rewards.rules.dispatch import grade_directly
from rewards.rules.gold import BadGold, Gold
from rewards.score_rows import BadRow, encode_row, parse_row, text_of, typed_gold

OnBadRow = Literal["report", "fail"]
STANDARD = Path("-")
"""Standard input, or standard output."""
WINDOW_ROWS = 256
WINDOW_BYTES = 8 * 2**20
"""Whichever comes first bounds what is read ahead of the oldest row still being checked."""


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """One line of the output."""

    line: bytes
    outcome: Outcome
    reward: float | None
    problem: str = ""
    """Why the row itself cannot be graded; empty for a row that was."""


@dataclass(slots=True)
class Summary:
    """What became of the rows."""

    rows: int = 0
    bad_rows: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    rewards: float = 0.0
    verdicts: int = 0
    seconds: float = 0.0

    def add(self, scored: ScoredRow) -> None:
        self.rows += 1
        self.bad_rows += bool(scored.problem)
        self.outcomes[scored.outcome.value] += 1
        if scored.reward is not None:
            self.rewards += scored.reward
            self.verdicts += 1

    @property
    def mean_reward(self) -> float | None:
        """Over the rows with a verdict."""
        return self.rewards / self.verdicts if self.verdicts else None

    def __str__(self) -> str:
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in self.outcomes.most_common())
        mean = "none" if self.mean_reward is None else f"{self.mean_reward:.4f}"
        return f"{self.rows} rows in {self.seconds:.1f} s: {outcomes or 'nothing'}; mean reward {mean}"

    def as_dict(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "bad_rows": self.bad_rows,
            "outcomes": dict(self.outcomes.most_common()),
            "mean_reward": self.mean_reward,
            "seconds": round(self.seconds, 3),
            "rows_per_second": round(self.rows / self.seconds, 1) if self.seconds else 0.0,
        }


def score_file(
    source: Path,
    target: Path,
    *,
    on_bad_row: OnBadRow = "report",
    workers: int | None = None,
    deadline_s: float = 2.0,
    advance: Callable[[int], object] = lambda size: None,
) -> Summary:
    """Grade every line of `source` into `target`, files or `STANDARD`; `advance` hears the bytes of each row done.

    `workers` and `deadline_s` are those of `ChildPool`.

    Raises:
        DataError: a file that cannot be read or written, or a bad row under `fail`, with file, row and reason.
    """
    refuse_paths(source, target)
    summary = Summary()
    started = time.perf_counter()

    async def grade_all(lines: BinaryIO, output: BinaryIO, grader: Grader) -> None:
        async for scored, size in _in_order(lines, grader):
            summary.add(scored)
            if scored.problem and on_bad_row == "fail":
                raise DataError(f"{source}, row {summary.rows}: {scored.problem}")
            output.write(scored.line)
            advance(size)

    try:
        with ChildPool(workers, deadline_s) as pool, _lines_of(source) as lines, _output_of(target) as output:
            asyncio.run(grade_all(lines, output, Grader(pool)))
    except OSError as error:
        raise DataError(f"{error.filename or target}: {error.strerror or error}") from None
    summary.seconds = time.perf_counter() - started
    return summary


def score_file_with_progress(source: Path, target: Path, **options: Any) -> Summary:
    """`score_file` with a progress bar on a terminal."""
    total = source.stat().st_size if source.is_file() else None
    columns = (*Progress.get_default_columns(), DownloadColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as progress:
        bar = progress.add_task("score", total=total)
        return score_file(source, target, advance=lambda size: progress.advance(bar, size), **options)


def refuse_paths(source: Path, target: Path) -> None:
    """Raises `DataError`: no such input, or an output that would destroy something."""
    if source != STANDARD and not source.exists():
        raise DataError(f"{source}: no such file")
    if source.is_dir():
        raise DataError(f"{source}: is a directory; --input is a JSONL file")
    if target == STANDARD:
        return
    if target.exists() and not target.is_file():
        raise DataError(f"{target}: is no regular file; --output is a JSONL file to write")
    if target.exists() and source != STANDARD and target.samefile(source):
        raise DataError(f"{target}: is the input too; give --output another name")
    if not target.parent.is_dir():
        raise DataError(f"{target}: the folder {target.parent.absolute()} does not exist")


def _lines_of(source: Path) -> AbstractContextManager[BinaryIO]:
    return nullcontext(sys.stdin.buffer) if source == STANDARD else source.open("rb")


def _output_of(target: Path) -> AbstractContextManager[BinaryIO]:
    return nullcontext(sys.stdout.buffer) if target == STANDARD else _whole_or_not_at_all(target.resolve())


@contextmanager
def _whole_or_not_at_all(target: Path) -> Iterator[BinaryIO]:
    with whole_file(target) as partial, partial.open("xb") as output:
        yield output


async def score_line(number: int, line: bytes, grader: Grader) -> ScoredRow:
    """Grade one line; never raises for what the line holds."""
    try:
        row = parse_row(line)
    except BadRow as reason:
        raw = line.rstrip(b"\r\n").decode("utf-8", "surrogateescape")
        return _bad_row({"row": number, "raw": raw}, str(reason))
    try:
        prediction, gold = text_of(row, "prediction"), typed_gold(row)
    except (BadRow, BadGold) as reason:
        return _bad_row(row, str(reason))
    checked = await grader.acheck(prediction, gold)
    part = checked.part
    if part.outcome is Outcome.ERROR:
        return _bad_row(row, part.detail, checked.seconds)
    if part.outcome is Outcome.NO_BOX and (problem := _gold_problem(gold)):
        return _bad_row(row, problem, checked.seconds)
    added = {"outcome": part.outcome, "reward": part.value, "seconds": round(checked.seconds, 6)}
    return ScoredRow(encode_row(row | added), part.outcome, part.value)


def _gold_problem(gold: Gold) -> str:
    """What is wrong with a gold that no answer has been held against."""
    try:
        grade_directly("0", gold)
    except BadGold as reason:
        return str(reason)
    return ""


async def _in_order(lines: BinaryIO, grader: Grader) -> AsyncIterator[tuple[ScoredRow, int]]:
    """Each line's result and size, in the order of the file, while later lines are being checked."""
    waiting: deque[tuple[asyncio.Task[ScoredRow], int]] = deque()
    ahead = 0
    try:
        for number, line in enumerate(lines, start=1):
            waiting.append((asyncio.create_task(score_line(number, line, grader)), len(line)))
            ahead += len(line)
            while waiting and (len(waiting) >= WINDOW_ROWS or ahead >= WINDOW_BYTES):
                task, size = waiting.popleft()
                ahead -= size
                yield await task, size
        while waiting:
            task, size = waiting.popleft()
            yield await task, size
    finally:
        for task, _ in waiting:
            task.cancel()


def _bad_row(row: dict[str, Any], problem: str, seconds: float = 0.0) -> ScoredRow:
    added = {"outcome": Outcome.ERROR, "reward": None, "seconds": round(seconds, 6), "error": problem}
    return ScoredRow(encode_row(row | added), Outcome.ERROR, None, problem)
