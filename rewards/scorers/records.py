"""What passes between the parts of a scorer panel: item -> messages -> reply -> votes -> **result**."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from pangu_rl.records import Outcome, Part, Vote

Parsed = TypeVar("Parsed")
TOP_SCORE = 5
"""The value that counts as correct (iterative fine-tuning of openPangu-VL)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredItem:
    """One response to grade. All of it is untrusted text."""

    uid: str
    question: str
    response: str
    reference: str = ""
    pictures: tuple[str, ...] = ()
    """Paths under the media root."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a backend is asked."""

    messages: Sequence[dict[str, Any]]
    """Chat messages in the OpenAI form; pictures are data URLs."""
    schema: dict[str, Any]
    """JSON schema of the reply."""
    temperature: float | None
    seed: int | None
    max_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A reply as it came, and the tokens read and written for it."""

    text: str
    tokens: int
    problem: str = ""
    """Why it is no verdict whatever the text says: a refusal, a cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question(Generic[Parsed]):
    """What a scorer is asked about one item."""

    about: str
    """For messages: `criterion similarity`."""
    uid: str
    whole: tuple[str, ...]
    """The item's texts uncut; with the request they decide the reply."""
    messages: Callable[[str], Sequence[dict[str, Any]]]
    """Of the delimiter that is drawn for one request."""
    schema: dict[str, Any]
    """JSON schema of the reply."""
    parse: Callable[[str], Parsed]
    """Raises `BadReply` for a text that is no reply."""


class BadReply(Exception):
    """A reply that says nothing of what was asked; the message says in one line what it is instead."""


class BackendError(Exception):
    """No reply; the message is one line without secrets."""

    def __init__(self, reason: str, *, transient: bool, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.transient = transient
        self.retry_after_s = retry_after_s


class Backend(Protocol):
    """Anything that completes a chat under a JSON schema: an endpoint, or an engine of ours."""

    identity: str
    """Which model this is and where; part of the cache's key."""

    async def complete(self, request: Request) -> Reply:
        """One reply.

        Raises:
            BackendError: there is none.
        """


class NoVote(Exception):
    """Why a scorer gave no vote: one line that names scorer, criterion and sample."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelResult:
    """What the panel says of one item."""

    uid: str
    value: float | None
    """From 1 to 5, or None: no verdict."""
    votes: tuple[Vote, ...]
    """Every vote that was given, also when there is no verdict."""
    missing: tuple[str, ...] = ()
    """One line for each vote that was not given."""

    def part(self) -> Part:
        """As a reward part: 5 is correct, less is incorrect, no verdict is an error with its reasons."""
        if self.value is None:
            more = f"; and {len(self.missing) - 3} more" if len(self.missing) > 3 else ""
            return Part.no_verdict(Outcome.ERROR, "; ".join(self.missing[:3]) + more, votes=self.votes)
        outcome = Outcome.CORRECT if self.value >= TOP_SCORE else Outcome.INCORRECT
        said = ", ".join(f"{vote.criterion} {vote.score} ({vote.scorer})" for vote in self.votes)
        return Part(value=self.value, outcome=outcome, detail=said, votes=self.votes)
