"""Scored groups for tests of packing: token ids and log-probs tell where each token came from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pangu_rl.data.packs.batching import outline_groups, outline_pairs
from pangu_rl.records import Completion, FinishReason, Group, Outcome, Pack, Part, Prompt, Score


def pack_groups(groups: Sequence[Group], pack_tokens: int, *args: Any, **kwargs: Any) -> list[Pack]:
    """As `outline_groups`, laid out."""
    return [outline.lay_out() for outline in outline_groups(groups, pack_tokens, *args, **kwargs)]


def pack_pairs(*args: Any, **kwargs: Any) -> list[Pack]:
    """As `outline_pairs`, laid out."""
    return [outline.lay_out() for outline in outline_pairs(*args, **kwargs)]


def make_group(
    name: str,
    prompt_length: int,
    lengths: Sequence[int],
    advantages: Sequence[float],
    *,
    first_token: int = 100,
    trained: bool = True,
) -> Group:
    """Prompt ids 1..P; completion c holds first_token + 100 c, + 1, ...; its log-probs are minus its ids / 1000."""
    completions, scores = [], []
    for index, length in enumerate(lengths):
        ids = tuple(first_token + 100 * index + t for t in range(length))
        completions.append(
            Completion(
                uid=f"{name}/{index}",
                group=name,
                prompt_uid=name,
                token_ids=ids,
                logprobs=tuple(-token / 1000 for token in ids),
                text="",
                finish_reason=FinishReason.STOP,
                weight_versions=(0,) * len(ids),
            )
        )
        part = Part(value=1.0, outcome=Outcome.CORRECT)
        scores.append(Score(completion_uid=f"{name}/{index}", reward=1.0, parts={"accuracy": part}))
    return Group(
        prompt=Prompt(uid=name, messages=({"role": "user", "content": "?"},), answer="1"),
        group=name,
        prompt_token_ids=tuple(range(1, prompt_length + 1)),
        completions=completions,
        scores=scores,
        advantages=list(advantages),
        trained=trained,
    )
