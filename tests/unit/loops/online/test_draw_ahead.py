"""Drawing ahead with engines and graders that answer by rule: every prompt once, young enough, also after a resume."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pyarrow as pa
import pytest

from pangu_rl.config.stages import GrpoConfig
from pangu_rl.data.stream import PromptStream
from pangu_rl.errors import Preempted, RunError
from pangu_rl.loops.online.collect import Collector
from pangu_rl.loops.online.draw_ahead import DrawAhead
from pangu_rl.loops.scored_completions import sampling_seed
from pangu_rl.records import Begun, Completion, FinishReason, Outcome, Part, Prompt, RolloutRequest, Score
from tests.unit.loops.online.test_collect import OneToken

PROMPTS = [Prompt(uid=f"p{i}", messages=({"role": "user", "content": "?"},), answer="1") for i in range(400)]
LENGTH = 4


class LuckyPool:
    """Each look makes a token of some answers, by luck; a token is its place, and its log-prob its version."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.weight_version = 1
        self.asked: dict[str, RolloutRequest] = {}
        self.submitted: list[str] = []

    def submit(self, requests: Sequence[RolloutRequest]) -> None:
        self.asked |= {request.uid: request for request in requests}
        self.submitted += [request.uid for request in requests]

    def finished(self, wait_s: float = 0.0) -> list[Completion]:
        return list(self._finished()) if wait_s else []

    def in_flight(self) -> list[RolloutRequest]:
        return list(self.asked.values())

    def withdraw(self) -> None:
        self.asked = {}

    def _finished(self) -> Iterator[Completion]:
        for uid, request in list(self.asked.items()):
            if self.rng.random() < 0.5:
                continue
            had = request.begun or Begun()
            begun = Begun(
                token_ids=(*had.token_ids, len(had.token_ids)),
                logprobs=(*had.logprobs, -float(self.weight_version)),
                weight_versions=(*had.weight_versions, self.weight_version),
            )
            self.asked[uid] = replace(request, begun=begun)
            if len(begun.token_ids) == LENGTH:
                del self.asked[uid]
                yield Completion(
                    uid=uid,
                    group=request.group,
                    prompt_uid=request.prompt_uid,
                    token_ids=begun.token_ids,
                    logprobs=begun.logprobs,
                    text=f"{uid} {request.seed}",
                    finish_reason=FinishReason.STOP,
                    weight_versions=begun.weight_versions,
                )


class LateRewards:
    """Index 0 is right; some scores come a look later. Scores of prompts named in `lost` have no verdict."""

    def __init__(self, lost: frozenset[str] = frozenset()) -> None:
        self.lost = lost
        self.under_way: list[Score] = []

    def submit(self, prompt: Prompt, completion: Completion) -> None:
        value = None if prompt.uid in self.lost else float(completion.uid.endswith("/0"))
        outcome = Outcome.TIMEOUT if value is None else Outcome.CORRECT if value else Outcome.INCORRECT
        part = Part(value=value, outcome=outcome, detail="by rule")
        self.under_way.append(Score(completion_uid=completion.uid, reward=value, parts={"accuracy": part}))

    def waiting_for(self) -> list[str]:
        return [score.completion_uid for score in self.under_way]

    def finished(self, wait_s: float = 0.0) -> dict[str, Score]:
        count = len(self.under_way) if wait_s else len(self.under_way) // 2
        done, self.under_way = self.under_way[:count], self.under_way[count:]
        return {score.completion_uid: score for score in done}


def drawing(seed: int, staleness: int = 2, steps: int = 9, rewards: LateRewards | None = None) -> DrawAhead:
    config = GrpoConfig.model_validate(
        {
            "model": {"path": "m"},
            "data": {"train": "t"},
            "rollout": {"completions": 3},
            "algorithm": {"correction": {"high": 2.0}},
            "trainer": {"run_dir": "r", "steps": steps, "prompts_per_step": 4, "max_staleness": staleness},
        }
    )
    stream = PromptStream(PROMPTS, shuffle=True, seed=3)
    collector = Collector(config, stream, OneToken(), LuckyPool(seed), rewards or LateRewards())
    return DrawAhead(collector, PROMPTS)


def run_steps(ahead: DrawAhead, first: int, last: int, background: ThreadPoolExecutor) -> list[str]:
    """Groups of the steps, in order, each step followed by a sync."""
    trained = []
    for step in range(first, last + 1):
        batch = ahead.take(step)
        with ahead.meanwhile(background):
            trained += [group.group for group in batch.trained]
        for group in batch.groups:
            assert [c.uid for c in group.completions] == [f"{group.group}/{i}" for i in range(3)]
            assert group.advantages == pytest.approx([1.154699, -0.577350, -0.577350], abs=1e-5)
            assert all(c.token_ids == tuple(range(LENGTH)) for c in group.completions)
            assert all(c.logprobs == tuple(-float(v) for v in c.weight_versions) for c in group.completions)
        ahead._pool.weight_version = step + 1
    return trained


@pytest.fixture
def background() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


@pytest.mark.parametrize("staleness", [1, 4])
def test_every_prompt_trains_once_and_none_is_drawn_in_vain(background: ThreadPoolExecutor, staleness: int) -> None:
    """`take` itself asserts the age of every token."""
    ahead = drawing(seed=0, staleness=staleness)
    trained = run_steps(ahead, 1, 9, background)
    assert len(set(trained)) == len(trained) == 36
    assert sorted(ahead._pool.submitted) == sorted(f"{group}/{i}" for group in trained for i in range(3))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("untrained", [False, True])
def test_a_resumed_run_goes_on_with_what_was_in_flight(
    background: ThreadPoolExecutor, seed: int, untrained: bool
) -> None:
    """The state is taken after step 3, or while the groups of step 4 are taken and not trained; it goes through a file.
    Answers that had begun keep their tokens and their seeds, finished ones are not drawn again."""
    first = drawing(seed)
    trained = run_steps(first, 1, 3, background)
    if untrained:
        first.take(4)
    stream, table = first.state(3)
    begun = {r.uid: r for r in first._pool.in_flight()}
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    kept = pa.ipc.open_file(sink.getvalue()).read_all()

    second = drawing(seed + 100)
    second._pool.weight_version = 4
    second._collector.stream.load_state_dict(stream)
    second.restore(3, kept)
    resumed = {r.uid: r for r in second._pool.in_flight()}
    assert {uid: (r.seed, r.begun) for uid, r in resumed.items()} == {u: (r.seed, r.begun) for u, r in begun.items()}
    assert second.state(3)[0] == stream
    trained += run_steps(second, 4, 9, background)
    assert len(set(trained)) == len(trained) == 36
    assert not first._pool.asked.keys() & second._pool.asked.keys()


def test_a_restore_gives_up_what_is_under_way(background: ThreadPoolExecutor) -> None:
    """Ranks were lost and the run goes on from before its first step, with the same engines and graders."""
    ahead = drawing(seed=1)
    unread = ahead._collector.stream.state_dict()
    run_steps(ahead, 1, 2, background)
    ahead._collector.stream.load_state_dict(unread)
    ahead._pool.weight_version = 1
    ahead.restore(0, None)
    trained = run_steps(ahead, 1, 9, background)
    assert len(set(trained)) == len(trained) == 36


def test_rows_without_a_verdict_end_the_step_by_name(background: ThreadPoolExecutor) -> None:
    ahead = drawing(seed=0, rewards=LateRewards(lost=frozenset(prompt.uid for prompt in PROMPTS)))
    with pytest.raises(RunError, match="12 of 12 completions have no verdict"):
        ahead.take(1)


def test_errors_of_the_thread_reach_the_loop_and_a_preemption_waits_for_it(background: ThreadPoolExecutor) -> None:
    ahead = drawing(seed=0)
    ahead.take(1)

    def fail(error: Exception) -> None:
        def finished(wait_s: float = 0.0) -> list[Completion]:
            raise error

        ahead._pool.finished = finished

    fail(RunError("no engine is left"))
    with pytest.raises(RunError, match="no engine is left"), ahead.meanwhile(background):
        pass
    fail(Preempted("SIGTERM"))
    with ahead.meanwhile(background):
        pass


def test_seeds_are_those_of_the_version_that_admitted() -> None:
    ahead = drawing(seed=0)
    ahead.take(1)
    answer = next(iter(ahead._batch.groups[0].completions))
    assert answer.text.split()[1] == str(sampling_seed(0, 1, answer.uid))
