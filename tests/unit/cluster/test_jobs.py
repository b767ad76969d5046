"""What `pangu-rl submit` sends, and the life of a job on a real cluster with token authentication."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from ray.job_submission import JobStatus
from typer.testing import CliRunner

from pangu_rl.cli import app
from pangu_rl.cluster import jobs
from pangu_rl.cluster.stage_file import StageFile
from pangu_rl.config.cluster_profile import ClusterProfile
from pangu_rl.config.load import checked, read_tree
from pangu_rl.config.secrets import require_secrets
from pangu_rl.errors import ConfigError
from tests.contracts.source_tree import ROOT
from tests.ray_head import head, wait_for

CONFIG = "model: {path: m}\ndata: {train: t}\ntrainer: {run_dir: runs/x, steps: 1}\n"


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "sft_x.yaml"
    path.write_text(CONFIG)
    return path


def test_the_run_directory_is_where_it_would_be_here(config, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert StageFile.read(config, []).job_overrides() == [
        f'trainer.run_dir="{tmp_path}/runs/x"',
        "cluster.address=auto",
    ]
    assert StageFile.read(config, ["run_dir=/shared/y", "trainer.steps=3"]).job_overrides() == [
        "trainer.run_dir=/shared/y",
        "trainer.steps=3",
        'trainer.run_dir="/shared/y"',
        "cluster.address=auto",
    ]
    assert "cluster.address=auto" not in StageFile.read(config, ["cluster.address=10.0.0.5:6379"]).job_overrides()


def test_a_section_that_is_none_is_left_to_the_schema(config):
    config.write_text(CONFIG + "cluster: ascend\n")
    file = StageFile.read(config)
    assert file.profile is None
    with pytest.raises(ConfigError, match="cluster is a value, not a section"):
        file.tree_of_job()


def test_what_needs_no_devices_is_no_job(config):
    refused = CliRunner().invoke(app, ["submit", "assemble", "--config", str(config)])
    assert "submit assemble: it needs no devices and is no job" in str(refused.exception)


def test_a_configuration_outside_the_working_directory_is_refused(config, tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    with pytest.raises(ConfigError, match="lies outside the working directory"):
        jobs.submit("sft", StageFile.read(config), working_dir=inside)


def test_a_file_that_would_hide_a_package_of_ours_is_refused(config, monkeypatch, tmp_path):
    client = FakeClient("http://127.0.0.1:8265")
    monkeypatch.setattr(jobs, "connect", lambda address: client)
    (tmp_path / "rewards.py").write_text("")
    with pytest.raises(ConfigError, match=r"rewards\.py: in the job it would be imported in the place of our package"):
        jobs.submit("sft", StageFile.read(config, ["run_dir=/shared/x"]), working_dir=tmp_path)
    nodes = [{"name": "a", "cpus": 1, "memory_gib": 1}]
    tree = {"description": "", "accelerator": "cpu", "nodes": nodes, "excludes": ["/rewards.py"]}
    profile = checked(ClusterProfile, tree, "profile")
    assert (
        jobs.submit("sft", StageFile.read(config, ["run_dir=/shared/x"]), working_dir=tmp_path, profile=profile)
        == "raysubmit_1"
    )


class FakeClient:
    def __init__(self, address):
        self.address = address
        self.submitted = None

    def get_address(self):
        return self.address

    def submit_job(self, **kwargs):
        self.submitted = kwargs
        return "raysubmit_1"


@pytest.mark.parametrize(
    ("address", "python"), [("http://127.0.0.1:8265", sys.executable), ("http://10.0.0.5:8265", "python")]
)
def test_what_is_submitted(config, monkeypatch, tmp_path, address, python):
    client = FakeClient(address)
    monkeypatch.setattr(jobs, "connect", lambda address: client)
    monkeypatch.setenv("WANDB_API_KEY", "canary-secret")
    assert (
        jobs.submit("sft", StageFile.read(config, ["run_dir='/shared/a #b'"]), address=address, working_dir=tmp_path)
        == "raysubmit_1"
    )
    words = shlex.split(client.submitted["entrypoint"])
    assert words[:6] == [python, "-m", "pangu_rl", "sft", "--config", "sft_x.yaml"]
    assert read_tree(config, words[-2:])["trainer"]["run_dir"] == "/shared/a #b"
    runtime_env = client.submitted["runtime_env"]
    assert runtime_env["working_dir"] == str(tmp_path)
    assert {".git", ".venv", "runs"} <= set(runtime_env["excludes"])
    assert runtime_env["env_vars"] == {"RAY_JOB_STOP_WAIT_TIME_S": "900"}
    assert "canary-secret" not in str(client.submitted)


def test_the_command_reads_the_configuration_once(config, monkeypatch, tmp_path):
    """What was planned is then what is sent, whoever edits the file meanwhile."""
    monkeypatch.setattr(jobs, "connect", FakeClient)
    monkeypatch.chdir(tmp_path)
    read, texts = Path.read_text, []

    def counted(path, *args, **kwargs):
        texts.extend([path] if path.name == config.name else [])
        return read(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", counted)
    command = ["submit", "sft", "--config", config.name, "--address", "http://127.0.0.1:8265", "model.path=/m"]
    sent = CliRunner().invoke(app, [*command, "data.train=/t"], catch_exceptions=False)
    assert (sent.output, len(texts)) == ("raysubmit_1\n", 1)


@pytest.mark.parametrize(("run", "stays"), [("out/[1]", "/out/[[]1]"), ("/shared/x", None), (".", None)])
def test_the_run_directory_does_not_travel(config, monkeypatch, tmp_path, run, stays):
    client = FakeClient("http://127.0.0.1:8265")
    monkeypatch.setattr(jobs, "connect", lambda address: client)
    monkeypatch.chdir(tmp_path)
    jobs.submit("sft", StageFile.read(config, [f"run_dir={run}"]))
    assert client.submitted["runtime_env"]["excludes"] == [*jobs.EXCLUDES, *([stays] if stays else [])]


def test_a_working_directory_too_large_is_one_line():
    error = RuntimeError("Request failed with status code 413: Maximum request body size 104857600 exceeded.")
    with (
        pytest.raises(ConfigError, match=r"at most 100 MiB of working directory.*excludes"),
        jobs._explained("http://x"),
    ):
        raise error


def test_a_port_is_no_status_code():
    with pytest.raises(ConfigError, match="is it up"), jobs._explained("http://x"):
        raise OSError("connection to 127.0.0.1:41377 refused")


def test_what_a_profile_adds(config, monkeypatch, tmp_path):
    client = FakeClient("http://10.0.0.5:8265")
    seen = []
    monkeypatch.setattr(jobs, "connect", lambda address: seen.append(address) or client)
    monkeypatch.setenv("WANDB_API_KEY", "canary-secret")
    tree = {
        "description": "",
        "address": "http://10.0.0.5:8265",
        "accelerator": "npu",
        "nodes": [{"name": "a", "devices": 8, "cpus": 1, "memory_gib": 1}],
        "env": {"HCCL_CONNECT_TIMEOUT": "1800"},
        "learner_env": {"HCCL_BUFFSIZE": "400"},
        "engine_env": {"HCCL_BUFFSIZE": "100"},
        "secrets": ["WANDB_API_KEY"],
        "excludes": ["*.pt"],
        "python": "/opt/venv/bin/python",
        "grace_s": 60,
    }
    profile = checked(ClusterProfile, tree, "profile")
    jobs.submit("sft", StageFile.read(config, ["run_dir=/shared/x"]), working_dir=tmp_path, profile=profile)
    assert seen == ["http://10.0.0.5:8265"]
    words = shlex.split(client.submitted["entrypoint"])
    assert words[0] == "/opt/venv/bin/python" and "cluster.accelerator=npu" in words
    environment = client.submitted["runtime_env"]
    assert environment["env_vars"] == {
        "HCCL_CONNECT_TIMEOUT": "1800",
        "PANGU_RL_LEARNER_HCCL_BUFFSIZE": "400",
        "PANGU_RL_ENGINE_HCCL_BUFFSIZE": "100",
        "RAY_JOB_STOP_WAIT_TIME_S": "60",
        "PANGU_RL_SECRETS": "WANDB_API_KEY",
    }
    assert "*.pt" in environment["excludes"] and ".git" in environment["excludes"]
    assert "canary-secret" not in str(client.submitted)
    named = StageFile.read(config, ["cluster.accelerator=cpu"]).job_overrides(profile)
    assert "cluster.accelerator=npu" not in named


class Starting(FakeClient):
    """A cluster whose agent comes after a while."""

    def __init__(self, refusals, text="No available agent to submit job, please try again later."):
        super().__init__("http://127.0.0.1:8265")
        self.refusals = refusals
        self.text = text

    def submit_job(self, **kwargs):
        if self.refusals:
            self.refusals -= 1
            raise RuntimeError(f"Request failed with status code 500: {self.text}")
        return super().submit_job(**kwargs)


def test_a_cluster_that_is_starting_is_waited_for(config, monkeypatch, tmp_path):
    client = Starting(2)
    monkeypatch.setattr(jobs, "connect", lambda address: client)
    assert jobs.submit("sft", StageFile.read(config), working_dir=tmp_path) == "raysubmit_1"
    client.refusals = 99
    with pytest.raises(ConfigError, match="No available agent"):
        jobs.submit("sft", StageFile.read(config), working_dir=tmp_path)
    assert client.refusals == 99 - jobs.AGENT_TRIES
    client.refusals, client.text = 1, "a broken package"
    with pytest.raises(ConfigError, match="a broken package"):
        jobs.submit("sft", StageFile.read(config), working_dir=tmp_path)
    assert client.refusals == 0


class Stoppable(FakeClient):
    """A job in each state that `stop` may find it in."""

    def __init__(self, status):
        super().__init__("http://127.0.0.1:8265")
        self.status = JobStatus(status)

    def get_job_status(self, job):
        return self.status

    def stop_job(self, job):
        return not self.status.is_terminal()


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        ("PENDING", "j was asked to stop before it had begun: this job writes no checkpoint"),
        ("RUNNING", "j was asked to stop; it writes a checkpoint first"),
        ("SUCCEEDED", "j does not run: SUCCEEDED"),
        ("STOPPED", "j does not run: STOPPED"),
    ],
)
def test_stop_says_what_becomes_of_the_job(monkeypatch, status, sentence):
    monkeypatch.setattr(jobs, "connect", lambda address: Stoppable(status))
    assert jobs.stop("j") == sentence


def test_a_job_without_its_secrets_ends_at_once(monkeypatch):
    require_secrets({"PANGU_RL_SECRETS": "A_KEY", "A_KEY": "x"})
    require_secrets({})
    environment = {**os.environ, "PANGU_RL_SECRETS": "A_KEY,B_KEY", "A_KEY": "x"}
    done = subprocess.run(
        [sys.executable, "-m", "pangu_rl", "config", "check", "sft", "--config", "x"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: the cluster's environment lacks B_KEY,")


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    with head(tmp_path) as running:
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        yield running.address


READ = "from pathlib import Path\nfrom pangu_rl.cluster.stage_file import StageFile\n"
STAGE = """
import signal, sys, time
print("arguments", sys.argv[1:], flush=True)
if "trainer.steps=0" in sys.argv:
    def leave(*_):
        print("checkpoint written", flush=True)
        time.sleep(4)   # longer than Ray's own grace of 3 s
        print("left in order", flush=True)
        sys.exit(143)
    signal.signal(signal.SIGTERM, leave)
    print("waiting", flush=True)
    time.sleep(300)
"""


def ask(address, code, **env):
    """Run the client in a process of its own: Ray reads its authentication mode once, at import."""
    done = subprocess.run(
        [sys.executable, "-c", f"from pangu_rl.cluster import jobs\naddress = {address!r}\n{code}"],
        cwd=ROOT,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stdout.strip(), done.stderr


@pytest.mark.slow
def test_a_job_is_submitted_followed_stopped_and_listed(cluster, tmp_path, config):
    (tmp_path / "pangu_rl").mkdir()
    (tmp_path / "pangu_rl" / "__init__.py").touch()
    (tmp_path / "pangu_rl" / "__main__.py").write_text(STAGE)
    submit = f"{READ}print(jobs.submit('sft', StageFile.read(Path({str(config)!r}), [%r]), address=address,"
    submit += f" working_dir=Path({str(tmp_path)!r})))"

    job, error = ask(cluster, submit % "trainer.steps=1")
    assert job.startswith("raysubmit_"), error
    output, error = ask(cluster, f"for piece in jobs.logs({job!r}, address=address, follow=True): print(piece, end='')")
    assert "'sft', '--config', 'sft_x.yaml'" in output and "cluster.address=auto" in output, error
    assert ask(cluster, f"print(jobs.status({job!r}, address=address))")[0] == "SUCCEEDED"

    long, error = ask(cluster, submit % "trainer.steps=0")
    read = f"print(next(jobs.logs({long!r}, address=address)))"
    wait_for(lambda: "waiting" in ask(cluster, read)[0], 60)
    assert "writes a checkpoint first" in ask(cluster, f"print(jobs.stop({long!r}, address=address))")[0]
    state = f"print(jobs.status({long!r}, address=address))"
    wait_for(lambda: ask(cluster, state)[0] == "STOPPED", 60)
    assert "left in order" in ask(cluster, read)[0]

    assert ask(cluster, f"print(jobs.stop({job!r}, address=address))")[0] == f"{job} does not run: SUCCEEDED"

    at_once = "print(jobs.status(job, address=address), jobs.stop(job, address=address), sep='\\n')"
    sent = f"{READ}job = jobs.submit('sft', StageFile.read(Path({str(config)!r}), ['trainer.steps=0']),"
    sent += f" address=address, working_dir=Path({str(tmp_path)!r}))\nprint(job)\n{at_once}"
    output, error = ask(cluster, sent)
    pending, status, sentence = output.splitlines()
    assert status == "PENDING", error
    assert sentence == f"{pending} was asked to stop before it had begun: this job writes no checkpoint"
    wait_for(lambda: ask(cluster, f"print(jobs.status({pending!r}, address=address))")[0] == "STOPPED", 60)
    assert "checkpoint written" not in ask(cluster, f"print(next(jobs.logs({pending!r}, address=address)))")[0]

    listing = ask(cluster, "print([row['job'] for row in jobs.list_jobs(address=address)])")[0]
    assert listing == str([pending, long, job])
    complaint = "from pangu_rl.errors import ConfigError\ntry: %s\nexcept ConfigError as error: print(error)"
    assert "knows no job nope" in ask(cluster, complaint % "jobs.status('nope', address=address)")[0]

    other = tmp_path / "other_token"
    other.write_text("fedcba9876543210" * 4)
    refused, error = ask(cluster, complaint % "jobs.list_jobs(address=address)", RAY_AUTH_TOKEN_PATH=str(other))
    assert "refused us: put its token into" in refused, error
    assert "\n" not in refused


@pytest.mark.slow
def test_no_cluster_is_one_line():
    code = "from pangu_rl.errors import ConfigError\ntry: jobs.list_jobs(address=address)\n"
    code += "except ConfigError as error: print(error)"
    output, error = ask("http://127.0.0.1:1", code)
    assert output.startswith("Ray at http://127.0.0.1:1: Failed to connect") and "\n" not in output, error
