"""Plugins as a product: the three examples work as their files say, and an isolated one cannot hurt the service."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from pangu_rl.config.sections.rewards import RewardFunctionConfig, RewardsConfig
from pangu_rl.errors import ConfigError, RewardError
from pangu_rl.records import Outcome, Part
from rewards import isolated
from rewards.rubric import Rubric
from tests.contracts.source_tree import ROOT
from tests.unit.rewards.builders import completion, prompt

EXAMPLES = ROOT / "examples"

HOSTILE = """
import asyncio, os, sys, time
from pangu_rl.records import Outcome, Part

def environment(prompt, completion):
    names = [name for name in os.environ if "KEY" in name or name == "HARMLESS"]
    return Part(value=1.0, outcome=Outcome.CORRECT, detail=f"{os.getpid()} {names}")

async def waits(prompt, completion, seconds=0.0):
    await asyncio.sleep(seconds)
    return 0.5

def dies(prompt, completion): os._exit(3)
def hangs(prompt, completion):
    while True: pass
def eats(prompt, completion): return float(len(bytearray(1 << 40)))
def prints(prompt, completion):
    for _ in range(100): sys.stdout.write("x" * 100_000)
    return 1.0
def raises(prompt, completion): raise ValueError("not today")
def exits(prompt, completion): sys.exit(0)
def gives_up(prompt, completion): raise TimeoutError("the service is down")
def returns_text(prompt, completion): return "great"
def returns_nan(prompt, completion): return float("nan")
def returns_object(prompt, completion): return object()
"""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("plugin") / "hostile.py"
    file.write_text(HOSTILE)
    return file


def rubric(name: str | Path, timeout_s: float = 5.0, **more: Any) -> Rubric:
    return Rubric.from_config(
        RewardsConfig(functions=(RewardFunctionConfig(name=str(name), **more),), timeout_s=timeout_s)
    )


def only_part(scorer: Rubric, text: str = "so 7", uid: str = "0:p/0") -> Part:
    score = asyncio.run(scorer.score(prompt("7"), completion(text, uid)))
    return next(iter(score.parts.values()))


def test_isolated_without_keys_and_in_another_process(hostile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCORER_API_KEY", "canary")
    monkeypatch.setenv("HARMLESS", "1")
    isolated._pool.cache_clear()  # a pool that starts now
    part = only_part(rubric(f"{hostile}:environment", isolated=True))
    assert part.detail.endswith("['HARMLESS']")
    assert "reward_plugin_hostile" not in sys.modules
    inside = only_part(rubric(f"{hostile}:environment"))
    assert "SCORER_API_KEY" in inside.detail
    assert inside.detail.split()[0] != part.detail.split()[0]


def test_isolated_async_function_with_arguments(hostile: Path) -> None:
    part = only_part(rubric(f"{hostile}:waits", isolated=True, args={"seconds": 0.01}))
    assert (part.value, part.outcome) == (0.5, Outcome.INCORRECT)


@pytest.mark.parametrize(
    ("function", "outcome", "reason"),
    [
        ("dies", Outcome.KILLED, "exit code 3"),
        ("hangs", Outcome.TIMEOUT, "not done within 0.5 s"),
        ("eats", Outcome.KILLED, "memory"),
        ("gives_up", Outcome.TIMEOUT, "the service is down"),
    ],
)
def test_isolated_failures_are_no_verdict_for_their_row_alone(
    hostile: Path, function: str, outcome: Outcome, reason: str
) -> None:
    bad, good = rubric(f"{hostile}:{function}", 0.5, isolated=True), rubric(f"{hostile}:waits", 5.0, isolated=True)

    async def both() -> tuple[Any, Any]:
        return await asyncio.gather(
            bad.score(prompt(), completion("x", "3:p/1")), good.score(prompt(), completion("x"))
        )

    started = time.monotonic()
    lost, kept = asyncio.run(both())
    part = lost.parts[f"{hostile}:{function}"]
    assert (part.value, part.outcome, lost.reward, kept.reward) == (None, outcome, None, 0.5)
    assert reason in part.detail
    assert f"reward function {hostile}:{function}, completion 3:p/1" in part.detail
    assert time.monotonic() - started < 4.0


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("raises", "ValueError: not today"),
        ("exits", "SystemExit"),
        ("returns_text", "returned str 'great'"),
        ("returns_nan", "returned value nan"),
        ("returns_object", "cannot leave a child"),
    ],
)
def test_isolated_errors_name_plugin_and_row(hostile: Path, function: str, reason: str) -> None:
    with pytest.raises(RewardError, match=rf"hostile\.py:{function}, completion 3:p/1 .*{reason}"):
        only_part(rubric(f"{hostile}:{function}", isolated=True), uid="3:p/1")


def test_what_an_isolated_plugin_prints_reaches_nobody(hostile: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert only_part(rubric(f"{hostile}:prints", isolated=True)).value == 1.0
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import os\nos._exit(9)", "does not survive its import: .*exit code 9"),
        ("1 / 0", "does not import: ZeroDivisionError"),
        ("def other(p, c): return 1.0", "no function 'f' in the file"),
        ("def f(p): return 1.0", "cannot be called as"),
    ],
)
def test_an_isolated_plugin_that_cannot_start_is_found_at_start(tmp_path: Path, source: str, reason: str) -> None:
    (tmp_path / "plugin.py").write_text(source)
    with pytest.raises(ConfigError, match=reason):
        rubric(f"{tmp_path}/plugin.py:f", isolated=True)


def test_the_wait_for_a_free_child_is_no_timeout(hostile: Path) -> None:
    """Eight calls of 0.3 s in at most four children take longer than the 0.5 s that one call may take."""
    scorer = rubric(f"{hostile}:waits", 0.5, isolated=True, args={"seconds": 0.3})

    async def scores() -> list[Any]:
        return await asyncio.gather(*(scorer.score(prompt(), completion("x")) for _ in range(8)))

    assert [score.reward for score in asyncio.run(scores())] == [0.5] * 8


AFTER_FORK = """
import asyncio, os, sys
from pangu_rl.config.sections.rewards import RewardFunctionConfig, RewardsConfig
from rewards.rubric import Rubric
from tests.unit.rewards.builders import completion, prompt

config = RewardFunctionConfig(name=sys.argv[1], isolated=True)
rubric = Rubric.from_config(RewardsConfig(functions=(config,)))
print(asyncio.run(rubric.score(prompt(), completion("x"))).reward, flush=True)
pid = os.fork()
print(asyncio.run(rubric.score(prompt(), completion("x"))).reward, flush=True)
if pid:
    os.waitpid(pid, 0)
"""


def test_a_forked_process_isolates_in_children_of_its_own(hostile: Path) -> None:
    command = [sys.executable, "-c", AFTER_FORK, f"{hostile}:waits"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "0.5\n" * 3, done.stderr


LOOK_UP = """
import asyncio, sys
from pangu_rl.config.sections.rewards import RewardFunctionConfig, RewardsConfig
from rewards.rubric import Rubric
from tests.unit.rewards.builders import completion, prompt

for isolated in (False, True):
    config = RewardFunctionConfig(name="no_repetition", args={"ngram": 2}, isolated=isolated)
    rubric = Rubric.from_config(RewardsConfig(functions=(config,)))
    part = asyncio.run(rubric.score(prompt(), completion("a b a b a b"))).parts["no_repetition"]
    print(part.value, part.detail)
"""


def test_the_package_installs_and_is_found_by_name(tmp_path: Path) -> None:
    package = shutil.copytree(EXAMPLES / "reward_plugin", tmp_path / "package")
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*install, "--target", tmp_path / "site", package], check=True, capture_output=True)
    done = subprocess.run(
        [sys.executable, "-c", LOOK_UP],
        cwd=ROOT,
        env={"PYTHONPATH": f"{tmp_path}/site"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["0.4 2 of 5 2-grams are new"] * 2


def test_the_plugin_in_a_file() -> None:
    name = f"{EXAMPLES}/rewards/soft_length.py:soft_length"
    scorer = rubric(name, args={"limit": 100, "buffer": 20})
    for tokens, value in {50: 0.0, 80: 0.0, 90: -0.5, 100: -1.0, 130: -1.0}.items():
        written = completion("x")
        object.__setattr__(written, "token_ids", tuple(range(tokens)))
        score = asyncio.run(scorer.score(prompt(), written))
        assert score.reward == pytest.approx(value), tokens


class Judge(BaseHTTPRequestHandler):
    """Replies with what `answers` holds next: a status and a body."""

    answers: list[tuple[int, bytes]]
    heard: list[dict[str, Any]]
    authorization: str | None

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        type(self).heard.append(json.loads(body))
        type(self).authorization = self.headers["Authorization"]
        status, reply = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.send_response(status)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def judge() -> Iterator[tuple[type[Judge], str]]:
    handler = type("ThisJudge", (Judge,), {"answers": [], "heard": [], "authorization": None})
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield handler, f"http://127.0.0.1:{server.server_port}/score"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("answers", "value", "outcome", "requests"),
    [
        ([(200, b'{"score": 0.25}')], 0.25, Outcome.INCORRECT, 1),
        ([(200, b'{"score": 1}')], 1.0, Outcome.CORRECT, 1),
        ([(503, b""), (429, b""), (200, b'{"score": 0.5}')], 0.5, Outcome.INCORRECT, 3),
        ([(500, b"")], None, Outcome.ERROR, 3),
        ([(404, b"")], None, Outcome.ERROR, 1),
        ([(200, b'{"score": 7}')], None, Outcome.ERROR, 1),
        ([(200, b'{"score": NaN}')], None, Outcome.ERROR, 1),
        ([(200, b'{"score": true}')], None, Outcome.ERROR, 1),
        ([(200, b'{"score": "0.9"}')], None, Outcome.ERROR, 1),
        ([(200, b'{"score": null}')], None, Outcome.ERROR, 1),
        ([(200, b'{"score": 1' + b"0" * 400 + b"}")], None, Outcome.ERROR, 1),
        ([(200, b"[" * 100_000)], None, Outcome.ERROR, 1),
        ([(200, b"I am afraid")], None, Outcome.ERROR, 1),
    ],
)
def test_the_plugin_that_asks_a_service(
    judge: tuple[type[Judge], str],
    answers: list[tuple[int, bytes]],
    value: float | None,
    outcome: Outcome,
    requests: int,
) -> None:
    handler, url = judge
    handler.answers = list(answers)
    part = only_part(rubric(f"{EXAMPLES}/rewards/http_judge.py:http_judge", args={"url": url}), "so 7 \ud800")
    assert (part.value, part.outcome) == (value, outcome)
    assert handler.heard == [{"uid": "0:p/0", "answer": "so 7 \ud800", "gold": "7"}] * requests


def test_the_key_of_the_service_comes_from_the_environment(
    judge: tuple[type[Judge], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    handler, url = judge
    handler.answers = [(200, b'{"score": 1.0}')]
    monkeypatch.setenv("JUDGE_KEY", "canary")
    only_part(rubric(f"{EXAMPLES}/rewards/http_judge.py:http_judge", args={"url": url, "key_env": "JUDGE_KEY"}))
    assert handler.authorization == "Bearer canary"


def test_a_service_that_is_not_there_gives_no_verdict() -> None:
    scorer = rubric(f"{EXAMPLES}/rewards/http_judge.py:http_judge", args={"url": "http://127.0.0.1:9/score"})
    part = only_part(scorer)
    assert (part.value, part.outcome) == (None, Outcome.ERROR)
    assert "ConnectError" in part.detail
