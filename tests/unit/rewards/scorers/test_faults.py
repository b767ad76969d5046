"""Every way in which an endpoint can fail, on a real connection: retried, bounded, and never a number."""

from __future__ import annotations

import asyncio
import gzip
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pangu_rl.config.sections.scorers import LimitsConfig, RetryConfig, ScorerConfig
from pangu_rl.errors import RunError
from pangu_rl.records import Outcome
from rewards.scorers.panel import ScorerPanel
from rewards.scorers.records import PanelResult, ScoredItem
from tests.unit.rewards.scorers.endpoint import FAST, Answer, Endpoint, panel_config, scorer, serving, verdict

QUICK = LimitsConfig(timeout_s=0.4)


def limits(fault: str) -> LimitsConfig:
    """Only a body that drips meets its deadline: on a loaded machine the others must not."""
    return QUICK if fault == "slow body" else LimitsConfig(timeout_s=5.0)


def item(response: str = "7", uid: str = "0:p/0") -> ScoredItem:
    return ScoredItem(uid=uid, question="6 + 1?", reference="7", response=response)


def score(cache: Path, *scorers: ScorerConfig, items: int = 1, **settings: object) -> list[PanelResult]:
    async def run() -> list[PanelResult]:
        panel = ScorerPanel(panel_config(cache, *scorers, **settings))
        try:
            return await asyncio.gather(*(panel.score(item(str(i), f"0:p/{i}")) for i in range(items)))
        finally:
            await panel.close()

    return asyncio.run(run())


TRANSIENT = {
    "500": Answer(status=500),
    "503": Answer(status=503, raw=b"<html>upstream</html>"),
    "429": Answer(status=429),
    "hang up": Answer(hang_up=True),
    "slow body": Answer('{"reason": "r", "score": 5}', seconds_per_byte=0.05),
    "half of the body": Answer(raw=b'{"id": "1", "choices": [{"index"'),
    "a web page": Answer(raw=b"<html>hello</html>", headers={"Content-Type": "text/html"}),
    "no choices": Answer(raw=b'{"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": []}'),
    "null choices": Answer(raw=b'{"id": "1", "object": "chat.completion", "created": 1, "model": "m"}'),
    "a choice that is null": Answer(raw=b'{"choices": [null]}'),
    "choices that are no list": Answer(raw=b'{"choices": {"0": 5}}'),
    "a message that is text": Answer(raw=b'{"choices": [{"message": "5"}]}'),
    "content that is a number": Answer(raw=b'{"choices": [{"message": {"role": "assistant", "content": 5}}]}'),
    "a list": Answer(raw=b"[5]"),
    "a number": Answer(raw=b"5"),
    "usage that is text": Answer('{"reason": "r", "score": 5}', usage={"prompt_tokens": "many"}),
    "usage that is two texts": Answer(
        '{"reason": "r", "score": 5}', usage={"prompt_tokens": "a", "completion_tokens": "b"}
    ),
    "usage beyond floats": Answer(
        raw=b'{"choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": '
        b'"{\\"reason\\": \\"r\\", \\"score\\": 5}"}}], "usage": {"prompt_tokens": 1e999, "completion_tokens": 1}}'
    ),
    "usage beyond integers": Answer(
        '{"reason": "r", "score": 5}', usage={"prompt_tokens": 10**30, "completion_tokens": 1}
    ),
    "usage below zero": Answer('{"reason": "r", "score": 5}', usage={"prompt_tokens": -9, "completion_tokens": 10}),
    "usage that is no number": Answer(
        '{"reason": "r", "score": 5}', usage={"prompt_tokens": float("nan"), "completion_tokens": 1}
    ),
    "a deep list": Answer(raw=b"[" * 100_000),
    "a deep choice": Answer(raw=b'{"choices": [' + b"[" * 900 + b"]" * 900 + b"]}"),
    "half a surrogate pair": Answer('\ud800{"reason": "r", "score": 5}'),
    "a strange charset": Answer(status=500, raw=b"x", headers={"Content-Type": "text/html; charset=zlib"}),
    "an endless body": Answer(raw=b"0" * 2**16, endless=True),
    "an endless error": Answer(status=500, raw=b"0" * 2**16, endless=True),
    "a bomb": Answer(raw=gzip.compress(bytes(64 * 2**20)), headers={"Content-Encoding": "gzip"}),
    "half JSON": Answer('{"reason": "r", "sco'),
    "empty": Answer(""),
    "null": Answer(None),
    "out of range": Answer('{"reason": "r", "score": 9}'),
    "refusal": Answer(None, refusal="I cannot judge that."),
    "cut": Answer('{"reason": "r", "score": 5}', finish_reason="length"),
    "filtered": Answer('{"reason": "r", "score": 5}', finish_reason="content_filter"),
    "prose": Answer("The score is 5."),
    "another language": Answer("得分：5"),
}


@pytest.mark.parametrize("name", TRANSIENT)
def test_a_passing_fault_costs_a_retry_and_no_verdict(tmp_path: Path, name: str) -> None:
    with serving() as endpoint:
        endpoint.script(TRANSIENT[name], verdict(5))
        (found,) = score(tmp_path / "c.sqlite", scorer(endpoint.url, limits=limits(name)))
        assert (found.value, found.missing) == (5.0, ())
        assert len(endpoint.bodies) == 2


@pytest.mark.parametrize("name", TRANSIENT)
def test_a_lasting_fault_is_no_verdict_with_its_reason(tmp_path: Path, name: str) -> None:
    with serving() as endpoint:
        endpoint.script(TRANSIENT[name])
        (found,) = score(tmp_path / "c.sqlite", scorer(endpoint.url, limits=limits(name)))
        assert len(endpoint.bodies) == FAST.attempts
    part = found.part()
    assert (part.value, part.outcome, part.votes) == (None, Outcome.ERROR, ())
    assert part.detail.startswith("scorer judge, criterion similarity, sample 0:p/0: no ")
    assert "\n" not in part.detail and len(part.detail) < 400


@pytest.mark.parametrize("status", [200, 500])
def test_no_more_than_a_bounded_answer_is_read(tmp_path: Path, status: int) -> None:
    limits = LimitsConfig(timeout_s=60.0)
    with serving() as endpoint:
        endpoint.script(Answer(status=status, raw=b"0" * 2**16, endless=True))
        start = time.monotonic()
        (found,) = score(tmp_path / "c.sqlite", scorer(endpoint.url, limits=limits))
        assert time.monotonic() - start < 20.0, "its size ends it, not the clock"
    assert "an answer of more than 4194304 bytes" in found.missing[0]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 302])
def test_a_refused_request_is_not_repeated(tmp_path: Path, status: int) -> None:
    with serving() as endpoint:
        endpoint.script(Answer("no such model", status=status, headers={"Location": endpoint.url + "/elsewhere"}))
        (found,) = score(tmp_path / "c.sqlite", scorer(endpoint.url))
        assert found.value is None and f"HTTP {status}" in found.missing[0]
        assert len(endpoint.bodies) == 1


def test_a_closed_port_and_a_connection_that_is_never_taken(tmp_path: Path) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        start = time.monotonic()
        (found,) = score(tmp_path / "a", scorer(f"http://127.0.0.1:{full.getsockname()[1]}", limits=QUICK))
        assert found.value is None and "no answer within 0.4 s" in found.missing[0]
        assert time.monotonic() - start < 5.0
        for one in waiting:
            one.close()
        port = full.getsockname()[1]
    (found,) = score(tmp_path / "b", scorer(f"http://127.0.0.1:{port}"))
    assert found.value is None and "no reply" in found.missing[0]


def test_waits_grow_are_capped_and_follow_the_server(tmp_path: Path) -> None:
    retry = RetryConfig(attempts=3, backoff_s=0.01, max_backoff_s=0.6, breaker_failures=100)
    with serving() as endpoint:
        busy = Answer(status=429, headers={"Retry-After": "0.3"})
        endless = Answer(status=503, headers={"Retry-After": "3600"})
        endpoint.script(busy, endless, verdict(3))
        (found,) = score(tmp_path / "c.sqlite", scorer(endpoint.url, retry=retry))
        assert found.value == 3.0
        first, second, third = endpoint.times
        assert 0.3 <= second - first < 0.55, "as long as the server asked"
        assert 0.6 <= third - second < 1.0, "no longer than max_backoff_s"


def test_a_bad_reply_is_asked_again_with_another_draw(tmp_path: Path) -> None:
    with serving() as endpoint:
        endpoint.script(Answer("five"), verdict(2))
        score(tmp_path / "c.sqlite", scorer(endpoint.url))
        first, second = endpoint.bodies
        assert (first["temperature"], first["seed"]) == (0.0, 0)
        assert (second["temperature"], second["seed"]) == (0.7, 1)


def test_a_dead_scorer_is_left_alone_and_taken_back(tmp_path: Path) -> None:
    retry = RetryConfig(attempts=1, backoff_s=0.01, breaker_failures=3, breaker_cooldown_s=0.3)

    async def run(endpoint: Endpoint) -> None:
        panel = ScorerPanel(panel_config(tmp_path / "c.sqlite", scorer(endpoint.url, retry=retry)))
        endpoint.script(Answer(status=500))
        lost = [await panel.score(item(str(i))) for i in range(10)]
        assert [result.value for result in lost] == [None] * 10
        assert len(endpoint.bodies) == 3, "after three failures nobody asks"
        assert "left alone" in lost[-1].missing[0] and "HTTP 500" in lost[-1].missing[0]
        await asyncio.sleep(0.35)
        await asyncio.gather(*(panel.score(item(str(i))) for i in range(10, 15)))
        assert len(endpoint.bodies) == 4, "one tries, the others wait for it and give up with it"
        await asyncio.sleep(0.35)
        endpoint.script(verdict(4))
        back = await asyncio.gather(*(panel.score(item(str(i))) for i in range(20, 30)))
        assert [result.value for result in back] == [4.0] * 10, "one tries, and the others follow"
        await panel.close()

    with serving() as endpoint:
        asyncio.run(run(endpoint))


def test_a_babbling_or_refusing_scorer_is_not_taken_for_a_dead_one(tmp_path: Path) -> None:
    retry = RetryConfig(attempts=1, breaker_failures=2)
    for answer in (Answer("five"), Answer(status=400)):
        with serving(lambda body, answer=answer: answer) as endpoint:
            score(tmp_path / endpoint.url[-8:-3], scorer(endpoint.url, retry=retry), items=8)
            assert len(endpoint.bodies) == 8


def test_one_of_two_scorers_down_follows_the_declared_rule(tmp_path: Path) -> None:
    with serving(lambda body: verdict(4)) as good, serving(lambda body: Answer(status=500)) as dead:
        two = (scorer(good.url, "good"), scorer(dead.url, "dead"))
        (masked,) = score(tmp_path / "c.sqlite", *two, on_missing_vote="mask")
        assert masked.value is None
        assert [(vote.scorer, vote.score) for vote in masked.votes] == [("good", 4)], "votes are kept all the same"
        assert masked.part().votes == masked.votes and "scorer dead" in masked.part().detail
        (dropped,) = score(tmp_path / "c.sqlite", *two, on_missing_vote="drop_scorer")
        assert dropped.value == 4.0 and len(dropped.missing) == 1
        (none,) = score(tmp_path / "c.sqlite", two[1], on_missing_vote="drop_scorer")
        assert none.value is None


def test_a_scorer_that_lost_one_vote_is_dropped_whole(tmp_path: Path) -> None:
    def lenient_until_asked_about_language(body: dict) -> Answer:
        return Answer(status=500) if "linguistic" in body["messages"][0]["content"] else verdict(5)

    criteria = ("similarity", "linguistic_quality")
    with serving(lenient_until_asked_about_language) as half, serving(lambda body: verdict(2)) as good:
        two = (scorer(half.url, "half"), scorer(good.url, "good"))
        (found,) = score(tmp_path / "c", *two, criteria=criteria, on_missing_vote="drop_scorer")
        assert found.value == 2.0, "its lenient vote would lift the mean of similarity alone"
        (found,) = score(tmp_path / "c", two[0], criteria=criteria, on_missing_vote="drop_scorer")
        assert found.value is None


def test_the_budget_stops_the_run_and_survives_a_restart(tmp_path: Path) -> None:
    limits = LimitsConfig(token_budget=250, concurrency=1)
    with serving() as endpoint:
        judge = scorer(endpoint.url, limits=limits)
        with pytest.raises(RunError, match=r"scorer judge has spent 300 tokens, its limits.token_budget is 250"):
            score(tmp_path / "c.sqlite", judge, items=10)
        assert len(endpoint.bodies) == 3
        with pytest.raises(RunError, match="300 tokens"):
            score(tmp_path / "c.sqlite", judge, items=10)
        assert len(endpoint.bodies) == 3
        assert [r.value for r in score(tmp_path / "c.sqlite", judge, items=3)] == [4.0] * 3, "paid votes remain"


def test_tokens_of_bad_replies_and_of_silent_endpoints_count_too(tmp_path: Path) -> None:
    limits = LimitsConfig(token_budget=1000, concurrency=1)
    for name, answer in {"bad": Answer("five"), "silent": Answer('{"reason": "", "score": 4}', usage=None)}.items():
        with serving(lambda body, answer=answer: answer) as endpoint, pytest.raises(RunError, match="token_budget"):
            score(tmp_path / name, scorer(endpoint.url, limits=limits), items=10)


def test_requests_keep_their_pace_and_their_number(tmp_path: Path) -> None:
    def slowly(body: dict) -> Answer:
        return Answer('{"reason": "", "score": 4}', seconds_per_byte=0.001)

    with serving(slowly) as endpoint:
        score(tmp_path / "a", scorer(endpoint.url, limits=LimitsConfig(concurrency=3)), items=9)
        # A client may be on with its next request before the server has left the last one.
        assert endpoint.most_at_once in (3, 4)
    with serving() as endpoint:
        score(tmp_path / "b", scorer(endpoint.url, limits=LimitsConfig(requests_per_minute=240)), items=5)
        assert endpoint.times[-1] - endpoint.times[0] >= 0.6, "1.0 s, less what the first one was late"


@pytest.mark.parametrize("settle", [verdict(5), Answer(status=500)])
def test_a_cancelled_score_leaves_the_panel_usable(tmp_path: Path, settle: Answer) -> None:
    async def run(endpoint: Endpoint, wait: Callable[..., object] = asyncio.wait_for) -> None:
        endpoint.script(Answer(status=503, headers={"Retry-After": "9"}), settle)
        retry = RetryConfig(attempts=2, breaker_failures=1, breaker_cooldown_s=0.0)
        limits = LimitsConfig(concurrency=1, timeout_s=2.0)
        panel = ScorerPanel(panel_config(tmp_path / "c", scorer(endpoint.url, retry=retry, limits=limits)))
        with pytest.raises(TimeoutError):
            await wait(panel.score(item()), 0.2)
        endpoint.script(verdict(3))
        assert (await panel.score(item())).value == 3.0
        await panel.close()

    with serving() as endpoint:
        asyncio.run(run(endpoint))
