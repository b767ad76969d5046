"""What graders say: outcomes, votes and parts -> a score -> **the group that advantages are of**."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from pangu_rl.records.prompts import Picture, Prompt
from pangu_rl.records.rollouts import Completion


class Outcome(StrEnum):
    """What a grader found. Only the first four are rewards; the others are "no verdict" and mask the row."""

    CORRECT = "correct"
    INCORRECT = "incorrect"
    NO_BOX = "no_box"
    UNPARSABLE = "unparsable"
    TIMEOUT = "timeout"
    KILLED = "killed"
    ERROR = "error"

    @property
    def is_verdict(self) -> bool:
        return self not in (Outcome.TIMEOUT, Outcome.KILLED, Outcome.ERROR)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """What one LLM scorer said of one completion by one criterion."""

    scorer: str
    criterion: str
    score: int
    """From 1 to 5."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Extraction:
    """What a judge read as the final answer of a completion."""

    judge: str
    answer: str | None
    """None: it found none."""
    agrees: bool | None = None
    """Whether that comes to the same verdict as what rules read; None where they could read nothing, and the judge's
    answer is what was scored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one reward function said of one completion."""

    value: float | None
    """None when there is no verdict."""
    outcome: Outcome
    detail: str = ""
    """One line for people: what was compared, or why there is no verdict."""
    votes: tuple[Vote, ...] = ()
    """Of LLM scorers, also those of a part that ended without a verdict."""
    extraction: Extraction | None = None
    """Of an evaluation with a judge, where that one was asked."""

    @classmethod
    def no_verdict(cls, outcome: Outcome, detail: str, votes: tuple[Vote, ...] = ()) -> Part:
        """`outcome` and why; the row is masked."""
        return cls(value=None, outcome=outcome, detail=detail, votes=votes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A completion's reward: the weighted sum of its parts, and every part kept."""

    completion_uid: str
    reward: float | None
    """None when any part gave no verdict: the row is masked from the statistics and the loss, never 0."""
    parts: dict[str, Part]

    @property
    def outcome(self) -> Outcome:
        """The worst news first: a part without a verdict decides, else the first listed part (the accuracy)."""
        for part in self.parts.values():
            if not part.outcome.is_verdict:
                return part.outcome
        return next(iter(self.parts.values())).outcome


@dataclass(slots=True, kw_only=True)
class Group:
    """All completions of one prompt, scored, with their advantages: the unit of GRPO."""

    prompt: Prompt
    group: str
    prompt_token_ids: tuple[int, ...]
    """[T], placeholders expanded."""
    completions: list[Completion]
    scores: list[Score]
    advantages: list[float] = field(default_factory=list)
    """[N] one per completion; exactly 0 for rows without a verdict and for groups without variance."""
    trained: bool = True
    """False for a group that dynamic sampling set aside, having nothing to compare; it is stored all the same."""
    pictures: tuple[Picture, ...] = ()
    """Of the prompt, in the order of their placeholders."""
    prompt_positions: np.ndarray | None = None
    """int64 [3, T] positions of a multimodal prompt (time, height, width); None counts 0, 1, 2, ..."""
