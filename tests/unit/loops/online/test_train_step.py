"""Which rows of scored groups reach the packs, and what ranks wait for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from pangu_rl.config.stages import GrpoConfig
from pangu_rl.data.packs.micro_batches import BY_TOKENS
from pangu_rl.loops.online.train_step import by_completion, rank_batches, train_on
from pangu_rl.records import FinishReason, MiniBatch
from tests.unit.data.groups import make_group


@pytest.mark.parametrize(
    ("kl_weight", "overlong", "expected"),
    [(0.0, "train", {0, 1}), (0.1, "train", {0, 1, 2, 3}), (0.1, "mask", {0, 1, 2})],
)
def test_the_kl_to_a_reference_trains_rows_without_advantage(
    kl_weight: float, overlong: str, expected: set[int]
) -> None:
    """Row 2 has no advantage, row 3 is cut and has none; the second group is set aside whatever the loss."""
    config = grpo_config(kl_weight=kl_weight, overlong=overlong, mini_batches=1)
    group = make_group("g", 2, [3, 1, 2, 4], [1.0, -1.0, 0.0, 0.0])
    group.completions[3] = replace(group.completions[3], finish_reason=FinishReason.LENGTH)
    aside = make_group("aside", 2, [3, 3], [0.0, 0.0], trained=False)
    [dealt] = rank_batches([group, aside], config, frozenset(), BY_TOKENS)
    [batch] = dealt.per_group
    assert {int(sequence) for pack in batch.packs for sequence in pack.lay_out().sequence_ids} == expected
    assert batch.loss_tokens == (10 if overlong == "train" else 6)


def test_ranks_have_their_packs_before_anything_else_begins() -> None:
    """What is done beside training would share the interpreter with what they wait for."""
    happened = []

    def hand_out(mini_batches: Sequence[Sequence[MiniBatch]]) -> list[str]:
        happened.append(f"{len(mini_batches)} sent")
        return ["handle"]

    def update_from(handles: Sequence[str]) -> list[dict[str, float]]:
        happened.append("trained")
        return [{"loss": 1.0}, {"loss": 3.0}]

    @contextmanager
    def beside() -> Iterator[None]:
        happened.append("beside")
        yield
        happened.append("done")

    learners = SimpleNamespace(dealing=BY_TOKENS, hand_out=hand_out, update_from=update_from)
    groups = [make_group(name, 2, [3, 1], [1.0, -1.0]) for name in "gh"]
    metrics = train_on(groups, learners, grpo_config(mini_batches=2), frozenset(), beside).metrics
    assert happened == ["2 sent", "beside", "trained", "done"]
    assert (metrics["train/loss"], metrics["train/updates"]) == (2.0, 2.0)


def test_what_ranks_found_of_sequences_is_named_by_completion() -> None:
    """The first of two mini-batches has nothing to train on, so the only optimiser step is of the second."""
    groups = [make_group("g", 2, [1, 1], [0.0, 0.0]), make_group("h", 2, [1, 1], [0.0, 2.0])]
    learners = SimpleNamespace(dealing=BY_TOKENS, hand_out=list, update_from=lambda sent: [{"loss": 1.0}] * len(sent))
    assert train_on(groups, learners, grpo_config(mini_batches=2), frozenset()).uids == [["h/0", "h/1"]]
    uids = [["f/0", "f/1"], ["h/0", "h/1"]]
    a, b, c = np.array([-1.0]), np.array([-2.0]), np.array([-3.0])
    assert by_completion(uids, [[{1: a}, {1: b}], [{0: c}, {}]]) == {"f/1": a, "h/1": b, "f/0": c}


def grpo_config(**algorithm: object) -> GrpoConfig:
    return GrpoConfig.model_validate(
        {
            "model": {"path": "m"},
            "data": {"train": "t"},
            "learner": {"pack_tokens": 4096},
            "rollout": {"max_new_tokens": 2048, "max_model_tokens": 4096},
            "algorithm": algorithm,
            "trainer": {"run_dir": "r", "steps": 1, "prompts_per_step": 2},
        }
    )
