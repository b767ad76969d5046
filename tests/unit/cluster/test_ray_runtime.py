"""Ray is started where its sockets fit, refused where anybody could run code, and SIGTERM becomes a checkpoint."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from pangu_rl.cluster import auth, ray_runtime
from pangu_rl.config.sections.trainer import ClusterConfig
from pangu_rl.errors import ConfigError
from tests.contracts.source_tree import ROOT


@pytest.fixture(autouse=True)
def no_token(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("127.0.0.1:6379", True),
        ("localhost:6379", True),
        ("http://127.0.0.1:8265", True),
        ("http://[::1]:8265/", True),
        ("10.0.0.5:6379", False),
        ("https://ray.example.com", False),
        ("auto", False),
    ],
)
def test_loopback(address, loopback):
    assert auth.is_loopback(address) is loopback


def test_an_open_cluster_is_refused_unless_the_user_says_so(monkeypatch):
    with pytest.raises(ConfigError, match=r"10\.0\.0\.5:6379 without token authentication.*RAY_AUTH_MODE=disabled"):
        auth.require_token("10.0.0.5:6379")
    auth.require_token("127.0.0.1:6379")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    auth.require_token("10.0.0.5:6379")


def test_a_token_on_disk_is_used_and_tightened(tmp_path):
    path = tmp_path / ".ray" / "auth_token"
    path.parent.mkdir()
    path.write_text("secret")
    path.chmod(0o644)
    auth.require_token("10.0.0.5:6379")
    assert os.environ["RAY_AUTH_MODE"] == "token"
    auth.tighten_token()
    assert path.stat().st_mode & 0o777 == 0o600


def test_socket_paths_stay_under_the_limit(monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    assert str(ray_runtime.socket_root()) == "/tmp"
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / ("x" * 60)))
    root = ray_runtime.socket_root()
    assert root.is_relative_to("/tmp")
    assert (
        len(str(root)) + len("/ray-abcdefgh/r/session_2026-11-22_03-12-01_123456_1234567/sockets/plasma_store") <= 107
    )


@pytest.mark.parametrize(("first", "second"), [("SIGTERM", "SIGTERM"), ("SIGINT", "SIGINT"), ("SIGINT", "SIGTERM")])
def test_sigterm_and_ctrl_c_ask_once_and_then_end(first, second):
    code = (
        "import signal, time\n"
        "from pangu_rl.cluster.ray_runtime import SIGNALS, Preemption\n"
        "p = Preemption()\n"
        "for number in SIGNALS: signal.signal(number, p.request)\n"
        "print('ready', flush=True)\n"
        "while not p.requested: time.sleep(0.01)\n"
        "print(p.preempted('done'), flush=True); time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.Signals[first])
        assert process.stdout.readline() == f"{first}: done\n"
        time.sleep(0.1)
        assert process.poll() is None
        process.send_signal(signal.Signals[second])
        assert process.wait(10) == -signal.Signals[second]
    finally:
        process.kill()


def exit_at_once(signum, frame):
    """As Ray's own handler does, which a session before in the same process leaves behind."""
    sys.exit(signum)


@pytest.mark.parametrize("number", ray_runtime.SIGNALS)
def test_a_session_inside_of_another_shares_its_ray_and_tells_it_of_a_signal(monkeypatch, number):
    done = []
    monkeypatch.setattr(ray_runtime, "start", lambda cluster: done.append("start"))
    monkeypatch.setattr(ray_runtime, "stop", lambda: done.append("stop"))
    monkeypatch.setattr("ray.is_initialized", lambda: done == ["start"])
    before = signal.signal(signal.SIGTERM, exit_at_once)
    try:
        with ray_runtime.session(ClusterConfig()) as outer:
            with ray_runtime.session(ClusterConfig()) as inner:
                os.kill(os.getpid(), number)
                time.sleep(0.05)
                assert (inner.requested, outer.requested) == (True, False)
            assert outer.requested and outer.signal == number, "the stages after this one must not start"
            assert done == ["start"]
        assert done == ["start", "stop"]
        assert signal.getsignal(signal.SIGTERM) == exit_at_once
    finally:
        signal.signal(signal.SIGTERM, before)


SESSION = """
import os, signal, sys, time
from pangu_rl.cluster import ray_runtime
from pangu_rl.config.sections.trainer import ClusterConfig

with ray_runtime.session(ClusterConfig(object_store_gib=0.1)) as preemption:
    import ray

    @ray.remote(num_cpus=0)
    def double(x):
        return 2 * x

    assert ray.get(double.remote(21)) == 42
    assert ray.get_runtime_context().namespace == "pangu_rl"
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.1)
    assert preemption.requested
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
assert not ray.is_initialized()
print("ok")
"""


@pytest.mark.slow
def test_a_private_ray_under_a_deep_temporary_directory(tmp_path):
    deep = tmp_path / ("x" * 80)
    deep.mkdir()
    env = os.environ | {"TMPDIR": str(deep), "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", SESSION], cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout == "ok\n", done.stderr
    assert (tmp_path / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600


@pytest.mark.slow
def test_no_cluster_at_the_address_is_one_line():
    code = (
        "from pangu_rl.cluster import ray_runtime\nfrom pangu_rl.config.sections.trainer import ClusterConfig\n"
        "from pangu_rl.errors import ConfigError\n"
        "try: ray_runtime.start(ClusterConfig(address='127.0.0.1:1'))\n"
        "except ConfigError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.startswith("no Ray cluster at cluster.address 127.0.0.1:1: "), done.stderr
    assert done.stdout.count("\n") == 1


def test_a_node_on_a_busy_machine_has_longer_than_ray_gives_it(monkeypatch):
    from ray._private import services

    answers = [RuntimeError("not registered"), RuntimeError("not registered"), {"node_manager_port": 1}]

    def get_node(gcs_address, node_id):
        answer = answers.pop(0)
        if isinstance(answer, RuntimeError):
            raise answer
        return answer

    monkeypatch.setattr(services, "get_node", get_node)
    with ray_runtime._time_to_start():
        assert services.get_node("127.0.0.1:1", "a") == {"node_manager_port": 1}
    answers[:] = [RuntimeError("it died")]
    with ray_runtime._time_to_start(seconds=0), pytest.raises(RuntimeError, match="it died"):
        services.get_node("127.0.0.1:1", "a")
    assert services.get_node is get_node
