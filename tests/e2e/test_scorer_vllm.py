"""Real LLM scorers: vLLM serving SmolLM2 on loopback, killed in the middle; and an engine of ours in a Ray actor.

Its judgement is poor and that is fine: the path is the point.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from pangu_rl.accelerators import get_accelerator
from pangu_rl.config.load import dump_config
from pangu_rl.config.paths import resolve_path
from pangu_rl.config.sections.rewards import RewardFunctionConfig, RewardsConfig
from pangu_rl.config.sections.scorers import (
    CanaryConfig,
    LimitsConfig,
    RetryConfig,
    ScorerConfig,
    ScorerEngineConfig,
    ScorersConfig,
)
from pangu_rl.loops.actors.scorer_engine import scorer_engines
from rewards.scorers.panel import ScorerPanel
from rewards.scorers.records import PanelResult, ScoredItem
from rewards.service import RewardPool
from rollout.actors.actor import QUIET
from tests.builders import SMOLLM2
from tests.unit.rewards.builders import completion, prompt

pytestmark = pytest.mark.slow

START_S = 240.0
RETRY = RetryConfig(attempts=3, backoff_s=0.2, max_backoff_s=1.0, breaker_failures=3, breaker_cooldown_s=1.0)
ITEMS = [
    ScoredItem(
        uid=f"0:p{i}/0",
        question=f"What is {i} + {i + 3}?",
        reference=str(2 * i + 3),
        response=f"The answer is \\boxed{{{2 * i + 3 + i % 3}}}.",
    )
    for i in range(50)
]


class Server:
    """`vllm serve` in a process group of its own."""

    def __init__(self, log: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1"]
        command += ["--port", str(self.port), "--model", str(resolve_path(SMOLLM2)), "--served-model-name", "smollm2"]
        command += ["--enforce-eager", "--max-model-len", "2048", "--dtype", "bfloat16"]
        command += ["--structured-outputs-config", json.dumps({"backend": "xgrammar", "disable_any_whitespace": True})]
        environment = {**os.environ, **QUIET, "VLLM_CPU_KVCACHE_SPACE": "1"}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)

    def wait(self) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            assert self._process.poll() is None, self._log.read_text()[-3000:]
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=2).close()
                return
            except OSError:
                time.sleep(0.5)
        raise AssertionError(f"no server within {START_S} s: {self._log.read_text()[-3000:]}")

    def kill(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "server.log")
    server.start()
    yield server
    server.kill()


def scorers(cache: Path, judge: ScorerConfig, **settings: object) -> ScorersConfig:
    return ScorersConfig(scorers=(judge,), cache=str(cache), canaries=CanaryConfig(share=0.1), **settings)


def assert_honest(results: list[PanelResult]) -> None:
    for result in results:
        if result.value is None:
            assert result.missing and all(result.uid in reason and "smollm2" in reason for reason in result.missing)
        else:
            assert 1.0 <= result.value <= 5.0 and len(result.votes) == 3 and not result.missing
        assert all(1 <= vote.score <= 5 for vote in result.votes)


async def score_through_a_kill(panel: ScorerPanel, server: Server) -> tuple[list[PanelResult], float]:
    """The first 15 in peace, the kill while the next 10 are under way, 10 while it is down, the last 15 after."""
    before = await asyncio.gather(*(panel.score(item) for item in ITEMS[:15]))
    tasks = [asyncio.create_task(panel.score(item)) for item in ITEMS[15:25]]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    server.kill()
    killed = time.monotonic()
    struck = await asyncio.gather(*tasks)
    down = await asyncio.gather(*(panel.score(item) for item in ITEMS[25:35]))
    settled = time.monotonic() - killed
    assert all(result.value is None for result in down), "nobody scores while it is down"
    server.start()
    await asyncio.to_thread(server.wait)
    await asyncio.sleep(RETRY.breaker_cooldown_s)
    after = await asyncio.gather(*(panel.score(item) for item in ITEMS[35:]))
    assert all(result.value is not None for result in after), [result.missing for result in after]
    return [*before, *struck, *down, *after], settled


def test_fifty_completions_through_a_kill_of_the_server(server: Server, tmp_path: Path) -> None:
    judge = ScorerConfig(
        name="smollm2",
        model="smollm2",
        base_url=f"http://127.0.0.1:{server.port}/v1",
        retry=RETRY,
        max_reason_chars=120,
        limits=LimitsConfig(timeout_s=120.0),
    )
    config = scorers(tmp_path / "replies.sqlite", judge)

    async def run() -> None:
        server.wait()
        started = time.monotonic()
        panel = ScorerPanel(config)
        results, settled = await score_through_a_kill(panel, server)
        seconds = time.monotonic() - started
        spent = panel._cache.spent("smollm2")
        await panel.close()
        assert_honest(results)
        assert [result.uid for result in results] == [item.uid for item in ITEMS]
        assert settled < 30.0, "an outage ends in no verdicts, and soon"
        panel = ScorerPanel(config)  # a new run on the same cache
        again = await asyncio.gather(*(panel.score(item) for item in ITEMS))
        assert_honest(again)
        assert all(result.value is not None for result in again), [r.missing for r in again if r.value is None]
        kept = [(old, new) for old, new in zip(results, again) if old.value is not None]
        assert all(old == new for old, new in kept)
        more = panel._cache.spent("smollm2") - spent
        canaries = {name: (count.fooled, count.asked) for name, count in panel.canaries.counts.items()}
        await panel.close()
        print(
            f"50 completions in {seconds:.0f} s with a restart, {len(kept)} verdicts; settled {settled:.1f} s after "
            f"the kill; resumed: 50 verdicts, {more} of {spent + more} tokens; canaries (fooled, asked) {canaries}"
        )

    asyncio.run(run())


@pytest.fixture
def ray_session() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False, object_store_memory=80 * 2**20)
    yield
    ray.shutdown()


def test_an_engine_of_ours_scores_for_reward_workers_and_comes_back(
    ray_session: None, tiny_model: Path, tmp_path: Path
) -> None:
    judge = ScorerConfig(
        name="smollm2",
        model=str(tiny_model),
        engine=ScorerEngineConfig(max_model_tokens=1024, kv_cache_gib=0.1),
        max_reason_chars=20,
        retry=RETRY,
    )
    path = tmp_path / "scorers.yaml"
    path.write_text(dump_config(scorers(tmp_path / "replies.sqlite", judge)))
    function = RewardFunctionConfig(name="llm_score", args={"config": str(path)})
    rewards = RewardsConfig(functions=(function,), timeout_s=120.0, max_no_verdict_share=0.5)
    with scorer_engines(rewards, get_accelerator("cpu")) as (engine,):
        pool = RewardPool(rewards)
        for text in ("42", "41", "x" * 4000):
            pool.submit(prompt("42"), completion(text, uid=f"0:p/{text[:2]}"))
        scores = pool.collect()
        assert all(1.0 <= scores[uid].reward <= 5.0 for uid in ("0:p/42", "0:p/41"))
        assert scores["0:p/xx"].reward is None, "one that is too long costs the others nothing"
        assert "maximum context length" in scores["0:p/xx"].parts["llm_score"].detail
        os.kill(ray.get(engine.pid.remote()), signal.SIGKILL)
        pool.submit(prompt("42"), completion("43", uid="0:p/43"))
        (found,) = pool.collect().values()
        assert 1.0 <= found.reward <= 5.0 and len(found.parts["llm_score"].votes) == 3
        pool.close()
