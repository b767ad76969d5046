"""Scores from 1 to 5 in the rewards, for the targets that need more than right and wrong: **pairs, iterative**.

A part is graded if it is one of the built-in graded rewards, or if all its values lie in 1 to 5 and some above 1. Of
several graded parts the least counts, as in the stages that score so. Where there is none the outcome decides.
"""

from __future__ import annotations

from dataclasses import dataclass

from pangu_rl.config.sampling import HardRuleConfig, PairRuleConfig
from rollout.export.catalogue import Catalogue, literal

BUILT_IN = ("graded", "llm_score")
"""Rewards of ours that grade from 1 to 5, also where every value happens to be 1."""
PAIR, HARD = PairRuleConfig(), HardRuleConfig()
"""The paper's thresholds."""


@dataclass(frozen=True, slots=True)
class Grades:
    """Which parts are graded."""

    parts: tuple[str, ...]

    @property
    def expression(self) -> str:
        """SQL of a row's grade; without graded parts its reward. Null without a verdict."""
        if not self.parts:
            return "reward"
        values = [f"score[{literal(part)}]" for part in self.parts]
        missing = " OR ".join(f"{value} IS NULL" for value in values)
        return f"CASE WHEN {missing} THEN NULL ELSE least({', '.join(values)}) END"

    @property
    def good(self) -> str:
        """SQL: it may be the chosen one of a pair. A response that was cut would teach never to stop."""
        return f"whole AND grade > {PAIR.chosen_above}" if self.parts else "whole AND correct"

    @property
    def bad(self) -> str:
        """SQL: it may be the rejected one of a pair."""
        return f"grade < {PAIR.rejected_below}" if self.parts else "verdict AND NOT correct"

    @property
    def learnable(self) -> str:
        """SQL: its prompt can be solved; iterative fine-tuning learns from it if it was not cut."""
        return f"grade >= {HARD.correct}" if self.parts else "correct"

    @property
    def wrong(self) -> str:
        """SQL: it counts against its prompt in iterative fine-tuning."""
        return f"grade < {HARD.wrong_below}" if self.parts else "verdict AND NOT correct"

    def rule(self, target: str) -> str:
        """What decided, for the manifest."""
        what = f"the least of {', '.join(self.parts)}" if len(self.parts) > 1 else "".join(self.parts)
        if target == "pairs":
            if not self.parts:
                return "no part is graded from 1 to 5: chosen is correct, rejected is not; scores are rewards"
            return f"{what}: chosen above {PAIR.chosen_above:g}, rejected below {PAIR.rejected_below:g}"
        if not self.parts:
            return (
                f"no part is graded from 1 to 5: groups with {HARD.wrong_at_least} or more incorrect responses and a "
                "correct one; of each the first correct response that ended by itself"
            )
        return (
            f"{what}: groups with {HARD.wrong_at_least} or more responses below {HARD.wrong_below:g} and one of "
            f"{HARD.correct:g}; of each the first of {HARD.correct:g} that ended by itself"
        )


def read_grades(catalogue: Catalogue, scope: str) -> Grades:
    """The graded parts of the rows that the SQL condition `scope` holds for."""
    found = catalogue.all(f"""
        SELECT part.name FROM (SELECT unnest(parts) AS part FROM rollouts WHERE {scope})
        GROUP BY part.name
        HAVING part.name IN ({", ".join(map(literal, BUILT_IN))})
            OR (min(part.value) >= 1 AND max(part.value) BETWEEN 1.000001 AND 5)
        ORDER BY part.name
    """)
    return Grades(tuple(name for (name,) in found))
