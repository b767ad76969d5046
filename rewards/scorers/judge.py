"""A judge that reads: question and response -> **the final answer that the response gives**, for rules to score.

It is asked what was answered, never whether that is right, and sees no gold: what it reads goes through the same metric
as what rules read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import xxhash
from pydantic import BaseModel, ConfigDict

from pangu_rl.config.paths import resolve_path
from pangu_rl.config.sections.scorers import JudgeConfig
from rewards.scorers.cache import ReplyCache
from rewards.scorers.criteria import block
from rewards.scorers.records import Backend, BadReply, Question
from rewards.scorers.scorer import Scorer
from rewards.scorers.untrusted import clean, one_line
from rewards.scorers.verdict import strict_json

NONE = "none"
CLOSING = "Read the final answer of the response. Reply with the JSON object only."
ONE_OF = "The answer is one of these, as written here: {choices}. Other words that mean one of them give it."
SHORT = (
    "Write the answer as short as it can be and as the response writes it: a number, a word, a list, LaTeX. Where the "
    "question has options with letters, write the letter of the one that the response chooses."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What is to be read. All of it is untrusted text."""

    uid: str
    question: str
    response: str
    choices: tuple[str, ...] = ()
    """All answers that there are, such as the letters of options; empty for answers of any form."""


class Judge:
    """Lives in one event loop."""

    def __init__(self, config: JudgeConfig, backend: Backend) -> None:
        """Raises `ConfigError`: a cache that cannot be used."""
        self.name = config.scorer.name
        self._config = config
        self._scorer = Scorer(config.scorer, backend, ReplyCache(resolve_path(config.cache)))

    async def read(self, said: Said) -> str | None:
        """The final answer of `said`; None if it gives none.

        Raises:
            NoVote: the judge is down, babbles, or refuses.
            RunError: its token budget is spent.
        """
        answer = await self._scorer.ask(
            Question(
                about="extraction",
                uid=said.uid,
                whole=(said.question, said.response),
                messages=partial(self._messages, said),
                schema=_schema(said.choices),
                parse=partial(_parse, said.choices),
            )
        )
        return None if answer.casefold() == NONE else answer

    def audits(self, uid: str) -> bool:
        """Whether the answer `uid` is read though rules could: the same for every run and every process."""
        return xxhash.xxh3_64_intdigest(uid.encode()) < self._config.audit_share * 2**64

    def _messages(self, said: Said, delimiter: str) -> list[dict[str, Any]]:
        form = ONE_OF.format(choices=", ".join(said.choices)) if said.choices else SHORT
        system = _instructions().replace("{{form}}", form).replace("{{nonce}}", delimiter)
        parts = {"question": said.question, "response": said.response}
        shown = [block(name, clean(text, self._config.max_chars), delimiter) for name, text in parts.items()]
        return [{"role": "system", "content": system}, {"role": "user", "content": "\n\n".join([*shown, CLOSING])}]


class _Reply(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    answer: str


def _instructions() -> str:
    return (Path(__file__).parent / "prompts" / "extraction.md").read_text(encoding="utf-8").strip()


def _schema(choices: Sequence[str]) -> dict[str, Any]:
    answer: dict[str, Any] = {"type": "string", "enum": [*choices, NONE]} if choices else {"type": "string"}
    return {
        "type": "object",
        "properties": {"answer": answer},
        "required": ["answer"],
        "additionalProperties": False,
    }


def _parse(choices: Sequence[str], text: str) -> str:
    answer = strict_json(_Reply, text).answer.strip()
    if not answer or (choices and answer not in (*choices, NONE)):
        raise BadReply(f"{one_line(text, 80)!r} is none of {', '.join(choices)}" if choices else "an empty answer")
    return answer
