"""One scorer: item and criterion -> **a vote**, from the cache or from its model, or the reason why there is none."""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
from collections.abc import Sequence
from dataclasses import asdict
from weakref import WeakValueDictionary

from pangu_rl.config.sections.scorers import ScorerConfig
from pangu_rl.errors import RunError
from pangu_rl.records import Vote
from rewards.scorers.cache import ReplyCache
from rewards.scorers.criteria import Criterion
from rewards.scorers.outage import Breaker, Pace, attempts
from rewards.scorers.records import Backend, BackendError, NoVote, Request, ScoredItem
from rewards.scorers.untrusted import one_line
from rewards.scorers.verdict import REASON_CHARS, BadReply, parse_verdict, reply_schema

SAME_DELIMITER = "0" * 32
"""Stands in the cache's key for the delimiter that is drawn per request."""
RETRY_TEMPERATURE = 0.7
"""A greedy model that was asked again would only repeat its bad reply."""


class Scorer:
    """Lives in one event loop."""

    def __init__(self, config: ScorerConfig, backend: Backend, cache: ReplyCache, max_chars: int) -> None:
        self.config = config
        self._backend = backend
        self._cache = cache
        self._max_chars = max_chars
        self._breaker = Breaker(config.retry)
        self._pace = Pace(config.limits)
        self._asking: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def vote(self, criterion: Criterion, item: ScoredItem, picture_urls: Sequence[str]) -> Vote:
        """The scorer's vote on `item` by `criterion`.

        Raises:
            NoVote: it is down, it babbles, or it refuses.
            RunError: its token budget is spent.
        """
        key = self._key(criterion, item, picture_urls)
        # Equal responses of a group are asked about once, also when they come at the same moment.
        async with self._asking.setdefault(key, asyncio.Lock()):
            text = self._cache.reply(key)
            if text is None:
                text = await self._ask(criterion, item, picture_urls)
                self._cache.keep(key, self.config.name, text)
        verdict = parse_verdict(text)
        return Vote(
            scorer=self.config.name,
            criterion=criterion.name,
            score=verdict.score,
            reason=one_line(verdict.reason, REASON_CHARS),
        )

    async def _ask(self, criterion: Criterion, item: ScoredItem, picture_urls: Sequence[str]) -> str:
        try:
            return await self._breaker.run(lambda: self._attempts(criterion, item, picture_urls))
        except (BackendError, BadReply) as error:
            what = "no usable reply" if isinstance(error, BadReply) else "no reply"
            raise NoVote(
                f"scorer {self.config.name}, criterion {criterion.name}, sample {item.uid}: {what}: {error}"
            ) from None

    async def _attempts(self, criterion: Criterion, item: ScoredItem, picture_urls: Sequence[str]) -> str:
        async for attempt in attempts(self.config.retry):
            with attempt:
                number = attempt.retry_state.attempt_number
                request = self._request(criterion, item, picture_urls, secrets.token_hex(16), number)
                async with self._pace.slot():
                    self._require_budget()
                    reply = await self._backend.complete(request)
                self._cache.spend(self.config.name, reply.tokens)
                if reply.problem:
                    raise BadReply(reply.problem)
                parse_verdict(reply.text)
                return reply.text
        raise AssertionError("the last attempt raises")

    def _require_budget(self) -> None:
        budget, spent = self.config.limits.token_budget, self._cache.spent(self.config.name)
        if budget is not None and spent >= budget:
            raise RunError(
                f"scorer {self.config.name} has spent {spent} tokens, its limits.token_budget is {budget}: raise it to "
                "go on; the votes so far are in the cache"
            )

    def _request(
        self, criterion: Criterion, item: ScoredItem, picture_urls: Sequence[str], delimiter: str, attempt: int
    ) -> Request:
        config = self.config
        repeated = attempt > 1
        return Request(
            messages=criterion.messages(item, picture_urls, delimiter=delimiter, max_chars=self._max_chars),
            schema=reply_schema(config.max_reason_chars),
            temperature=max(config.temperature, RETRY_TEMPERATURE)
            if repeated and config.temperature is not None
            else config.temperature,
            seed=None if config.seed is None else config.seed + attempt - 1,
            max_tokens=config.max_reply_tokens,
        )

    def _key(self, criterion: Criterion, item: ScoredItem, picture_urls: Sequence[str]) -> str:
        """All that decides a reply: the model, the sampling, the prompt, the whole item and its pictures' content."""
        request = self._request(criterion, item, picture_urls, SAME_DELIMITER, attempt=1)
        whole = [self._backend.identity, asdict(request), item.question, item.reference, item.response]
        return hashlib.sha256(json.dumps(whole, sort_keys=True).encode("ascii")).hexdigest()
