"""The panel: every scorer by every criterion that applies, side by side. Item -> **votes and one value**."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from pangu_rl.config.paths import resolve_path
from pangu_rl.config.sections.scorers import CANARY_CRITERION, ScorerConfig, ScorersConfig
from pangu_rl.errors import ConfigError, RunError
from pangu_rl.records import Vote
from rewards.scorers.aggregation import aggregate
from rewards.scorers.cache import ReplyCache
from rewards.scorers.canaries import Canaries
from rewards.scorers.criteria import PICTURES, Criterion, load_criterion
from rewards.scorers.openai_endpoint import OpenAIEndpoint
from rewards.scorers.pictures import BadPicture, picture_url
from rewards.scorers.records import Backend, NoVote, PanelResult, Question, ScoredItem
from rewards.scorers.scorer import Scorer
from rewards.scorers.untrusted import one_line
from rewards.scorers.verdict import REASON_CHARS, Verdict, parse_verdict, reply_schema


class ScorerPanel:
    """Lives in one event loop; any number of `score` calls may be under way."""

    def __init__(self, config: ScorersConfig, engines: Mapping[str, Backend] | None = None) -> None:
        """`engines`: backends by scorer name, for scorers with an `engine`.

        Raises:
            ConfigError: an unknown criterion, a key that is not set, a cache that cannot be used, an engine that nobody
                handed in.
        """
        self._config = config
        self._criteria = [load_criterion(name) for name in config.criteria]
        self._media_root = None if config.media_root is None else resolve_path(config.media_root)
        self._endpoints: list[OpenAIEndpoint] = []
        backends = {scorer.name: self._backend(scorer, engines or {}) for scorer in config.scorers}
        self._cache = ReplyCache(resolve_path(config.cache))
        self._scorers = [Scorer(s, backends[s.name], self._cache) for s in config.scorers]
        self.canaries = Canaries(config.canaries)

    async def score(self, item: ScoredItem) -> PanelResult:
        """Votes and value of `item`; what fails is a missing vote and never a number.

        Raises:
            RunError: a token budget is spent, or a scorer takes too many canaries for good.
        """
        found: list[Vote | str] = []
        canary = self.canaries.beside(item)
        try:
            async with asyncio.TaskGroup() as tasks:
                if canary is not None:
                    tasks.create_task(self._score_canary(*canary))
                asked = [tasks.create_task(self._vote(s, c, item)) for s, c in self._asked(item)]
            found = [task.result() for task in asked]
        except ExceptionGroup as group:
            stops = group.subgroup(RunError)
            if stops is None:
                raise
            raise _first(stops) from None
        votes = tuple(vote for vote in found if isinstance(vote, Vote))
        missing = tuple(reason for reason in found if isinstance(reason, str))
        if not found:
            missing = (f"sample {item.uid}: no criterion applies: it lacks what they need (a reference, a picture)",)
        return PanelResult(uid=item.uid, value=self._value(item, votes), votes=votes, missing=missing)

    async def close(self) -> None:
        for endpoint in self._endpoints:
            await endpoint.close()
        self._cache.close()

    def _asked(self, item: ScoredItem) -> list[tuple[Scorer, Criterion]]:
        return [(s, c) for s in self._scorers for c in self._criteria if c.asks(item, s.config.sees_pictures)]

    async def _vote(self, scorer: Scorer, criterion: Criterion, item: ScoredItem) -> Vote | str:
        try:
            urls = await self._pictures(scorer, criterion, item)
            verdict = await scorer.ask(self._question(scorer.config, criterion, item, urls))
        except NoVote as reason:
            return str(reason)
        except BadPicture as reason:
            return f"scorer {scorer.config.name}, criterion {criterion.name}, sample {item.uid}: {reason}"
        reason = one_line(verdict.reason, REASON_CHARS)
        return Vote(scorer=scorer.config.name, criterion=criterion.name, score=verdict.score, reason=reason)

    def _question(
        self, scorer: ScorerConfig, criterion: Criterion, item: ScoredItem, urls: Sequence[str]
    ) -> Question[Verdict]:
        return Question(
            about=f"criterion {criterion.name}",
            uid=item.uid,
            whole=(item.question, item.reference, item.response),
            messages=lambda delimiter: criterion.messages(
                item, urls, delimiter=delimiter, max_chars=self._config.max_chars
            ),
            schema=reply_schema(scorer.max_reason_chars),
            parse=parse_verdict,
        )

    async def _pictures(self, scorer: Scorer, criterion: Criterion, item: ScoredItem) -> Sequence[str]:
        if PICTURES not in criterion.parts or not scorer.config.sees_pictures:
            return ()
        max_bytes = int(self._config.max_image_mib * 2**20)
        return [await asyncio.to_thread(picture_url, path, self._media_root, max_bytes) for path in item.pictures]

    async def _score_canary(self, canary: ScoredItem, good: bool) -> None:
        criterion = next(c for c in self._criteria if c.name == CANARY_CRITERION)
        asked = [scorer for scorer, applies in self._asked(canary) if applies is criterion]
        for found in await asyncio.gather(*(self._vote(scorer, criterion, canary) for scorer in asked)):
            if isinstance(found, Vote):
                self.canaries.count(found, good)

    def _value(self, item: ScoredItem, votes: Sequence[Vote]) -> float | None:
        """By the declared rules; None when a vote that they need is missing."""
        asked = self._asked(item)
        given = {(vote.scorer, vote.criterion) for vote in votes}
        absent = {s.config.name for s, c in asked if (s.config.name, c.name) not in given}
        if absent and self._config.on_missing_vote == "mask":
            return None
        kept = [vote for vote in votes if vote.scorer not in absent]
        # A criterion that only dropped scorers were asked by must not vanish from the value.
        if not kept or {vote.criterion for vote in kept} != {c.name for _, c in asked}:
            return None
        return aggregate(kept, self._config.aggregation)

    def _backend(self, scorer: ScorerConfig, engines: Mapping[str, Backend]) -> Backend:
        if scorer.base_url is not None:
            self._endpoints.append(OpenAIEndpoint(scorer))
            return self._endpoints[-1]
        if scorer.name not in engines:
            raise ConfigError(
                f"scorer {scorer.name}: its engine was not started: only a run starts engines, so name a base_url here"
            )
        return engines[scorer.name]


def _first(group: BaseExceptionGroup) -> BaseException:
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group
