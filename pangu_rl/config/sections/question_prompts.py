"""How rows of each category are asked in an evaluation: what stands around their question."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from pangu_rl.config.base import Strict

QUESTION = "{question}"
ANY = "any"


def _one_question(template: str) -> str:
    if (count := template.count(QUESTION)) != 1:
        raise ValueError(f"has {QUESTION} {count} times: write it once, where the row's own text goes")
    return template


Template = Annotated[str, AfterValidator(_one_question)]


class QuestionPromptsConfig(Strict):
    categories: Annotated[dict[str, Annotated[dict[str, Template], Field(min_length=1)]], Field(min_length=1)]
    """`source` of a row -> its `answer_type`, or `any` for all others -> a text with `{question}` in it, which the
    text of the row's last user turn replaces."""

    def template(self, category: str, answer_type: str) -> str | None:
        """What such a row is asked by, or None."""
        templates = self.categories.get(category, {})
        return templates.get(answer_type, templates.get(ANY))
