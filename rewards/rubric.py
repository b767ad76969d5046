"""Several reward functions -> one score: the weighted sum, every part kept, and no verdict never counted as 0."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import inspect
import math
import numbers
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from pangu_rl.config.sections.rewards import RewardFunctionConfig, RewardsConfig
from pangu_rl.errors import RewardError
from pangu_rl.records import Completion, Outcome, Part, Prompt, Score
from rewards.isolated import IsolatedFunction
from rewards.registry import resolve

OWN_DEADLINE = "keeps_own_deadline"
"""Set to True on a reward function that ends every call by a deadline of its own, counted from when the work begins:
the rubric's, which also counts the wait for a free child, is not for it."""


@dataclass(frozen=True, slots=True)
class WeightedFunction:
    """One line of the configuration's `rewards.functions`, resolved."""

    name: str
    weight: float
    call: Callable[[Prompt, Completion], Any]


class Rubric:
    """Scores a completion with every function; the first one decides the outcome."""

    def __init__(self, functions: list[WeightedFunction], timeout_s: float = 30.0) -> None:
        self.functions = functions
        self.timeout_s = timeout_s

    @classmethod
    def from_config(cls, config: RewardsConfig) -> Rubric:
        """Resolve every named function; raises `ConfigError` for one that cannot be."""
        functions = [WeightedFunction(f.name, f.weight, _function(f, config.timeout_s)) for f in config.functions]
        return cls(functions, config.timeout_s)

    async def score(self, prompt: Prompt, completion: Completion) -> Score:
        """The weighted sum of all parts, or None as reward when a part has no verdict.

        The deadline holds for all functions that keep none of their own. Functions run side by side.

        Raises:
            RewardError: a function raised, or returned something that is not a finite score.
        """
        deadline = asyncio.get_running_loop().time() + self.timeout_s
        found = await asyncio.gather(*(self._part(f, prompt, completion, deadline) for f in self.functions))
        parts = {f.name: part for f, part in zip(self.functions, found, strict=True)}
        return Score(completion_uid=completion.uid, reward=self.weighted_sum(parts), parts=parts)

    def weighted_sum(self, parts: dict[str, Part]) -> float | None:
        """The reward of `parts`; None when any of them has no verdict.

        Raises:
            RewardError: it is not finite, though every part is.
        """
        total = 0.0
        for function in self.functions:
            value = parts[function.name].value
            if value is None:
                return None
            total += function.weight * value
            if not math.isfinite(total):
                raise RewardError(
                    f"reward function {function.name}: weight {function.weight:g} times value {value:g}, with those "
                    "before it, is not finite: lower rewards.functions.weight"
                )
        return total

    async def _part(self, function: WeightedFunction, prompt: Prompt, completion: Completion, deadline: float) -> Part:
        until = None if keeps_own_deadline(function.call) else deadline
        try:
            async with asyncio.timeout_at(until):
                result = await _call(function.call, prompt, completion)
        except TimeoutError as error:
            return Part.no_verdict(Outcome.TIMEOUT, str(error) or f"no answer within {self.timeout_s:g} s")
        except Exception as error:  # whatever a plugin raises, the run must name the plugin and the sample
            cause = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise RewardError(f"{_where(function, completion)} raised {cause}") from error
        return checked_part(result, _where(function, completion))


def keeps_own_deadline(function: Callable[..., Any]) -> bool:
    """Whether `function`, or what it binds arguments to, is marked by `OWN_DEADLINE`."""
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, OWN_DEADLINE, False) is True


def _function(config: RewardFunctionConfig, timeout_s: float) -> Callable[[Prompt, Completion], Any]:
    return IsolatedFunction(config, timeout_s) if config.isolated else resolve(config)


def checked_part(result: Any, where: str) -> Part:
    """A function's result as a part; a plain number counts as correct from 1.0 on.

    Raises:
        RewardError: neither a number nor a `Part`, not finite, a value without a verdict, or a detail that is no text.
    """
    result = _plain(result)
    if isinstance(result, Part):
        result = dataclasses.replace(
            result,
            value=_plain(result.value),
            outcome=_outcome(result.outcome, where),
            detail=_detail(result.detail, where),
        )
    if isinstance(result, numbers.Real):
        value = _number(result, where)
        result = Part(value=value, outcome=Outcome.CORRECT if value >= 1.0 else Outcome.INCORRECT)
    if not isinstance(result, Part):
        raise RewardError(f"{where} returned {type(result).__name__} {str(result)[:60]!r}: return a Part or a number")
    if not result.outcome.is_verdict:
        if result.value is not None:
            raise RewardError(f"{where} returned value {result.value} with outcome {result.outcome}: it must be None")
    elif not isinstance(result.value, numbers.Real) or not math.isfinite(_number(result.value, where)):
        raise RewardError(f"{where} returned value {result.value} with outcome {result.outcome}: it must be finite")
    return result


def _plain(value: Any) -> Any:
    """What an array or tensor of one element holds; Python's own numbers and others as they are."""
    if isinstance(value, numbers.Real) or getattr(value, "ndim", None) != 0 or not hasattr(value, "item"):
        return value
    return value.item()


def _outcome(value: Any, where: str) -> Outcome:
    try:
        return Outcome(value)
    except ValueError:
        raise RewardError(
            f"{where} returned a Part with outcome {str(value)[:60]!r}: use one of {', '.join(Outcome)}"
        ) from None


def _detail(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise RewardError(
            f"{where} returned a Part with detail {str(value)[:60]!r}, a {type(value).__name__}: use text"
        )
    return value.encode("utf-8", "backslashreplace").decode()  # half a surrogate pair could be stored nowhere


def _number(value: numbers.Real, where: str) -> float:
    try:
        return float(value)
    except OverflowError:
        raise RewardError(f"{where} returned a number beyond the range of floats: it must be finite") from None


def no_verdict_problem(scores: list[Score], rows: int, max_share: float) -> str | None:
    """Why a step of `rows` completions cannot be trained on, or None: how many have no verdict, and which they are."""
    lost = [score for score in scores if score.reward is None]
    if len(lost) <= max_share * rows:
        return None
    named = "; ".join(f"{score.completion_uid} ({_lost_parts(score)})" for score in lost[:5])
    more = f"; and {len(lost) - 5} more" if len(lost) > 5 else ""
    why = next((part.detail for part in lost[0].parts.values() if not part.outcome.is_verdict and part.detail), "")
    return (
        f"{len(lost)} of {rows} completions have no verdict, above rewards.max_no_verdict_share {max_share}: "
        f"{named}{more}. {f'The first: {why}. ' if why else ''}Raise rewards.timeout_s if the graders are only slow"
    )


def _lost_parts(score: Score) -> str:
    return ", ".join(f"{name}: {part.outcome}" for name, part in score.parts.items() if not part.outcome.is_verdict)


def _where(function: WeightedFunction, completion: Completion) -> str:
    return f"reward function {function.name}, completion {completion.uid}"


async def _call(function: Callable[[Prompt, Completion], Any], prompt: Prompt, completion: Completion) -> Any:
    """Run a function in a thread of its own; an async one only makes its coroutine there and runs here."""
    result = await _in_thread(function, prompt, completion)
    return await result if inspect.isawaitable(result) else result


def _in_thread(function: Callable[..., Any], *args: Any) -> Awaitable[Any]:
    """A daemon thread per call: one that never returns holds no slot of a pool and does not keep the process alive."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def settle(method: Callable[[Any], None], value: Any) -> None:
        if not future.done():
            method(value)

    def run() -> None:
        try:
            outcome: tuple[Callable[[Any], None], Any] = (future.set_result, function(*args))
        except BaseException as error:  # a future takes no StopIteration, and a SystemExit would end the event loop
            ordinary = isinstance(error, Exception) and not isinstance(error, StopIteration)
            outcome = (future.set_exception, error if ordinary else RuntimeError(repr(error)))
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, *outcome)

    threading.Thread(target=run, daemon=True, name="reward").start()
    return future
