"""The protocol of a reward function: the one thing a plugin author has to know.

A reward function looks at one prompt and one completion and returns a `Part` (a value and what the grader found), or a
plain number. It may be `async`. It must not return 0 for its own failure: raise, and the run names the sample; raise
`TimeoutError`, and the row has no verdict.

    def short_answer(prompt: Prompt, completion: Completion, *, limit: int = 200) -> float:
        return 1.0 if len(completion.text) <= limit else 0.0
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable
from typing import Any, Protocol

from pangu_rl.records import Completion, Part, Prompt


def whole_answer(prompt: Prompt, completion: Completion) -> str:
    """The answer from its beginning: what the prompt opened of it, then what the model wrote."""
    return prompt.opened + completion.text


class RewardFunction(Protocol):
    """`(prompt, completion) -> Part | float`, sync or async; `args` of the configuration come as keywords."""

    def __call__(self, prompt: Prompt, completion: Completion, /) -> Part | float | Awaitable[Part | float]: ...


def call(function: RewardFunction, prompt: Prompt, completion: Completion) -> Any:
    """What `function` says, also an async one; outside of any event loop."""
    result = function(prompt, completion)
    return asyncio.run(_awaited(result)) if inspect.isawaitable(result) else result


async def _awaited(result: Awaitable[Any]) -> Any:
    return await result
