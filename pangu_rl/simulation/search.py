"""Cluster -> **the splits of its devices, and the best of them** -> what `pangu-rl plan` shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from pangu_rl.simulation.placements import Case, Prediction, Split, predict

OTHERS = (1, 2, 4)
"""Stalenesses that are shown beside the configured one."""
SPREAD = 8
"""Splits that are tried at once."""


def predictions(case: Case) -> list[Prediction]:
    """The configured split, then the best of each kind: synchronous, stale, shared. Machines without devices have the
    configured one alone, in which engines and learner take turns on the same cores."""
    learner, rollout, staleness = case.config.learner, case.config.rollout, case.config.trainer.max_staleness
    own = Split(engines=rollout.actors, ranks=learner.ranks, staleness=staleness)
    if not any(case.devices):
        return [predict(case, Split(engines=own.engines, ranks=own.ranks))]
    found = [predict(case, own)] if own in splits(case, staleness, filling=False) else []
    for k in sorted({0, staleness, *OTHERS}):
        candidates = list(splits(case, k))
        if candidates:
            found.append(best(candidates, lambda split: predict(case, split)))
    shared = shared_split(case)
    return [*found, predict(case, shared)] if shared else found


def recommended(found: Sequence[Prediction], staleness: int) -> Prediction | None:
    """The shortest step of those that fit and are no staler; None where nothing fits."""
    fit = [one for one in found if not one.problems and one.split.staleness <= staleness]
    return min(fit, key=lambda one: one.steps.step_s, default=None)


def best(candidates: Sequence[Split], predicted: Callable[[Split], Prediction]) -> Prediction:
    """The shortest step of those that fit, if any fits: the best of a few spread over all, then of those around it.
    More engines shorten the rollout and lengthen training, so that what lies between two bad ones is no better; but the
    longest answers make the curve rough, which a bisection would take for its slope."""
    known: dict[int, Prediction] = {}
    low, high = 0, len(candidates) - 1
    while True:
        for index in {low + round(part * (high - low) / (SPREAD - 1)) for part in range(SPREAD)}:
            if index not in known:
                known[index] = predicted(candidates[index])
        order = sorted(known)
        chosen = min(order, key=lambda index: (bool(known[index].problems), known[index].steps.step_s))
        at = order.index(chosen)
        low, high = order[max(at - 1, 0)], order[min(at + 1, len(order) - 1)]
        if high - low <= 2 and all(index in known for index in range(low, high + 1)):
            return known[chosen]


def splits(case: Case, staleness: int, filling: bool = True) -> Iterator[Split]:
    """Engines first, each on one node, then whole sequence groups on what is left: as many as there is room for, or
    any number with `filling` False. In the order of their engines."""
    each, group = case.config.rollout.devices_per_actor, case.config.learner.sequence_parallel
    for engines in range(1, sum(devices // each for devices in case.devices) + 1):
        left, room = engines, 0
        for devices in case.devices:
            here = min(left, devices // each)
            left -= here
            room += (devices - here * each) // group * group
        for ranks in range(room if filling else group, room + 1, group):
            if ranks:
                yield Split(engines=engines, ranks=ranks, staleness=staleness)


def shared_split(case: Case) -> Split | None:
    """Every device has a rank and its part of an engine; None where engines or sequence groups do not fill a node."""
    each, group = case.config.rollout.devices_per_actor, case.config.learner.sequence_parallel
    if any(devices % each or devices % group for devices in case.devices):
        return None
    return Split(engines=sum(case.devices) // each, ranks=sum(case.devices), shared=True)
