"""The table of faults: **(victim, moment, act) -> what the run makes of it**.

A victim is held at a door (`doors.py`) and is then killed, stopped or starved there: the moment is seen, not hoped for.
"""

from __future__ import annotations

import resource
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import psutil

from tests.faults.alike import SILENCE_S
from tests.faults.doors import Door, Hung

Act = Callable[[psutil.Process, Hung], None]
SLOW_S = 2 * SILENCE_S
DAY_S = 86_400.0


def kill(victim: psutil.Process, hung: Hung) -> None:
    victim.kill()


def stop(victim: psutil.Process, hung: Hung) -> None:
    victim.send_signal(signal.SIGSTOP)


def slow(victim: psutil.Process, hung: Hung) -> None:
    """It stands there for longer than a process may be silent, and its other threads give signs of life."""
    time.sleep(SLOW_S)
    hung.open()


def fill_disk(victim: psutil.Process, hung: Hung) -> None:
    """No file of the victim's grows beyond 4 kB from now on."""
    victim.rlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    hung.open()


def fill_memory(victim: psutil.Process, hung: Hung) -> None:
    """The victim has the memory that it has, and gets no more of it."""
    used = victim.memory_info().vms
    victim.rlimit(resource.RLIMIT_AS, (used, used))
    hung.open()


def clock_back(victim: psutil.Process, hung: Hung) -> None:
    hung.open(clock_shift_s=-DAY_S)


def clock_forward(victim: psutil.Process, hung: Hung) -> None:
    hung.open(clock_shift_s=DAY_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    victim: str
    """Who stands at the door; with a `title` another one, while the one at the door waits."""
    moment: str
    act: Act
    door: Door
    stage: Literal["grpo", "sft"] = "sft"
    """`sft` where nothing but ranks and driver is needed."""
    title: str = ""
    """How the title, or the program, of the process begins that is killed instead."""
    ends: str | None = None
    """What the one line of the run's end says (a regular expression), after which the same command goes on; None, where
    the run itself goes on."""

    def __str__(self) -> str:
        return f"{self.victim}, {self.moment}: {self.act.__name__}"


ENGINE = "rollout.vllm.engine:VllmEngine"
BACKWARD = Door(function="deepspeed.runtime.engine:DeepSpeedEngine.backward", call=4, rank=1)
FIRST_BACKWARD = Door(function=BACKWARD.function, rank=1)
"""Before it the process has none of the memory that gradients take."""
OPTIMIZER = Door(function="deepspeed.runtime.engine:DeepSpeedEngine.step", call=4, rank=1)
REDUCTION = Door(function="torch.distributed.distributed_c10d:all_reduce", call=8, within="Learner._step", rank=1)
RANK_SAVES = Door(function="pangu_rl.checkpoint.rank_files:_write", call=2, rank=1)
UPDATE = Door(function="pangu_rl.learner.learner:Learner._step", call=5, rank=0)
FULL = r"(File too large|No space left)"

ENGINES = [
    Case(victim="engine", moment=moment, act=act, door=door, title=title, stage="grpo")
    for moment, title, door, acts in (
        ("idle", "ray::RolloutActor", UPDATE, (kill,)),
        ("prefill", "", Door(function=f"{ENGINE}._begin", call=18), (kill,)),
        ("decode", "", Door(function=f"{ENGINE}._step", call=75, within="VllmEngine.generate"), (kill, stop)),
        ("sync", "", Door(function=f"{ENGINE}.load_weights", call=3), (kill, stop)),
    )
    for act in acts
]
RANKS = [
    Case(victim="learner rank", moment=moment, act=act, door=door)
    for moment, door in (
        ("before backward", BACKWARD),
        ("in the reduction", REDUCTION),
        ("in the step", OPTIMIZER),
        ("in save", RANK_SAVES),
    )
    for act in (kill, stop)
]
SERVICES = [
    Case(
        victim="reward worker",
        moment="in a score",
        act=kill,
        door=Door(function="rewards.rubric:Rubric.score", call=9),
        stage="grpo",
    ),
    Case(
        victim="Ray's head",
        moment="in an update",
        act=kill,
        door=UPDATE,
        title="gcs_server",
        ends="the head of the run's own Ray",
    ),
]
STARVED = [
    Case(victim="learner rank", moment="in save", act=fill_disk, door=RANK_SAVES, ends=rf"checkpoints.*{FULL}"),
    Case(
        victim="driver",
        moment="logging",
        act=fill_disk,
        door=Door(function="pangu_rl.loops.session:Run.log", call=3),
        ends=rf"/run/.*{FULL}",
    ),
    Case(victim="learner rank", moment="in save", act=slow, door=RANK_SAVES),
    Case(
        victim="learner rank",
        moment="before backward",
        act=fill_memory,
        door=FIRST_BACKWARD,
        ends="learner rank 1 .*ran out of memory",
    ),
    Case(
        victim="driver",
        moment="between steps",
        act=clock_back,
        door=Door(function="pangu_rl.loops.session:Run.log", call=2),
    ),
    Case(victim="learner rank", moment="in the step", act=clock_forward, door=OPTIMIZER),
]
CASES = [*ENGINES, *RANKS, *SERVICES, *STARVED]

WRITES = (
    Door(function="pangu_rl.checkpoint.settings:begin"),
    Door(function="pangu_rl.loops.session:Run.log"),
    Door(function="pangu_rl.checkpoint.store:CheckpointStore.begin"),
    Door(function="pangu_rl.checkpoint.manifest:seal"),
    Door(function="pangu_rl.checkpoint.manifest:flush", call=3),
    Door(function="pangu_rl.checkpoint.store:CheckpointStore.commit", call=2),
    Door(function="pangu_rl.checkpoint.store:CheckpointStore._prune"),
)
"""What the driver writes, each in one start of it."""
