"""SIGKILL in the midst of a write, a compaction and an export: what is read afterwards is whole, and each step once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pangu_rl.config.export import ExportConfig
from rollout.compact import compact
from rollout.export.export import export
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


def killed(code: str, *arguments: object, after: float) -> int:
    """Start `code`, kill it so many seconds after it is ready; returns its exit code."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    return process.wait()


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
    rng = random.Random(0)
    seen = 0
    for _ in range(KILLS):
        store = RolloutStore(run, media)
        first = store.steps()[-1] + 1 if store.steps() else 1
        assert killed(WRITER, run, media, first, after=rng.uniform(0.0, 1.0)) == -signal.SIGKILL
        if store.steps():
            whole(store, 64)
            seen = store.steps()[-1]
            store.truncate_after(max(1, seen - 1))
            whole(store, 64)
    assert seen > KILLS, "too few steps were written between the kills to show anything"


def test_killed_compactions_leave_each_step_once(tmp_path: Path) -> None:
    asked = {step: [Asked(uid=str(step), answers=[Answer(text="x" * 500)] * 4)] for step in range(1, 101)}
    store = store_of(tmp_path / "run", asked)
    rng = random.Random(0)
    interrupted = 0
    for _ in range(KILLS):
        interrupted += killed(COMPACTION, tmp_path / "run", after=rng.uniform(0.0, 0.4)) == -signal.SIGKILL
        whole(store, 4)
    assert interrupted
    compact(tmp_path / "run")
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
    rng = random.Random(0)
    interrupted = 0
    for n in range(KILLS):
        output = tmp_path / f"out-{n}"
        killed(EXPORT, tmp_path / "run", output, after=rng.uniform(0.0, seconds))
        if output.exists():
            assert contents(output) == wanted
            continue
        interrupted += 1
        export([tmp_path / "run"], ExportConfig(to="sft", format="hf"), output)
        assert contents(output) == wanted
        assert not output.with_name(f".{output.name}.partial").exists()
    assert interrupted
