"""Groups of a step -> the numbers a person reads: reward and its parts, outcomes, lengths, shares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean

from pangu_rl.records import Completion, FinishReason, Group


def rollout_metrics(groups: Sequence[Group], known_tokens: int | None = None) -> dict[str, float]:
    """Means over all completions drawn in a step, those of groups set aside included.

    Keys: `reward/mean`, `reward/<part>`, `outcome/<outcome>` (share of rows; `outcome/correct` is the share solved),
    `response/tokens|length_mean|length_max|truncated`, `groups/drawn|trained|zero_variance`; and, of a tokenizer with
    `known_tokens`, `response/unknown_tokens`: drawn from rows that pad the model's vocabulary, they have no text.
    """
    completions = [completion for group in groups for completion in group.completions]
    scores = [score for group in groups for score in group.scores]
    rewards = [score.reward for score in scores if score.reward is not None]
    parts: dict[str, list[float]] = {}
    for score in scores:
        for name, part in score.parts.items():
            if part.value is not None:
                parts.setdefault(name, []).append(part.value)
    lengths = [len(completion.token_ids) for completion in completions]
    outcomes = Counter(score.outcome for score in scores)
    unknown = {}
    if known_tokens is not None:
        count = sum(index >= known_tokens for completion in completions for index in completion.token_ids)
        unknown = {"response/unknown_tokens": float(count)}
    flat = sum(not any(group.advantages) for group in groups)
    return {
        "reward/mean": fmean(rewards) if rewards else float("nan"),
        **{f"reward/{name}": fmean(values) for name, values in parts.items()},
        **{f"outcome/{outcome}": count / len(scores) for outcome, count in sorted(outcomes.items())},
        "response/tokens": float(sum(lengths)),
        "response/length_mean": fmean(lengths),
        "response/length_max": float(max(lengths)),
        "response/truncated": sum(c.finish_reason is FinishReason.LENGTH for c in completions) / len(completions),
        **unknown,
        "groups/drawn": float(len(groups)),
        "groups/trained": float(sum(group.trained for group in groups)),
        "groups/zero_variance": flat / len(groups),
    }


def staleness_metrics(groups: Sequence[Group], step: int) -> dict[str, float]:
    """How old the tokens of `groups` are, in versions before the weights that `step` trains; empty without tokens.

    Keys: `rollout/staleness_mean|max` over tokens, `rollout/versions_per_answer`.
    """
    answers = [_version_counts(completion) for group in groups for completion in group.completions]
    total = sum(answers, Counter())
    if not total:
        return {}
    return {
        "rollout/staleness_mean": step - sum(version * count for version, count in total.items()) / total.total(),
        "rollout/staleness_max": float(step - min(total)),
        "rollout/versions_per_answer": fmean(map(len, answers)),
    }


def _version_counts(completion: Completion) -> Counter[int]:
    versions = completion.weight_versions
    if versions and versions[0] == versions[-1]:  # they never fall, and most answers have one
        return Counter({versions[0]: len(versions)})
    return Counter(versions)
