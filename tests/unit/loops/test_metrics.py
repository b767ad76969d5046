"""How old the tokens of a step are, worked by hand."""

from __future__ import annotations

import pytest

from pangu_rl.loops.metrics import rollout_metrics, staleness_metrics
from pangu_rl.records import Completion, FinishReason, Group, Outcome, Part, Prompt, Score


def group(*answers: tuple[int, ...]) -> Group:
    completions = [
        Completion(
            uid=f"g/{index}",
            group="g",
            prompt_uid="p",
            token_ids=(1,) * len(versions),
            logprobs=(-1.0,) * len(versions),
            text="",
            finish_reason=FinishReason.STOP,
            weight_versions=versions,
        )
        for index, versions in enumerate(answers)
    ]
    prompt = Prompt(uid="p", messages=(), answer="")
    return Group(prompt=prompt, group="g", prompt_token_ids=(1,), completions=completions, scores=[])


def test_staleness_is_a_mean_over_tokens() -> None:
    """Step 5: tokens of 3, 3, 4 and 5, 5, 5, 5, 5 are 2, 2, 1 and five times 0 old: 5 / 8; two versions and one."""
    found = staleness_metrics([group((3, 3, 4)), group((5, 5, 5, 5, 5))], step=5)
    assert found["rollout/staleness_mean"] == pytest.approx(5 / 8)
    assert found["rollout/staleness_max"] == 2
    assert found["rollout/versions_per_answer"] == 1.5


def test_no_tokens_have_no_age() -> None:
    assert staleness_metrics([], step=5) == {}
    assert staleness_metrics([group(())], step=5) == {}


def test_tokens_without_a_text_are_counted() -> None:
    """Token 1 is one of the two that a tokenizer of two has, and none of the one that a tokenizer of one has."""
    drawn = group((3, 3, 4))
    drawn.scores.append(Score(completion_uid="g/0", reward=0.0, parts={"a": Part(value=0.0, outcome=Outcome.NO_BOX)}))
    assert rollout_metrics([drawn], known_tokens=2)["response/unknown_tokens"] == 0
    assert rollout_metrics([drawn], known_tokens=1)["response/unknown_tokens"] == 3
    assert "response/unknown_tokens" not in rollout_metrics([drawn])
