"""The sampling loop with a pool and a grader that answer by rule: shards, resuming, scores, pairs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pangu_rl.algorithms.rejection_sampling import Candidate
from pangu_rl.config.sampling import DifficultyConfig, PairsConfig
from pangu_rl.data.packs.batching import TrainingRow
from pangu_rl.errors import DataError, Preempted, RewardError
from pangu_rl.loops.actors.engines import Engines
from pangu_rl.loops.sampling.run_pairs import pair_rows
from pangu_rl.loops.sampling.sample import Sampler, candidates_of, final_score, in_batches, settings
from pangu_rl.records import Completion, FinishReason, Outcome, Part, Prompt, RolloutRequest, Score, Vote

PROMPTS = [Prompt(uid=f"p{i}", messages=({"role": "user", "content": f"{i}?"},), answer="1") for i in range(7)]
"""In batches of 3: three shards of 3, 3 and 1."""


class SeedPool:
    """Writes each request's seed as its answer, in reverse order of arrival; dies after so many calls."""

    def __init__(self, calls: int = 99) -> None:
        self.calls = calls

    def start(self) -> None: ...

    def generate(self, requests: Sequence[RolloutRequest]) -> Iterator[Completion]:
        for number, request in enumerate(reversed(requests)):
            if self.calls == 0 and number == 2:
                raise RuntimeError("killed in mid-shard")
            yield Completion(
                uid=request.uid,
                group=request.group,
                prompt_uid=request.prompt_uid,
                token_ids=(1,),
                logprobs=(-1.0,),
                text=str(request.seed),
                finish_reason=FinishReason.STOP,
                weight_versions=(0,),
            )
        self.calls -= 1


class RuleRewards:
    def __init__(self, rule: Callable[[Completion], float | None]) -> None:
        self.rule = rule
        self.scores: dict[str, Score] = {}

    def submit(self, prompt: Prompt, completion: Completion) -> None:
        value = self.rule(completion)
        outcome = Outcome.TIMEOUT if value is None else Outcome.CORRECT if value == 5 else Outcome.INCORRECT
        part = Part(value=value, outcome=outcome, votes=(Vote(scorer="s", criterion="c", score=3, reason="r"),))
        self.scores[completion.uid] = Score(completion_uid=completion.uid, reward=value, parts={"graded": part})

    def collect(self, earlier: Mapping[str, Score]) -> dict[str, Score]:
        found, self.scores = self.scores, {}
        return found


class OneToken:
    def __init__(self) -> None:
        self.digests: dict[str, str] = {}
        self.folder = SimpleNamespace(root=None)

    def prompts(self, prompts: Sequence[Prompt]) -> list[TrainingRow]:
        return [TrainingRow(token_ids=(1,), trained=(False,)) for _ in prompts]


class QuietRun:
    """What a sampler asks of its run, without Ray."""

    def __init__(self, directory: Path) -> None:
        self.dir = directory
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.view = SimpleNamespace(start_at=lambda step: None)
        self.sinks = SimpleNamespace(truncate_after=lambda step: None)
        self.watchdog = SimpleNamespace(processes=None)
        self.preempt_after: int | None = None

    def phase(self, name: str, waiting: Any = tuple) -> Any:
        from contextlib import nullcontext

        return nullcontext()

    def log(self, step: int, metrics: dict[str, float], samples: Any = ()) -> None:
        self.logged.append((step, metrics))

    def raise_if_preempted(self, step: int) -> None:
        if step == self.preempt_after:
            raise Preempted(str(step))


def pairs_config(**changes: Any) -> PairsConfig:
    tree = {
        "model": {"path": "m"},
        "data": {"queries": "q"},
        "trainer": {"run_dir": "r", "prompts_per_step": 3},
    }
    return PairsConfig.model_validate({**tree, "rollout": {"max_model_tokens": 4096}, **changes})


def by_index(completion: Completion) -> float | None:
    """Of every query the first answer is right, the last one wrong; p1 has no wrong one, p2 no verdict at all."""
    index = completion.uid[-1]
    if completion.prompt_uid == "p2":
        return None
    return {"0": 5.0, "3": 3.0 if completion.prompt_uid == "p1" else 1.0}.get(index, 3.0)


def sampler(run: QuietRun, calls: int = 99, **changes: Any) -> Sampler:
    engines = Engines(pool=SeedPool(calls), rewards=RuleRewards(by_index), placement=None)
    return Sampler(pairs_config(**changes), run, OneToken(), lambda: engines)


def stored(run: QuietRun) -> list[dict[str, Any]]:
    return sampler(run).store.read().to_table().to_pylist()


def test_killed_in_mid_shard_and_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    """The first run ends inside its second shard; the next command draws shards 2 and 3 and nothing of shard 1."""
    whole, broken = QuietRun(tmp_path / "a" / "run"), QuietRun(tmp_path / "b" / "run")
    batches = in_batches(pairs_config(), PROMPTS)
    sampler(whole).draw(batches)
    with pytest.raises(RuntimeError, match="mid-shard"):
        sampler(broken, calls=1).draw(batches)
    assert [step for step, _ in broken.logged] == [1]
    sampler(broken).draw(batches)
    assert [step for step, _ in broken.logged] == [1, 2, 3]
    assert stored(broken) == stored(whole)
    assert [row["completion_uid"] for row in stored(whole)] == [f"0:p{i}/{j}" for i in range(7) for j in range(4)]


def test_a_finished_run_starts_no_engine(tmp_path: Path) -> None:
    run = QuietRun(tmp_path / "run")
    batches = in_batches(pairs_config(), PROMPTS)
    sampler(run).draw(batches)

    def fail() -> Engines:
        raise AssertionError("an engine was started")

    Sampler(pairs_config(), run, OneToken(), fail).draw(batches)


def test_a_lost_shard_is_an_error_not_a_gap(tmp_path: Path) -> None:
    run = QuietRun(tmp_path / "run")
    batches = in_batches(pairs_config(), PROMPTS)
    sampler(run).draw(batches)
    (run.dir / "rollouts" / "step_000002.parquet").unlink()
    with pytest.raises(DataError, match="shard 2 of 3 is gone"):
        sampler(run).draw(batches)


def test_sigterm_leaves_after_a_whole_shard(tmp_path: Path) -> None:
    run = QuietRun(tmp_path / "run")
    run.preempt_after = 2
    with pytest.raises(Preempted):
        sampler(run).draw(in_batches(pairs_config(), PROMPTS))
    assert sampler(run).store.steps() == [1, 2]


def test_steps_bound_the_shards_and_may_be_raised_later(tmp_path: Path) -> None:
    run = QuietRun(tmp_path / "run")
    bounded = pairs_config(trainer={"run_dir": "r", "prompts_per_step": 3, "steps": 1})
    sampler(run).draw(in_batches(bounded, PROMPTS))
    assert list(candidates_of(sampler(run).store, 1)) == ["p0", "p1", "p2"]
    sampler(run).draw(in_batches(pairs_config(), PROMPTS))
    assert list(candidates_of(sampler(run).store, 3)) == [prompt.uid for prompt in PROMPTS]
    assert list(candidates_of(sampler(run).store, 1)) == ["p0", "p1", "p2"]


def test_another_epoch_draws_other_samples(tmp_path: Path) -> None:
    first, second = QuietRun(tmp_path / "a"), QuietRun(tmp_path / "b")
    sampler(first).draw([PROMPTS], epoch=0)
    sampler(second).draw([PROMPTS], epoch=1)
    one, two = (candidates_of(sampler(run).store, 1)["p0"] for run in (first, second))
    assert len({candidate.text for candidate in one + two}) == 8


def test_pairs_of_the_stored_candidates(tmp_path: Path) -> None:
    """p1 lacks a wrong answer and p2 a verdict; p6 lies beyond the steps. Votes are kept in the store."""
    run = QuietRun(tmp_path / "run")
    sampler(run).draw(in_batches(pairs_config(), PROMPTS)[:2])
    candidates = candidates_of(sampler(run).store, 2)
    rows, reasons = pair_rows(pairs_config(), PROMPTS, candidates)
    assert list(map(str, reasons)) == ["selected", "no_rejected", "no_verdict", *["selected"] * 3, "not_drawn"]
    assert [row["id"] for row in rows] == ["p0", "p3", "p4", "p5"]
    scores = ["chosen_score", "rejected_score", "rejected_ended"]
    assert list(rows[0]) == ["id", "messages", "chosen", "rejected", "images", "source", *scores]
    assert rows[0]["rejected_ended"] == candidates["p0"][3].whole
    assert rows[0]["messages"] == [{"role": "user", "content": "0?"}]
    assert (rows[0]["chosen"], rows[0]["rejected"]) == (candidates["p0"][0].text, candidates["p0"][3].text)
    assert (rows[0]["chosen_score"], rows[0]["rejected_score"]) == (5.0, 1.0)
    assert json.loads(stored(run)[0]["scorer_votes"])[0]["scorer"] == "s"


def two_parts(first: float | None, second: float | None) -> Score:
    parts = {
        name: Part(value=value, outcome=Outcome.TIMEOUT if value is None else Outcome.INCORRECT)
        for name, value in (("graded", first), ("llm_score", second))
    }
    return Score(completion_uid="c", reward=99.0, parts=parts)


def functions(*weights: float) -> dict[str, Any]:
    names = ("graded", "llm_score")
    return {"rewards": {"functions": [{"name": n, "weight": w} for n, w in zip(names, weights)]}}


def test_one_score_from_several_scorers() -> None:
    """The least, or the mean by weight: (3 x 5 + 1 x 2) / 4 = 4.25; without one verdict there is none."""
    least = pairs_config(**functions(1.0, 1.0))
    assert final_score(two_parts(5.0, 2.0), least).reward == 2.0
    mean = pairs_config(aggregation="mean", **functions(3.0, 1.0))
    assert final_score(two_parts(5.0, 2.0), mean).reward == 4.25
    assert final_score(two_parts(5.0, None), mean).reward is None


def test_a_value_off_the_scale_ends_the_run() -> None:
    with pytest.raises(RewardError, match=r"llm_score, completion c: 0.0 is no score from 1 to 5"):
        final_score(two_parts(5.0, 0.0), pairs_config(**functions(1.0, 1.0)))


def test_difficulty_keeps_the_rewards_sum() -> None:
    config = DifficultyConfig.model_validate(pairs_config().model_dump(include={"model", "data", "rollout", "trainer"}))
    assert final_score(two_parts(1.0, 0.0), config).reward == 99.0


def test_candidates_know_cut_and_right_ones(tmp_path: Path) -> None:
    run = QuietRun(tmp_path / "run")
    sampler(run).draw([PROMPTS[:1]])
    [first, *_, last] = candidates_of(sampler(run).store, 1)["p0"]
    assert isinstance(first, Candidate)
    assert (first.score, first.correct, first.whole, last.correct) == (5.0, True, True, False)


def test_the_settings_name_all_that_decides_and_nothing_else() -> None:
    def named(**changes: Any) -> dict[str, Any]:
        return settings(pairs_config(**changes), PROMPTS, OneToken(), "w")

    base = named()
    assert named(rollout={"max_model_tokens": 4096, "silence_s": 5, "actors": 2}) == base
    assert named(rollout={"max_model_tokens": 4096, "temperature": 0.5}) != base
    assert named(trainer={"run_dir": "other", "prompts_per_step": 3, "steps": 1}) == base
    assert named(trainer={"run_dir": "r", "prompts_per_step": 2}) != base
    assert settings(pairs_config(), PROMPTS[:-1], OneToken(), "w") != base
    assert settings(pairs_config(), PROMPTS, OneToken(), "v") != base
