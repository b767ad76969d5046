"""Real stages as jobs on a real cluster with token authentication: followed, stopped, sent again, and resumed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml

from tests.e2e import recipe_runs, runs, test_dpo
from tests.ray_head import head, wait_for
from tests.unit.pretrain.train.builders import stage as pretrain_stage
from tests.unit.pretrain.train.builders import write_rows

pytestmark = pytest.mark.slow
STEPS = 400
"""More than a job makes before it is stopped."""
ENDS = ("FAILED", "SUCCEEDED")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory):
    with head(tmp_path_factory.mktemp("head")) as running:
        yield running


def ask(cluster, folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pangu_rl", *words],
        cwd=folder,
        env={**os.environ, **cluster.environment, "PYTHONPATH": str(runs.REPO), **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def submitted(cluster, folder: Path, stage: str, *overrides: str) -> str:
    done = ask(cluster, folder, "submit", stage, "--config", "config.yaml", "--address", cluster.address, *overrides)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def state(cluster, folder: Path, job: str) -> str:
    return json.loads(ask(cluster, folder, "status", job, "--address", cluster.address, "--json").stdout)["status"]


def logged(run: Path) -> list[int]:
    path = run / "metrics.jsonl"
    return [row["step"] for row in runs.metrics(run)] if path.is_file() else []


def prepared(stage: str, folder: Path, model: Path) -> Path:
    """`folder`/config.yaml of seconds a step; its run directory is `folder`/run. dpo and pretrain see pictures."""
    if stage == "grpo":
        return runs.write_config(folder, model)
    if stage == "dpo":
        return test_dpo.write_config(folder, model)
    config = folder / "config.yaml"
    if stage == "pretrain":
        write_rows(folder)
        config.write_text(yaml.safe_dump(pretrain_stage(folder, model).model_dump(mode="json")))
        return config
    rows = [{"id": f"s{i}", "prompt": f"{i} + 1?", "response": f"\\boxed{{{i + 1}}}"} for i in range(40)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tree = {
        "model": {"path": str(model)},
        "data": {"train": str(folder / "rows.jsonl"), "max_tokens": 64},
        "learner": {"pack_tokens": 256},
        "trainer": {"run_dir": str(folder / "run"), "steps": STEPS, "sequences_per_step": 4},
        "monitoring": {"tensorboard": False},
    }
    config.write_text(json.dumps(tree))
    return config


def stopped_in_the_middle(cluster, folder: Path, job: str, run: Path) -> list[int]:
    """Stop `job` once `run` has two steps; returns the steps it made, of the last of which there is a checkpoint."""
    explain = lambda: ask(cluster, folder, "logs", job, "--address", cluster.address).stdout  # noqa: E731
    wait_for(lambda: len(logged(run)) >= 2 or state(cluster, folder, job) in ENDS, 240, explain)
    stopped = ask(cluster, folder, "stop", job, "--address", cluster.address)
    assert "writes a checkpoint first" in stopped.stdout, stopped.stdout + explain()
    wait_for(lambda: state(cluster, folder, job) == "STOPPED", 120, explain)
    steps = logged(run)
    assert steps == list(range(1, len(steps) + 1)) and len(steps) >= 2
    assert (run / "checkpoints" / f"step_{steps[-1]:06d}" / "COMPLETE").is_file(), explain()
    return steps


@pytest.mark.parametrize("stage", ["sft", "grpo", "dpo", "pretrain"])
def test_submit_follow_stop_and_submit_again(
    stage: str, cluster, tmp_path: Path, tiny_model: Path, tiny_vl_model: Path
) -> None:
    prepared(stage, tmp_path, tiny_vl_model if stage in ("dpo", "pretrain") else tiny_model)
    run = tmp_path / "run"
    job = submitted(cluster, tmp_path, stage, f"trainer.steps={STEPS}")
    before = stopped_in_the_middle(cluster, tmp_path, job, run)
    assert len(before) < STEPS

    last = before[-1] + 2
    again = submitted(cluster, tmp_path, stage, f"trainer.steps={last}")
    followed = ask(cluster, tmp_path, "logs", again, "--follow", "--address", cluster.address)
    assert state(cluster, tmp_path, again) == "SUCCEEDED", followed.stdout
    assert f"step {last}/{last}" in followed.stdout
    assert f"step {before[-1]}/" not in followed.stdout, "the second job repeated a step"
    assert logged(run) == list(range(1, last + 1))
    listed = ask(cluster, tmp_path, "list", "--address", cluster.address, "--json")
    assert [row["job"] for row in json.loads(listed.stdout)][:2] == [again, job]


def test_iterative_is_stopped_in_its_fine_tuning_and_goes_on(cluster, tmp_path: Path) -> None:
    """What was drawn is not drawn again, the second job begins after the checkpoint, and the round is finished."""
    recipe_runs.write_queries(tmp_path)
    trainer = {"steps": 1, "sequences_per_step": 1, "epochs": 100}
    config = recipe_runs.write_config(
        tmp_path, recipe_runs.stopping_model(tmp_path / "model"), "iterative", trainer=trainer
    )
    config.rename(tmp_path / "config.yaml")
    samples, run = (tmp_path / "iterative" / "round_001" / name for name in ("samples", "sft"))
    job = submitted(cluster, tmp_path, "iterative")
    before = stopped_in_the_middle(cluster, tmp_path, job, run)
    drawn = {path.name: path.stat().st_mtime_ns for path in (samples / "rollouts").iterdir()}
    assert drawn and not (run.parent / "manifest.json").exists(), "the round was over already"

    again = submitted(cluster, tmp_path, "iterative")
    followed = ask(cluster, tmp_path, "logs", again, "--follow", "--address", cluster.address)
    assert state(cluster, tmp_path, again) == "SUCCEEDED", followed.stdout
    [turn] = recipe_runs.manifest(tmp_path, "iterative")["rounds"]
    steps = turn["fine_tuning"]["steps"]
    assert steps == 100 * turn["selected"]["rows"] > before[-1]
    assert logged(run) == list(range(1, steps + 1))
    assert f"step {steps}/{steps}" in followed.stdout
    assert f"step {before[-1]}/{steps}" not in followed.stdout, "the second job repeated a step"
    assert {path.name: path.stat().st_mtime_ns for path in (samples / "rollouts").iterdir()} == drawn


def test_rays_own_command_does_the_same(cluster, tmp_path: Path, tiny_model: Path) -> None:
    prepared("sft", tmp_path, tiny_model)
    stage = f"{sys.executable} -m pangu_rl sft --config config.yaml trainer.steps=2 cluster.address=auto".split()
    ray = [str(Path(sys.executable).with_name("ray")), "job", "submit", "--address", cluster.address]
    environment = json.dumps({"env_vars": {"PYTHONPATH": str(runs.REPO)}})
    done = subprocess.run(
        [*ray, "--working-dir", str(tmp_path), "--runtime-env-json", environment, "--", *stage],
        env={**os.environ, **cluster.environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert logged(tmp_path / "run") == [1, 2]


def test_a_request_without_the_token_is_refused(cluster, tmp_path: Path) -> None:
    bare = urllib.request.Request(f"{cluster.address}/api/jobs/", data=b'{"entrypoint": "id"}', method="POST")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(bare, timeout=20)
    assert refused.value.code == 401
    home = tmp_path / "home"
    home.mkdir()
    stranger = {"HOME": str(home), "RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN_PATH": str(home / "none")}
    done = ask(cluster, tmp_path, "list", "--address", cluster.address, **stranger)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "error: Ray at" in done.stderr, done.stderr


def test_a_job_without_its_secret_says_so(cluster, tmp_path: Path, tiny_model: Path) -> None:
    config = prepared("sft", tmp_path, tiny_model)
    profile = {
        "description": "",
        "address": cluster.address,
        "accelerator": "cpu",
        "python": sys.executable,
        "nodes": [{"name": "here", "cpus": 2, "memory_gib": 24}],
        "secrets": ["PANGU_TEST_KEY"],
    }
    (tmp_path / "profile.yaml").write_text(json.dumps(profile))
    arguments = ["--config", config.name, "--profile", "profile.yaml", "trainer.steps=1"]
    canary = {"PANGU_TEST_KEY": "canary-value"}
    done = ask(cluster, tmp_path, "submit", "sft", *arguments, **canary)
    assert done.returncode == 0, done.stderr
    job = done.stdout.strip()
    wait_for(lambda: state(cluster, tmp_path, job) == "FAILED", 60)
    text = ask(cluster, tmp_path, "logs", job, "--address", cluster.address).stdout
    assert "lacks PANGU_TEST_KEY" in text and "canary-value" not in text


def test_a_job_that_can_never_be_placed_ends_at_once(cluster, tmp_path: Path, tiny_model: Path) -> None:
    """Sent without a profile, so that nothing is planned here: the job itself looks at the nodes it has come to."""
    prepared("sft", tmp_path, tiny_model)
    job = submitted(cluster, tmp_path, "sft", "cluster.accelerator=cuda", "trainer.steps=1")
    wait_for(lambda: state(cluster, tmp_path, job) == "FAILED", 90)
    text = ask(cluster, tmp_path, "logs", job, "--address", cluster.address).stdout
    assert "error: cluster.accelerator is cuda and no node of this Ray has any GPU" in text, text
    assert "Traceback" not in text
    assert not (tmp_path / "run" / "checkpoints").exists() and not logged(tmp_path / "run")
