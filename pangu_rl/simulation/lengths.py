"""Lengths of prompts and answers: a lognormal, or what a run has drawn -> **the groups of any step** -> simulation.

Step s, group g has the same lengths whatever is simulated, so that placements are compared on the same work. A run's
store is drawn from group by group: answers to one prompt are about as long. Letters: G groups, N completions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any, Protocol

import numpy as np
import pyarrow.compute as pc
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from pangu_rl.config.base import Strict
from pangu_rl.config.load import load_config
from pangu_rl.errors import DataError
from pangu_rl.records import FinishReason
from rollout.store import RolloutStore


@dataclass(frozen=True, slots=True)
class DrawnGroup:
    """One prompt and the tokens of its answers."""

    prompt: int
    answers: tuple[int, ...]


class Lengths(Protocol):
    @property
    def reward_s(self) -> float:
        """Seconds from an answer's last token to its score."""

    def groups(self, rng: np.random.Generator, count: int, completions: int) -> list[DrawnGroup]: ...


class LognormalLengths(Strict):
    """The file of `--lengths`: each answer for itself."""

    median: PositiveFloat
    """Tokens of an answer, as if nothing cut it."""
    sigma: NonNegativeFloat
    """Standard deviation of the logarithm: 0.5 is narrow, 1 has a tail of ten medians."""
    prompt: PositiveInt
    """Tokens of a prompt, pictures included."""
    cap: PositiveInt = 1 << 30
    """Longest answer; that of the configuration, `rollout.max_new_tokens`, goes before it where it is lower."""
    reward_s: NonNegativeFloat = 0.0
    """Seconds from an answer's last token to its score."""

    def groups(self, rng: np.random.Generator, count: int, completions: int) -> list[DrawnGroup]:
        drawn = np.exp(np.log(self.median) + self.sigma * rng.standard_normal((count, completions)))
        answers = np.clip(np.rint(drawn), 1, self.cap).astype(int)
        return [DrawnGroup(self.prompt, tuple(row)) for row in answers.tolist()]


@dataclass(frozen=True, slots=True)
class MeasuredLengths:
    """What a run has drawn."""

    drawn: tuple[DrawnGroup, ...]
    cap: int
    """Longest answer."""
    reward_s: float = 0.0
    """What scoring takes is in the run's rollout times, and in the constants that are fitted to them."""

    def groups(self, rng: np.random.Generator, count: int, completions: int) -> list[DrawnGroup]:
        chosen = [self.drawn[index] for index in rng.integers(len(self.drawn), size=count)]
        return [
            DrawnGroup(group.prompt, tuple(min(int(length), self.cap) for length in _of(group, rng, completions)))
            for group in chosen
        ]


def _of(group: DrawnGroup, rng: np.random.Generator, completions: int) -> np.ndarray:
    """The group's own answers where they are as many, else that many of them, with repetition."""
    answers = np.array(group.answers)
    return answers if len(answers) == completions else rng.choice(answers, completions)


def read_lengths(path: Path, cap: int) -> Lengths:
    """From a run's directory, or a YAML file of `LognormalLengths`. A run whose answers were cut below `cap` says
    nothing of how long they would be: the lognormal through the quantiles of those that ended by themselves does.

    Raises:
        DataError: a run without rollouts, or with too many cut ones.
        ConfigError: a file that is no such description.
    """
    if not path.is_dir():
        given = load_config(LognormalLengths, path)
        return given.model_copy(update={"cap": min(given.cap, cap)})
    store = read_store(path)
    drawn = tuple(group for groups in store.steps.values() for group, _ in groups)
    if store.cut and store.limit < cap:
        return fitted(path, drawn, store.limit, cap)
    return MeasuredLengths(drawn, cap)


@dataclass(frozen=True, slots=True)
class Stored:
    steps: dict[int, list[tuple[DrawnGroup, bool]]]
    """Step -> its groups in the order in which they were drawn, and whether each was trained on."""
    limit: int
    """The most tokens that any answer was allowed."""
    cut: bool
    """Whether some reached it."""


def read_store(run_dir: Path) -> Stored:
    """
    Raises:
        DataError: no rollouts there, or none with an answer.
    """
    columns = {
        "step": pc.field("step"),
        "group": pc.field("group"),
        "prompt": pc.list_value_length(pc.field("prompt_token_ids")),
        "answer": pc.list_value_length(pc.field("token_ids")),
        "cut": pc.field("finish_reason") == FinishReason.LENGTH.value,
        "limit": pc.struct_field(pc.field("sampling"), "max_new_tokens"),
        "advantage": pc.field("advantage"),
    }
    rows = RolloutStore(run_dir).read().to_table(columns=columns).to_pylist()
    found: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault((row["step"], row["group"]), []).append(row)
    if not found:
        raise DataError(f"{run_dir}: its rollouts hold no answer; name a run that has drawn some, or a file of lengths")
    steps: dict[int, list[tuple[DrawnGroup, bool]]] = {}
    for (step, _), own in found.items():
        group = DrawnGroup(own[0]["prompt"], tuple(max(1, row["answer"]) for row in own))
        steps.setdefault(step, []).append((group, any(row["advantage"] for row in own)))
    return Stored(steps, limit=max(row["limit"] for row in rows), cut=any(row["cut"] for row in rows))


QUANTILES = (0.1, 0.25, 0.4, 0.55, 0.7, 0.85)
"""Those below the cut are fitted."""


def fitted(run_dir: Path, drawn: tuple[DrawnGroup, ...], limit: int, cap: int) -> LognormalLengths:
    """The lognormal whose logarithm is the straight line through the normal quantiles of the answers below `limit`.

    Raises:
        DataError: fewer than two quantiles lie below the cut.
    """
    answers = np.sort([length for group in drawn for length in group.answers])
    whole = float((answers < limit).mean())
    below = [share for share in QUANTILES if share <= whole]
    if len(below) < 2:
        raise DataError(
            f"{run_dir}: {1 - whole:.0%} of its answers were cut at {limit} tokens, which says too little of answers "
            f"up to {cap}: name a run with a higher rollout.max_new_tokens, or a file of lengths"
        )
    normal = [NormalDist().inv_cdf(share) for share in below]
    sigma, mean = np.polyfit(normal, np.log(np.quantile(answers, below)), 1)
    prompt = round(float(np.mean([group.prompt for group in drawn])))
    return LognormalLengths(median=float(np.exp(mean)), sigma=max(0.0, float(sigma)), prompt=max(1, prompt), cap=cap)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """The endless stream of groups that a run draws."""

    lengths: Lengths
    completions: int
    flat: float = 0.0
    """Share of groups without variance, which are not trained on."""
    seed: int = 0

    def stream(self) -> Iterator[tuple[DrawnGroup, bool]]:
        """(group, whether it has variance)."""
        rng = np.random.default_rng(self.seed)
        while True:
            drawn = self.lengths.groups(rng, CHUNK, self.completions)
            yield from zip(drawn, (rng.random(CHUNK) >= self.flat).tolist())


CHUNK = 256
"""Groups that are drawn at once."""
