"""What a step drew and how old its tokens are, worked by hand."""

from __future__ import annotations

from dataclasses import replace

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


def score(reward: float | None, outcome: Outcome, **parts: float | None) -> Score:
    return Score(
        completion_uid="g", reward=reward, parts={name: Part(value=v, outcome=outcome) for name, v in parts.items()}
    )


def test_what_a_step_drew() -> None:
    """Answers of 2, 5 (cut), 3 and 0, 4 tokens, the third without a verdict of its `accuracy`.

    reward (1.5 + 0.5 + 0.25 + 0.25) / 4; accuracy (1 + 0 + 0 + 0) / 4; length (0.5 + 0.5 + 0.5 + 0.25 + 0.25) / 5.
    """
    first, second = group((1,) * 2, (1,) * 5, (1,) * 3), group((), (1,) * 4)
    first.completions[1] = replace(first.completions[1], finish_reason=FinishReason.LENGTH)
    first.scores += [
        score(1.5, Outcome.CORRECT, accuracy=1.0, length=0.5),
        score(0.5, Outcome.NO_BOX, accuracy=0.0, length=0.5),
        score(None, Outcome.TIMEOUT, accuracy=None, length=0.5),
    ]
    second.scores += [score(0.25, Outcome.NO_BOX, accuracy=0.0, length=0.25)] * 2
    first.advantages, second.advantages, second.trained = [0.7, -0.7, 0.0], [0.0, 0.0], False
    assert rollout_metrics([first, second]) == pytest.approx(
        {
            "reward/mean": 0.625,
            "reward/accuracy": 0.25,
            "reward/length": 0.4,
            "outcome/correct": 0.2,
            "outcome/no_box": 0.6,
            "outcome/timeout": 0.2,
            "response/tokens": 14,
            "response/length_mean": 2.8,
            "response/length_max": 5,
            "response/truncated": 0.2,
            "groups/drawn": 2,
            "groups/trained": 1,
            "groups/zero_variance": 0.5,
        }
    )


def test_tokens_without_a_text_are_counted() -> None:
    """Token 1 is one of the two that a tokenizer of two has, and none of the one that a tokenizer of one has."""
    drawn = group((3, 3, 4))
    drawn.scores.append(Score(completion_uid="g/0", reward=0.0, parts={"a": Part(value=0.0, outcome=Outcome.NO_BOX)}))
    assert rollout_metrics([drawn], known_tokens=2)["response/unknown_tokens"] == 0
    assert rollout_metrics([drawn], known_tokens=1)["response/unknown_tokens"] == 3
    assert "response/unknown_tokens" not in rollout_metrics([drawn])
