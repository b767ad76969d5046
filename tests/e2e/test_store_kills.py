"""SIGKILL in the midst of a write, a compaction and an export: what is read afterwards is whole, and each step once."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pangu_rl.config.export import ExportConfig
from rollout.compact import compact
from rollout.export.export import export
from rollout.shards import shard_path, superseded
from rollout.store import RolloutStore
from tests.unit.rollout.export.exporting import contents
from tests.unit.rollout.stored import Answer, Asked, draw_pictures, store_of

pytestmark = pytest.mark.slow

KILLS = 8
ROOT = Path(__file__).resolve().parents[2]

WRITER = """
import sys
from pathlib import Path
from PIL import Image
from tests.unit.rollout.stored import Answer, Asked, store_of
run, media, first = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
print("ready", flush=True)
for step in range(first, 10_000):
    Image.effect_noise((200, 200), 99).convert("RGB").save(media / f"{step}.png")
    answers = [Answer(text=f"{step} {n} " + "word " * 200) for n in range(8)]
    store_of(run, {step: [Asked(uid=f"{step}", images=(f"{step}.png",), answers=answers)] * 8}, media)
"""

COMPACTION = """
import sys
from pathlib import Path
from rollout import compact as compacting
compacting.TARGET_BYTES = 40_000
print("ready", flush=True)
compacting.compact(Path(sys.argv[1]))
"""

EXPORT = """
import sys
from pathlib import Path
from pangu_rl.config.export import ExportConfig
from rollout.export.export import export
print("ready", flush=True)
export([Path(sys.argv[1])], ExportConfig(to="sft", format="hf"), Path(sys.argv[2]))
"""


When = Callable[[float], bool]
"""Whether to kill, so many seconds after the process was ready."""


def killed(code: str, *arguments: object, when: When) -> bool:
    """Start `code` and kill it when it is time; returns whether it was still at work then."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    ready = time.monotonic()
    while process.poll() is None and not when(time.monotonic() - ready):
        time.sleep(0.0005)
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def moments(half: Callable[[], bool], longest: float) -> Iterator[When]:
    """In turn as soon as something half-written is there, and at a random moment within `longest` seconds."""
    rng = random.Random(0)
    for number in range(KILLS):
        after = rng.uniform(0.0, longest)
        yield (lambda _: half()) if number % 2 == 0 else (lambda seconds, after=after: seconds >= after)


def whole(store: RolloutStore, rows: int) -> None:
    """Every step from 1 on once, with all its rows, and each of their pictures."""
    table = store.read().to_table()
    steps = table["step"].to_pylist()
    last = max(steps, default=0)
    assert steps == [step for step in range(1, last + 1) for _ in range(rows)]
    for images in table["images"].to_pylist():
        for image in images:
            assert (store.directory / image["path"]).stem == image["sha256"]
            assert (store.directory / image["path"]).stat().st_size > 0


def test_killed_writers_leave_whole_steps(tmp_path: Path) -> None:
    media, run = draw_pictures(tmp_path / "media"), tmp_path / "run"
    store = RolloutStore(run, media)
    first = 1
    torn = 0

    def half() -> list[Path]:
        return list(store.directory.glob("step_*.tmp"))

    def late_half() -> bool:
        return shard_path(store.directory, first + 2, first + 2).exists() and bool(half())

    for when in moments(late_half, longest=1.0):
        assert killed(WRITER, run, media, first, when=when)
        torn += bool(half())
        if steps := store.steps():
            whole(store, 64)
            store.truncate_after(max(1, steps[-1] - 1))
            whole(store, 64)
            first = store.steps()[-1] + 1
    assert torn >= 2, "hardly a kill came in the middle of a write"
    assert first > KILLS, "too few steps were written between the kills to show anything"


def test_killed_compactions_leave_each_step_once(tmp_path: Path) -> None:
    asked = {step: [Asked(uid=str(step), answers=[Answer(text="x" * 500)] * 4)] for step in range(1, 101)}
    store_of(tmp_path / "made" / "run", asked)
    run = tmp_path / "run"
    store = RolloutStore(run)

    def half() -> list[Path]:
        return list(store.directory.glob("steps_*.tmp"))

    torn = doubled = 0
    for when in (*moments(lambda: bool(half()), longest=0.4), *[lambda _: bool(superseded(store.directory))] * KILLS):
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(tmp_path / "made" / "run", run)
        killed(COMPACTION, run, when=when)
        torn += bool(half())
        doubled += bool(superseded(store.directory))
        whole(store, 4)
    assert torn >= 2, "hardly a kill came in the middle of the writing of a merged shard"
    assert doubled, "no kill came between a merged shard and the removal of those it was made from"
    compact(run)
    whole(store, 4)
    assert len(list(store.directory.iterdir())) == 1


def test_killed_exports_leave_nothing_or_all(tmp_path: Path) -> None:
    media = draw_pictures(tmp_path / "media")
    answers = [Answer(text=f"{n} " + "word " * 300) for n in range(8)]
    steps = {step: [Asked(uid=f"{step}", images=("red.png",), answers=answers)] * 8 for step in range(1, 21)}
    store_of(tmp_path / "run", steps, media)
    started = time.perf_counter()
    export([tmp_path / "run"], ExportConfig(to="sft", format="hf"), tmp_path / "wanted")
    seconds = time.perf_counter() - started
    wanted = contents(tmp_path / "wanted")
    output = tmp_path / "out"
    partial = output.with_name(f".{output.name}.partial")
    torn = 0
    for when in moments(lambda: any((partial / "data").glob("*")), longest=seconds):
        killed(EXPORT, tmp_path / "run", output, when=when)
        if output.exists():
            assert contents(output) == wanted
        else:
            torn += any((partial / "data").glob("*"))
            export([tmp_path / "run"], ExportConfig(to="sft", format="hf"), output)
            assert contents(output) == wanted
        assert not partial.exists()
        shutil.rmtree(output)
    assert torn >= 2, "hardly a kill came in the middle of an export's files"
