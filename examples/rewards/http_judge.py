"""An async plugin that asks an HTTP service: it gets the answer and the gold as JSON and replies `{"score": 0.7}`.

    rewards:
      timeout_s: 60
      functions:
        - name: boxed_accuracy
        - {name: "examples/rewards/http_judge.py:http_judge", weight: 0.5, args: {url: "http://judge:8000/score"}}

A service that is down or babbles gives no verdict, never a number: the row is masked, counted, and named if there are
too many of them. The key, if the service wants one, is named by its environment variable and never written down.
"""

from __future__ import annotations

import asyncio
import json
import os

import httpx

from pangu_rl.records import Completion, Outcome, Part, Prompt

ATTEMPTS = 3
PAUSE_S = 0.2


async def http_judge(
    prompt: Prompt, completion: Completion, *, url: str, timeout_s: float = 10.0, key_env: str | None = None
) -> Part:
    """The service's score between 0 and 1."""
    headers = {"Content-Type": "application/json"}
    if key_env:
        headers["Authorization"] = f"Bearer {os.environ[key_env]}"
    # ASCII, since a model can write half a surrogate pair, which has no UTF-8.
    body = json.dumps({"uid": completion.uid, "answer": completion.text, "gold": prompt.answer}).encode("ascii")
    reason = ""
    async with httpx.AsyncClient(timeout=timeout_s, headers=headers) as client:
        for attempt in range(ATTEMPTS):
            await asyncio.sleep(attempt * PAUSE_S)
            try:
                response = await client.post(url, content=body)
            except httpx.HTTPError as error:
                reason = f"{type(error).__name__}: {error}"
                continue
            if response.is_success:
                return _part(response)
            reason = f"HTTP {response.status_code}"
            if response.status_code < 500 and response.status_code != 429:
                break
    return Part(value=None, outcome=Outcome.ERROR, detail=f"{url}: {reason}")


def _part(response: httpx.Response) -> Part:
    try:
        score = response.json()["score"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        return Part(value=None, outcome=Outcome.ERROR, detail=f"a reply without a score: {type(error).__name__}")
    # JSON's true and "0.9" are no numbers, whatever Python would make of them.
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
        return Part(value=None, outcome=Outcome.ERROR, detail=f"score {score!r:.60} is no number between 0 and 1")
    return Part(value=float(score), outcome=Outcome.CORRECT if score == 1.0 else Outcome.INCORRECT)
