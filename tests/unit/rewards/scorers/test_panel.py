"""Votes to one value, agreement, canaries, and the reward function in a rubric."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path

import pytest

from pangu_rl.config.load import dump_config
from pangu_rl.config.sections.rewards import RewardFunctionConfig, RewardsConfig
from pangu_rl.config.sections.scorers import CanaryConfig, LimitsConfig, ScorerEngineConfig, ScorersConfig
from pangu_rl.errors import ConfigError, RewardError, RunError
from pangu_rl.records import Outcome, Part, Prompt, Score, Vote
from rewards.rubric import Rubric
from rewards.scorers.aggregation import Agreement, aggregate, agreement
from rewards.scorers.canaries import BAD, MIN_CANARIES, Canaries
from rewards.scorers.llm_score import item_of
from rewards.scorers.panel import ScorerPanel
from rewards.scorers.records import Backend, BackendError, PanelResult, Reply, Request, ScoredItem
from tests.unit.rewards.builders import completion, prompt
from tests.unit.rewards.scorers.endpoint import Answer, panel_config, scorer, serving, user_text, verdict


def vote(scorer: str, criterion: str, score: int) -> Vote:
    return Vote(scorer=scorer, criterion=criterion, score=score, reason="")


VOTES = (vote("a", "s", 5), vote("b", "s", 4), vote("a", "h", 3), vote("b", "h", 3), vote("a", "l", 5))


@pytest.mark.parametrize(
    ("how", "value"),
    [
        ("min_of_means", 3.0),  # min(4.5, 3, 5)
        ("mean_of_means", 12.5 / 3),  # (4.5 + 3 + 5) / 3
        ("min_of_min", 3.0),
    ],
)
def test_aggregation(how: str, value: float) -> None:
    assert aggregate(VOTES, how) == pytest.approx(value)


def test_the_minimum_is_over_criteria_and_not_over_scorers() -> None:
    votes = [vote("harsh", "s", 1), vote("kind", "s", 5), vote("harsh", "h", 4), vote("kind", "h", 4)]
    assert aggregate(votes, "min_of_means") == 3.0
    assert aggregate(votes, "min_of_min") == 1.0


def test_agreement_is_over_pairs_of_scorers_on_one_item() -> None:
    results = [
        PanelResult(uid="1", value=3.0, votes=VOTES),
        PanelResult(uid="2", value=None, votes=(vote("a", "s", 1), vote("b", "s", 4), vote("c", "s", 4))),
    ]
    # s: |5-4|, then |1-4|, |1-4|, |4-4|; h: |3-3|; l has one scorer.
    assert agreement(results) == {"s": Agreement(4, 0.25, 7 / 4), "h": Agreement(1, 1.0, 0.0)}


@pytest.mark.parametrize(
    ("value", "outcome"),
    [(5.0, Outcome.CORRECT), (4.9, Outcome.INCORRECT), (1.0, Outcome.INCORRECT), (None, Outcome.ERROR)],
)
def test_a_result_as_a_reward_part(value: float | None, outcome: Outcome) -> None:
    part = PanelResult(uid="1", value=value, votes=VOTES, missing=("why",) * 5).part()
    assert (part.value, part.outcome, part.votes) == (value, outcome, VOTES)
    assert part.detail == ("why; why; why; and 2 more" if value is None else part.detail)


class Engine:
    """An engine handed in by a loop."""

    identity = "engine"

    def __init__(self, score: int) -> None:
        self.score = score
        self.requests: list[Request] = []

    async def complete(self, request: Request) -> Reply:
        self.requests.append(request)
        if self.score == 0:
            raise BackendError("the actor died", transient=False)
        return Reply(text=json.dumps({"reason": "r", "score": self.score}), tokens=10)


def score(config: ScorersConfig, *items: ScoredItem, engines: dict[str, Backend] | None = None) -> list[PanelResult]:
    async def run() -> list[PanelResult]:
        panel = ScorerPanel(config, engines)
        try:
            return [await panel.score(item) for item in items]
        finally:
            await panel.close()

    return asyncio.run(run())


def items(count: int) -> list[ScoredItem]:
    return [
        ScoredItem(uid=f"{i}", question=f"{i} + 1?", reference=str(i + 1), response=f"no {i}") for i in range(count)
    ]


def test_engines_of_ours_vote_beside_endpoints(tmp_path: Path) -> None:
    engine = Engine(2)
    with serving() as endpoint:
        two = (scorer(endpoint.url, "far"), scorer(None, "near", engine=ScorerEngineConfig()))
        (found,) = score(panel_config(tmp_path / "c", *two), *items(1), engines={"near": engine})
    assert found.value == 3.0 and len(engine.requests) == 1
    with pytest.raises(ConfigError, match="scorer near: its engine was not started"):
        score(panel_config(tmp_path / "c", two[1]), *items(1))
    (found,) = score(panel_config(tmp_path / "d", two[1]), *items(1), engines={"near": Engine(0)})
    assert found.value is None and "the actor died" in found.missing[0]


def test_an_item_that_no_criterion_applies_to_has_no_verdict(tmp_path: Path) -> None:
    with serving() as endpoint:
        config = panel_config(tmp_path / "c", scorer(endpoint.url), criteria=("consistency", "similarity"))
        (found,) = score(config, ScoredItem(uid="u", question="?", response="r"))
        assert found.value is None and "no criterion applies" in found.part().detail and endpoint.bodies == []


def test_canaries_come_by_uid_in_the_declared_share() -> None:
    canaries = Canaries(CanaryConfig(share=0.1))
    found = [canaries.beside(item) for item in items(4000)]
    assert 320 < sum(canary is not None for canary in found) < 480
    assert found == [canaries.beside(item) for item in items(4000)]
    responses = {canary.response for canary, good in filter(None, found) if not good}
    assert responses == set(BAD.values())
    assert all(canary.response == canary.reference for canary, good in filter(None, found) if good)
    assert Canaries(CanaryConfig(share=1.0)).beside(ScoredItem(uid="u", question="?", response="r")) is None


@pytest.mark.parametrize("fooled", [5, 1])
def test_a_scorer_that_cannot_tell_good_from_bad_is_reported_once_or_ends_the_run(
    tmp_path: Path, fooled: int, caplog: pytest.LogCaptureFixture
) -> None:
    def judge(body: dict) -> Answer:
        honest = "no " in user_text(body)
        return verdict(3 if honest else fooled)

    with serving(judge) as endpoint:
        config = panel_config(tmp_path / "c", scorer(endpoint.url), canaries=CanaryConfig(share=1.0))
        with caplog.at_level(logging.WARNING, "rewards.scorers.canaries"):
            found = score(config, *items(60))
        assert [result.value for result in found] == [3.0] * 60, "canaries never enter a value"
        assert len([record for record in caplog.records if "wrong side" in record.message]) == 1
        stopping = config.model_copy(update={"canaries": CanaryConfig(share=1.0, stop=True)})
        with pytest.raises(RunError, match=r"scorer judge is on the wrong side of \d+ of \d+ canaries"):
            score(stopping, *items(60))


def test_a_good_scorer_passes_its_canaries(tmp_path: Path) -> None:
    def judge(body: dict) -> Answer:
        reference, response = (
            user_text(body).split(f"BEGIN {part} ")[1].split("\n", 1)[1].split("\nEND ")[0]
            for part in ("reference", "response")
        )
        return verdict(5 if reference == response else 1)

    with serving(judge) as endpoint:
        stop = CanaryConfig(share=1.0, stop=True, max_fooled_share=0.0)
        assert len(score(panel_config(tmp_path / "c", scorer(endpoint.url), canaries=stop), *items(60))) == 60
        assert len(endpoint.bodies) == 120 > MIN_CANARIES


def test_canaries_need_their_criterion(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="canaries are judged by the criterion similarity"):
        panel_config(tmp_path / "c", scorer("http://h/v1"), criteria=("hallucination",), canaries=CanaryConfig())


def rubric(path: Path) -> Rubric:
    functions = (
        RewardFunctionConfig(name="boxed_format"),
        RewardFunctionConfig(name="llm_score", weight=0.1, args={"config": str(path)}),
    )
    return Rubric.from_config(RewardsConfig(functions=functions))


def graded(rubric: Rubric, *texts: str) -> list[Score]:
    async def run() -> list[Score]:
        return await asyncio.gather(*(rubric.score(prompt("42"), completion(t, f"0:p/{t}")) for t in texts))

    return asyncio.run(run())


def test_the_reward_function_in_a_rubric_from_several_event_loops(tmp_path: Path) -> None:
    with serving() as endpoint:
        path = tmp_path / "scorers.yaml"
        path.write_text(dump_config(panel_config(tmp_path / "c.sqlite", scorer(endpoint.url))))
        found = rubric(path)
        for texts in ([r"\boxed{42}", r"\boxed{1}"], [r"\boxed{42}", r"\boxed{3}"]):
            scores = graded(found, *texts)
            assert [s.reward for s in scores] == [pytest.approx(1.4)] * 2
            assert scores[0].parts["llm_score"].votes[0].score == 4
        assert len(endpoint.bodies) == 3, "one panel, one cache"
        endpoint.script(Answer("five"))
        (lost,) = graded(found, r"\boxed{5}")
        assert (lost.reward, lost.outcome) == (None, Outcome.ERROR)
        assert "scorer judge, criterion similarity, sample 0:p/" in lost.parts["llm_score"].detail


def test_a_spent_budget_ends_the_run_through_the_rubric(tmp_path: Path) -> None:
    with serving() as endpoint:
        path = tmp_path / "scorers.yaml"
        judge = scorer(endpoint.url, limits=LimitsConfig(token_budget=150))
        path.write_text(dump_config(panel_config(tmp_path / "c.sqlite", judge)))
        found = rubric(path)
        graded(found, "1")
        graded(found, "2")
        with pytest.raises(RewardError, match="scorer judge has spent 200 tokens"):
            graded(found, "3")


def test_scorers_see_the_answer_and_neither_the_thinking_nor_the_other_rewards() -> None:
    found = item_of(prompt("42"), completion("<think>I will say score 5</think>It is \\boxed{42}."))
    assert (found.question, found.reference, found.response) == ("?", "42", "It is \\boxed{42}.")
    assert item_of(prompt("42"), completion("<think>still thinking")).response == ""
    pieces = [{"type": "image"}, {"type": "text", "text": "How many?"}]
    messages = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": pieces})
    seen = item_of(Prompt(uid="p", messages=messages, answer="3", images=("a.png",)), completion("3"))
    assert (seen.question, seen.pictures) == ("system: Be brief.\n\nuser: How many?", ("a.png",))


def test_parts_compare_and_travel() -> None:
    import pickle

    part = Part(value=4.0, outcome=Outcome.INCORRECT, votes=VOTES)
    assert pickle.loads(pickle.dumps(part)) == part and Part(value=1.0, outcome=Outcome.CORRECT).votes == ()
