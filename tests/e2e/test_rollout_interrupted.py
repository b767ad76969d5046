"""Answers of the real engine that are broken off and gone on with, and engines that hang for real."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from pangu_rl.records import RolloutRequest, SamplingParams
from rollout.pool import RolloutPool
from rollout.probe import mean_gap
from tests.e2e.published import perturbed, publish
from tests.e2e.test_rollout_vllm import BF16_NATS, forward_logprobs, requests, spec_for
from tests.small_ray import small_ray
from tests.unit.rollout.asked import wait_for

LONG = SamplingParams(max_new_tokens=200, ignore_eos=True)


@pytest.fixture(scope="module")
def ray_session() -> Iterator[None]:
    with small_ray():
        yield


@pytest.fixture(
    scope="module", params=[pytest.param(False, marks=pytest.mark.slow), True], ids=["plain", "prefix caching"]
)
def pool(request: pytest.FixtureRequest, ray_session: None, tiny_model: Path) -> Iterator[RolloutPool]:
    pool = RolloutPool(spec_for(tiny_model, actors=2, prefix_caching=request.param))
    pool.start()
    yield pool
    pool.close()


@pytest.fixture
def long_model(tiny_model: Path, tmp_path: Path) -> Path:
    """The same, for answers of many seconds."""
    folder = Path(shutil.copytree(tiny_model, tmp_path / "long"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 16_384}))
    return folder


def interrupted(pool: RolloutPool, wanted: list[RolloutRequest]) -> list[RolloutRequest]:
    """Submit and break off in mid-answer; what waits, in the order asked for."""
    pool.submit(wanted)
    seconds = 0.05  # and more each time: how long an answer takes, and its first token, is the machine's
    while not any(r.begun for r in pool.in_flight()):
        assert pool.in_flight(), "all were answered before they were broken off"
        pool._dispatch_live()
        time.sleep(seconds)
        pool.interrupt()
        seconds *= 1.2
    assert not pool.finished()
    order = [r.uid for r in wanted]
    return sorted(pool.in_flight(), key=lambda r: order.index(r.uid))


def test_over_a_sync_each_token_has_the_log_prob_of_the_weights_that_drew_it(pool, tiny_model, tmp_path):
    weights = load_file(tiny_model / "model.safetensors")
    moved = perturbed(weights)
    reference = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.bfloat16)
    pool.sync(publish(weights, 1, tmp_path / "one"))
    wanted = requests(2, LONG)
    begun = {r.uid: r.begun for r in interrupted(pool, wanted) if r.begun}
    pool.sync(publish(moved, 2, tmp_path / "two"))
    for completion in wait_for(pool, len(wanted)):
        kept = begun[completion.uid].token_ids if completion.uid in begun else ()
        assert completion.token_ids[: len(kept)] == kept and len(completion.token_ids) == 200
        assert completion.weight_versions == (1,) * len(kept) + (2,) * (200 - len(kept))
        ids = [*wanted[0].prompt_token_ids, *completion.token_ids]
        for named, part in ((weights, slice(0, len(kept))), (moved, slice(len(kept), 200))):
            reference.load_state_dict(named, strict=False)
            if part.start < part.stop:
                expected = forward_logprobs(reference, ids)[-200:][part]
                assert mean_gap([expected], [completion.logprobs[part]]) < BF16_NATS
    assert not pool.in_flight()


def test_going_on_is_a_function_of_seed_and_place(pool):
    """Two engines that go on from the same tokens draw the same, to the last bit, and not what the beginning drew."""
    waiting = next(r for r in interrupted(pool, requests(1, LONG)) if r.begun)
    wait_for(pool, 4)
    twins = [replace(waiting, uid=f"{group}/0", group=group) for group in ("a", "b")]
    left, right = pool.generate(twins)
    assert (left.token_ids, left.logprobs) == (right.token_ids, right.logprobs)
    length = len(waiting.begun.token_ids)
    assert left.token_ids[length : 2 * length] != left.token_ids[:length]


@pytest.mark.slow
def test_a_hung_engine_is_found_and_an_answer_ten_times_as_long_as_the_limit_finishes(ray_session, long_model):
    silence_s = 2.0
    pool = RolloutPool(spec_for(long_model, actors=2, max_model_tokens=16_384, silence_s=silence_s))
    pool.start()
    wanted = requests(2, SamplingParams(max_new_tokens=10_000, ignore_eos=True), size=1)
    victim, began = pool.processes()[0].pid, time.monotonic()
    pool.submit(wanted)
    found: list[float] = []
    stopped: list[float] = []

    def watch() -> None:
        now = time.monotonic()
        if not stopped and pool.progress().get("0/0", 0) > 50:
            os.kill(victim, signal.SIGSTOP)
            stopped.append(now)
        if pool.restarts and not found:
            found.append(now)

    pool._crew._stop = watch
    times: dict[str, float] = {}
    while len(times) < len(wanted):
        times |= {completion.uid: time.monotonic() - began for completion in wait_for(pool, 1)}
    pool.close()
    print(f"found after {found[0] - stopped[0]:.1f} s; answers after {times}")
    assert found[0] - stopped[0] < 2 * silence_s
    assert times["1/0"] > 10 * silence_s and pool.restarts == 1
