"""Two rollout actors and two learner ranks at once, with everything that a step may have; one actor is killed."""

from __future__ import annotations

import subprocess
import threading
import time
from pathlib import Path

import psutil
import pytest
from safetensors.torch import load_file

from tests.e2e import runs

STEPS = 5


def test_two_actors_two_ranks_one_killed(tiny_model: Path, tmp_path: Path) -> None:
    """Overlapped rollouts, two mini-batches a step, and a rollout actor that dies while it draws step 2 or later.

    All groups of all steps are drawn once and trained; with a learning rate this large, clipping acts.
    """
    config = runs.write_config(
        tmp_path,
        tiny_model,
        rollout={"actors": 2, "kv_cache_gib": 0.05},
        algorithm={"mini_batches": 2, "correction": {"high": 2.0}},
        learner={"ranks": 2, "optimizer": {"lr": 0.05}},
        trainer={"steps": STEPS, "prompts_per_step": 4, "max_staleness": 1},
    )
    run_dir = tmp_path / "run"
    driver = subprocess.Popen(runs.command("grpo", config), cwd=runs.REPO, stderr=subprocess.PIPE, text=True)
    victim = threading.Thread(target=kill_one_generating, args=(driver.pid, run_dir))
    victim.start()
    _, errors = driver.communicate(timeout=300)
    victim.join()
    assert driver.returncode == 0, errors

    rows = runs.rollouts(run_dir)
    assert len({(row["step"], row["completion_uid"]) for row in rows}) == len(rows) == STEPS * 4 * 4
    steps = runs.metrics(run_dir)
    assert [row["step"] for row in steps] == list(range(1, STEPS + 1))
    assert all(row["train/updates"] == 2 for row in steps)
    assert all(row["groups/trained"] == 4 for row in steps)
    clipped = [row["train/clip_fraction_low"] + row["train/clip_fraction_high"] for row in steps]
    assert max(clipped) > 0
    ages = [row["step"] - row["weight_version"] for row in rows]
    assert max(ages) == 1 and min(ages) == 0, "the next rollouts overlap with training and are one version old at most"
    assert "restart 1 of 3" in (run_dir / "run.log").read_text()


def kill_one_generating(driver: int, run_dir: Path) -> None:
    """SIGKILL the first rollout actor that is seen generating after step 1 was logged."""
    while psutil.pid_exists(driver):
        if (run_dir / "rollouts" / "step_000001.parquet").exists():
            for process in psutil.Process(driver).children(recursive=True):
                if process.is_running() and "RolloutActor.generate" in " ".join(process.cmdline()):
                    process.kill()
                    return
        time.sleep(0.001)
    pytest.fail("no rollout actor was ever seen generating")


@pytest.mark.slow
def test_parts_of_a_model_reach_the_engines_by_broadcast(tiny_model: Path, tmp_path: Path) -> None:
    """ZeRO 3 over two ranks, the optimizer in host memory: the engines sample from what is trained.

    The probe compares learner and engines after every sync; names and digests are compared in it.
    """
    config = runs.write_config(
        tmp_path,
        tiny_model,
        rollout={"actors": 2, "kv_cache_gib": 0.05, "weight_transport": "broadcast"},
        learner={"ranks": 2, "zero_stage": 3, "offload": {"optimizer": "cpu"}},
    )
    done = runs.run("grpo", config, timeout=400)
    assert done.returncode == 0, done.stderr
    steps = runs.metrics(tmp_path / "run")
    assert [row["step"] for row in steps] == [1, 2]
    assert all(row["sync/probe_gap"] < 0.03 for row in steps)
    assert {row["weight_version"] for row in runs.rollouts(tmp_path / "run")} == {1, 2}
    assert runs.weights(tmp_path / "run", 2).keys() == load_file(tiny_model / "model.safetensors").keys()
