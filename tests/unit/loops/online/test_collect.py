"""The rollout phase with a pool and a grader that answer by rule: what is drawn, refilled, masked and advantaged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import pytest

from pangu_rl.config.stages import GrpoConfig
from pangu_rl.data.packs.layout import TrainingRow
from pangu_rl.data.stream import PromptStream
from pangu_rl.loops.metrics import rollout_metrics
from pangu_rl.loops.online.collect import Batch, Collector
from pangu_rl.loops.scored_completions import sampling_seed
from pangu_rl.records import Completion, FinishReason, Outcome, Part, Picture, Prompt, RolloutRequest, Score

Rule = Callable[[Completion], float | None]


class RulePool:
    """Finishes requests in reverse order, so that nothing may depend on the order of arrival."""

    def __init__(self, cut: Callable[[RolloutRequest], bool] = lambda request: False) -> None:
        self.cut = cut
        self.asked: list[list[RolloutRequest]] = []

    def generate(self, requests: Sequence[RolloutRequest]) -> Iterator[Completion]:
        self.asked.append(list(requests))
        for request in reversed(requests):
            yield Completion(
                uid=request.uid,
                group=request.group,
                prompt_uid=request.prompt_uid,
                token_ids=(7, 8),
                logprobs=(-1.0, -1.0),
                text=request.uid,
                finish_reason=FinishReason.LENGTH if self.cut(request) else FinishReason.STOP,
                weight_versions=(1, 1),
            )


class RuleRewards:
    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.scores: dict[str, Score] = {}

    def submit(self, prompt: Prompt, completion: Completion) -> None:
        value = self.rule(completion)
        outcome = Outcome.TIMEOUT if value is None else Outcome.CORRECT if value > 0 else Outcome.INCORRECT
        part = Part(value=value, outcome=outcome)
        self.scores[completion.uid] = Score(completion_uid=completion.uid, reward=value, parts={"accuracy": part})

    def collect(self, earlier: Mapping[str, Score]) -> dict[str, Score]:
        found, self.scores = self.scores, {}
        return found


class OneToken:
    """Encodes every prompt as one token, and shows each the picture it names."""

    def prompts(self, prompts: Sequence[Prompt]) -> list[TrainingRow]:
        shown = {path: Picture(path=path, sha256=path, grid=(1, 2, 2), patches="handle") for path in ("a.png",)}
        return [
            TrainingRow(
                token_ids=(len(prompt.messages),),
                trained=(False,),
                positions=np.zeros((3, 1), dtype=np.int64),
                pictures=tuple(shown[path] for path in prompt.images),
            )
            for prompt in prompts
        ]


def first_right(completion: Completion) -> float:
    """Index 0 of every group is right: every group has variance."""
    return float(completion.uid.endswith("/0"))


def collector(rule: Rule, pool: RulePool | None = None, **algorithm: object) -> Collector:
    config = GrpoConfig.model_validate(
        {
            "model": {"path": "m"},
            "data": {"train": "t"},
            "rollout": {"completions": 3, "max_new_tokens": 1024, "max_model_tokens": 4096},
            "algorithm": {"dynamic_sampling": {"max_rounds": 2}, **algorithm},
            "trainer": {"run_dir": "r", "steps": 1, "prompts_per_step": 4},
        }
    )
    prompts = [
        Prompt(uid=f"p{i}", messages=({"role": "user", "content": "?"},), answer="1", images=("a.png",) * (i < 2))
        for i in range(50)
    ]
    stream = PromptStream(prompts, shuffle=False, seed=0, digests={"a.png": "0f"})
    return Collector(config, stream, OneToken(), pool or RulePool(), RuleRewards(rule))


def prompts_of(batch: Batch) -> list[str]:
    return [group.prompt.uid for group in batch.groups]


def test_a_step_of_mixed_groups_needs_one_round() -> None:
    """Rewards 1, 0, 0: mean 1/3, unbiased std sqrt(1/3) = 0.57735; advantages 1.1547, -0.57735, -0.57735."""
    batch = collector(first_right).collect(step=1)
    assert prompts_of(batch) == ["p0", "p1", "p2", "p3"]
    assert batch.rounds == 1
    for group in batch.groups:
        assert [completion.uid for completion in group.completions] == [f"{group.group}/{i}" for i in range(3)]
        assert group.advantages == pytest.approx([1.154699, -0.577350, -0.577350], abs=1e-5)


def test_advantages_that_are_only_centred_or_have_a_great_epsilon() -> None:
    """The same rewards: 1 - 1/3 and 0 - 1/3 (Dr. GRPO); over 0.57735 + 1 with an epsilon of 1: 0.42265, -0.21132."""
    centred = collector(first_right, advantage_scale="none").collect(step=1)
    assert centred.groups[0].advantages == pytest.approx([2 / 3, -1 / 3, -1 / 3])
    bounded = collector(first_right, advantage_eps=1.0).collect(step=1)
    assert bounded.groups[0].advantages == pytest.approx([0.422650, -0.211325, -0.211325], abs=1e-5)


def test_zero_variance_groups_are_set_aside_and_refilled() -> None:
    """p0 and p2 are all wrong, so two more prompts are drawn: p4 and p5."""
    hard = ("0:p0/", "0:p2/")
    batch = collector(lambda c: 0.0 if c.uid.startswith(hard) else first_right(c)).collect(step=1)
    assert prompts_of(batch) == ["p0", "p1", "p2", "p3", "p4", "p5"]
    assert [group.prompt.uid for group in batch.trained] == ["p1", "p3", "p4", "p5"]
    assert batch.rounds == 2
    assert batch.stream_state["position"] == 6
    figures = rollout_metrics(batch.groups)
    assert figures["groups/drawn"] == 6
    assert figures["groups/zero_variance"] == pytest.approx(2 / 6)


def test_refilling_is_bounded() -> None:
    """Nothing ever varies: 4 prompts in the first round and in each of the 2 further ones."""
    batch = collector(lambda completion: 0.0).collect(step=1)
    assert (len(batch.groups), len(batch.trained), batch.rounds) == (12, 0, 3)


def test_dynamic_sampling_by_accuracy_sets_groups_aside_that_differ_in_length_alone() -> None:
    """p0: all wrong, rewards 0, -0.5, 0; p1: all right, 1, 0.5, 1. The reward varies, the accuracy does not."""

    def shaped(completion: Completion) -> float:
        prompt = completion.uid.split("/")[0]
        right = {"0:p0": 0.0, "0:p1": 1.0}.get(prompt, first_right(completion))
        return right - 0.5 * completion.uid.endswith("/1")

    assert prompts_of(collector(shaped).collect(step=1)) == ["p0", "p1", "p2", "p3"]
    batch = collector(shaped, dynamic_sampling={"judge": "accuracy", "max_rounds": 2}).collect(step=1)
    assert [group.prompt.uid for group in batch.trained] == ["p2", "p3", "p4", "p5"]
    assert batch.groups[0].advantages[1] < 0, "what was set aside is stored with its advantages"


def test_the_accuracy_of_rows_that_stay_out_decides_nothing() -> None:
    """Row 0 alone is right, and cut: with `overlong: mask` the rows that are left are all wrong."""
    pool = RulePool(cut=lambda request: request.uid.endswith("/0"))
    rule: Rule = lambda c: first_right(c) - 0.5 * c.uid.endswith("/1")  # noqa: E731
    judged = {"judge": "accuracy", "max_rounds": 0}
    assert len(collector(rule, pool, dynamic_sampling=judged).collect(step=1).trained) == 4
    assert not collector(rule, pool, dynamic_sampling=judged, overlong="mask").collect(step=1).trained


def test_without_dynamic_sampling_zero_variance_groups_stay_in_the_denominator() -> None:
    batch = collector(lambda completion: 0.0, dynamic_sampling={"enabled": False}).collect(step=1)
    assert (len(batch.groups), len(batch.trained)) == (4, 4)


def test_no_verdict_and_masked_overlong_rows_leave_the_statistics() -> None:
    """Row 1 has no verdict, row 2 of p0 is cut: p0 keeps one row (advantage 0), the others 1 and 0: +-0.70711."""
    pool = RulePool(cut=lambda request: request.uid == "0:p0/2")
    rule: Rule = lambda c: None if c.uid.endswith("/1") else first_right(c)  # noqa: E731
    batch = collector(rule, pool, overlong="mask", dynamic_sampling={"enabled": False}).collect(step=1)
    assert batch.groups[0].advantages == [0.0, 0.0, 0.0]
    assert batch.groups[1].advantages == pytest.approx([0.707106, 0.0, -0.707106], abs=1e-5)
    assert rollout_metrics(batch.groups)["outcome/timeout"] == pytest.approx(1 / 3)


def test_requests_and_group_carry_the_same_pictures_and_positions() -> None:
    """By identity: the handle of a picture is one object for the group, its requests, and a group of the same step."""
    drawn = collector(first_right)
    batch = drawn.collect(step=1)
    [picture] = batch.groups[0].pictures
    requests = [request for request in drawn.pool.asked[0] if request.prompt_uid in ("p0", "p1")]
    assert len(requests) == 6
    assert all(request.pictures[0] is picture for request in requests)
    assert batch.groups[1].pictures[0] is picture
    assert batch.groups[2].pictures == ()
    assert batch.groups[0].prompt_positions.shape == (3, 1)


def test_seeds_depend_on_run_step_and_request_alone() -> None:
    first, again = collector(first_right), collector(first_right)
    first.collect(step=1)
    again.collect(step=1)
    seeds = [request.seed for request in first.pool.asked[0]]
    assert seeds == [request.seed for request in again.pool.asked[0]]
    assert len(set(seeds)) == len(seeds) == 12
    assert sampling_seed(0, 1, "a") != sampling_seed(0, 2, "a") != sampling_seed(1, 2, "a")
