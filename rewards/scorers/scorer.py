"""One scorer: a question -> **its model's reply, parsed**, from the cache or asked for, or why there is none."""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
from dataclasses import asdict
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from pangu_rl.config.sections.scorers import ScorerConfig
from pangu_rl.errors import RunError
from rewards.scorers.cache import ReplyCache
from rewards.scorers.outage import Breaker, Pace, attempts
from rewards.scorers.records import Backend, BackendError, BadReply, NoVote, Question, Request

Parsed = TypeVar("Parsed")
SAME_DELIMITER = "0" * 32
"""Stands in the cache's key for the delimiter that is drawn per request."""
RETRY_TEMPERATURE = 0.7
"""A greedy model that was asked again would only repeat its bad reply."""


class Scorer:
    """Lives in one event loop."""

    def __init__(self, config: ScorerConfig, backend: Backend, cache: ReplyCache) -> None:
        self.config = config
        self._backend = backend
        self._cache = cache
        self._breaker = Breaker(config.retry)
        self._pace = Pace(config.limits)
        self._asking: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def ask(self, question: Question[Parsed]) -> Parsed:
        """What the model says to `question`.

        Raises:
            NoVote: it is down, it babbles, or it refuses.
            RunError: its token budget is spent.
        """
        key = self._key(question)
        # Equal responses of a group are asked about once, also when they come at the same moment.
        async with self._asking.setdefault(key, asyncio.Lock()):
            text = self._cache.reply(key)
            if text is None:
                text = await self._reply(question)
                self._cache.keep(key, self.config.name, text)
        return question.parse(text)

    async def _reply(self, question: Question[Any]) -> str:
        try:
            return await self._breaker.run(lambda: self._attempts(question))
        except (BackendError, BadReply) as error:
            what = "no usable reply" if isinstance(error, BadReply) else "no reply"
            raise NoVote(
                f"scorer {self.config.name}, {question.about}, sample {question.uid}: {what}: {error}"
            ) from None

    async def _attempts(self, question: Question[Any]) -> str:
        async for attempt in attempts(self.config.retry):
            with attempt:
                number = attempt.retry_state.attempt_number
                request = self._request(question, secrets.token_hex(16), number)
                async with self._pace.slot():
                    self._require_budget()
                    reply = await self._backend.complete(request)
                self._cache.spend(self.config.name, reply.tokens)
                if reply.problem:
                    raise BadReply(reply.problem)
                question.parse(reply.text)
                return reply.text
        raise AssertionError("the last attempt raises")

    def _require_budget(self) -> None:
        budget, spent = self.config.limits.token_budget, self._cache.spent(self.config.name)
        if budget is not None and spent >= budget:
            raise RunError(
                f"scorer {self.config.name} has spent {spent} tokens, its limits.token_budget is {budget}: raise it to "
                "go on; the votes so far are in the cache"
            )

    def _request(self, question: Question[Any], delimiter: str, attempt: int) -> Request:
        config = self.config
        repeated = attempt > 1
        return Request(
            messages=question.messages(delimiter),
            schema=question.schema,
            temperature=max(config.temperature, RETRY_TEMPERATURE)
            if repeated and config.temperature is not None
            else config.temperature,
            seed=None if config.seed is None else config.seed + attempt - 1,
            max_tokens=config.max_reply_tokens,
        )

    def _key(self, question: Question[Any]) -> str:
        """All that decides a reply: the model, the sampling, the prompt, the whole item and its pictures' content."""
        request = self._request(question, SAME_DELIMITER, attempt=1)
        whole = [self._backend.identity, asdict(request), *question.whole]
        return hashlib.sha256(json.dumps(whole, sort_keys=True).encode("ascii")).hexdigest()
