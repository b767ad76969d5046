"""Scored groups -> packs -> **optimiser steps** -> metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from statistics import fmean

import numpy as np

from pangu_rl.config.stages import GrpoConfig
from pangu_rl.data.packs.batching import (
    loss_counts,
    outline_groups,
    split_groups,
    split_ranks,
    valid_rows,
    with_advantage,
)
from pangu_rl.data.packs.micro_batches import Dealing
from pangu_rl.loops.actors.learners import Learners
from pangu_rl.records import Group, MiniBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Dealt:
    """One optimiser step, dealt to the ranks."""

    uids: list[str]
    """Of its completions, by their number in the packs."""
    per_group: list[MiniBatch]
    """For each group of ranks; denominators are global, of the mini-batch over all ranks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What the optimiser steps of one step of the loop came to."""

    metrics: dict[str, float]
    uids: list[list[str]]
    """Of each optimiser step, as in `Dealt`."""


def train_on(
    groups: Sequence[Group],
    learners: Learners,
    config: GrpoConfig,
    placeholders: frozenset[int],
    beside: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Trained:
    """One optimiser step per mini-batch; none when no group has variance (`train/updates` is 0 then).

    `placeholders`: ids of the model's picture tokens. `beside()` is open while the ranks train. `time/driver` are the
    seconds that they wait for packs.
    """
    started = time.monotonic()
    mini_batches = rank_batches(groups, config, placeholders, learners.dealing)
    handles = learners.hand_out([dealt.per_group for dealt in mini_batches]) if mini_batches else []
    seconds = time.monotonic() - started
    with beside():
        updates = learners.update_from(handles) if handles else []
    metrics = summarise(updates) | {"train/updates": float(len(updates)), "time/driver": seconds}
    return Trained(metrics=metrics, uids=[dealt.uids for dealt in mini_batches])


def rank_batches(
    groups: Sequence[Group], config: GrpoConfig, placeholders: frozenset[int], dealing: Dealing
) -> list[Dealt]:
    """The mini-batches that have anything to train on."""
    algorithm, learner = config.algorithm, config.learner
    # The KL to the reference has a gradient also where there is no advantage.
    in_loss = partial(valid_rows, overlong=algorithm.overlong) if algorithm.kl_weight else with_advantage
    batches = []
    for part in split_groups(groups, algorithm.mini_batches):
        if packs := outline_groups(part, learner.pack_tokens, placeholders, in_loss):
            per_group = split_ranks(packs, learner.groups, *loss_counts(part, algorithm.overlong), dealing)
            uids = [completion.uid for group in part for completion in group.completions]
            batches.append(Dealt(uids=uids, per_group=per_group))
    return batches


def by_completion(
    uids: Sequence[Sequence[str]], found: Sequence[Sequence[Mapping[int, np.ndarray]]]
) -> dict[str, np.ndarray]:
    """What each group of ranks found of the sequences of each optimiser step, [group][step], by completion."""
    named = [(names, own) for of_group in found for names, own in zip(uids, of_group, strict=True)]
    return {names[number]: values for names, own in named for number, values in own.items()}


def summarise(updates: Sequence[dict[str, float]]) -> dict[str, float]:
    """Metrics of every update -> the step's: their mean, or the largest of names that end in `_max`."""
    return {
        f"train/{name}": (max if name.endswith("_max") else fmean)(update[name] for update in updates)
        for name in (updates[0] if updates else ())
    }
