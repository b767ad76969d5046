"""Twenty kills over one run, and a long one that nothing is done to: **nothing is lost, and nothing grows**."""

from __future__ import annotations

import json
import random
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import psutil
import pytest

from tests.e2e import runs
from tests.faults import alike
from tests.faults.alike import PATIENCE_S, SFT_ROWS, STATE_OF
from tests.faults.cases import BACKWARD, OPTIMIZER, RANK_SAVES, REDUCTION, WRITES
from tests.faults.doors import Door, Hung
from tests.faults.test_cases import end, start

pytestmark = pytest.mark.slow

KILLS, SEED = 20, 22
EPOCHS = 10
STEPS = EPOCHS * SFT_ROWS // 4
LONG, SETTLED = 300, 60
"""Steps of the run that nothing is done to, and after how many of them everything has been made that is ever made."""
MEMORY_MB = 64
"""Of noise in a process, whose allocators keep what they were given: 0.27 MB a step would be more."""
HANDLES = 8


def random_doors() -> Iterator[Door]:
    """Places of ranks and of the driver, at one of their first calls, as one seed draws them."""
    dice = random.Random(SEED)
    places = [BACKWARD, OPTIMIZER, REDUCTION, RANK_SAVES, *WRITES[1:]]
    while True:
        door = dice.choice(places)
        rank = None if door.rank is None else dice.randrange(2)
        yield Door(function=door.function, call=dice.randint(1, 3), within=door.within, rank=rank)


def test_twenty_kills_lose_nothing_and_train_nothing_twice(tiny_model: Path, tmp_path: Path) -> None:
    """A rank or the driver is killed at a door; where a rank was, the driver is killed too, once it has said so.

    A row is a source, so the last checkpoint's counts are how often each was trained on.
    """
    runs_of = {}
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
        runs_of[name] = alike.write_sft(tmp_path / name, tiny_model, STEPS)
    assert runs.run("sft", runs_of["whole"], timeout=PATIENCE_S).returncode == 0
    run_dir, kills, doors = tmp_path / "killed/run", 0, random_doors()
    while kills < KILLS:
        hung = Hung(next(doors), tmp_path / f"door_{kills}")
        driver = start("sft", runs_of["killed"], hung)
        try:
            victim = hung.who(driver, PATIENCE_S)
            victim.kill()
            kills += 1
            if victim.pid != driver.pid and kills < KILLS:
                wait_for_restart(driver, run_dir)
                driver.kill()
                kills += 1
        finally:
            end(driver)
    done = runs.run("sft", runs_of["killed"], timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    state = json.loads((run_dir / STATE_OF.format(STEPS)).read_text())
    assert state["seen"]["samples"] == {f"row{i}": EPOCHS for i in range(SFT_ROWS)}
    assert alike.unlike("sft", run_dir, tmp_path / "whole/run") == []


def wait_for_restart(driver: subprocess.Popen[str], run_dir: Path) -> None:
    """Until the run says that its ranks begin anew."""
    log, deadline = run_dir / "run.log", time.monotonic() + PATIENCE_S
    seen = log.read_text().count("; restart ")
    while log.read_text().count("; restart ") == seen:
        assert driver.poll() is None and time.monotonic() < deadline, "no restart of the ranks"
        time.sleep(0.02)


@dataclass(frozen=True, slots=True)
class Held:
    """What the processes of one kind hold together."""

    megabytes: float
    descriptors: int
    threads: int
    sockets: int


def held(driver: subprocess.Popen[str]) -> dict[str, Held]:
    """By the first word of a process's title."""
    found: dict[str, list[Held]] = {}
    root = psutil.Process(driver.pid)
    for process in [root, *root.children(recursive=True)]:
        try:
            title = "driver" if process == root else process.cmdline()[0].split(".")[0]
            one = Held(
                process.memory_info().rss / 1e6,
                process.num_fds(),
                process.num_threads(),
                len(process.net_connections("all")),
            )
        except (psutil.NoSuchProcess, IndexError):
            continue
        found.setdefault(title, []).append(one)
    names = [field.name for field in fields(Held)]
    return {title: Held(*(sum(getattr(one, name) for one in all_) for name in names)) for title, all_ in found.items()}


def test_a_long_run_grows_nothing(tiny_model: Path, tmp_path: Path) -> None:
    """One engine, one rank, a checkpoint every tenth step: memory, descriptors, threads, sockets and `/dev/shm`."""
    config = runs.write_config(
        tmp_path,
        tiny_model,
        rollout={"max_new_tokens": 8},
        trainer={"steps": LONG, "checkpoint_every": 10, "keep_checkpoints": 1},
    )
    driver = subprocess.Popen(runs.command("grpo", config), cwd=runs.REPO, stderr=subprocess.PIPE, text=True)
    try:
        before = after = {}
        shm = []
        for step in (SETTLED, LONG - 2):
            while alike.stored(tmp_path / "run") < step:
                assert driver.poll() is None, driver.communicate()[1]
                time.sleep(0.2)
            before, after = after, held(driver)
            shm.append(len(list(Path("/dev/shm").iterdir())))
        _, errors = driver.communicate(timeout=PATIENCE_S)
    finally:
        end(driver)
    assert driver.returncode == 0, errors
    print("\n".join(f"{title}: {before[title]} -> {after[title]}" for title in before), f"/dev/shm: {shm}")
    assert before.keys() == after.keys()
    for title, one in before.items():
        assert after[title].megabytes < one.megabytes + MEMORY_MB, title
        for name in ("descriptors", "threads", "sockets"):
            assert getattr(after[title], name) <= getattr(one, name) + HANDLES, (title, name)
    assert shm[1] <= shm[0] + HANDLES
