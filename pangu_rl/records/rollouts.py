"""Between the loop and the engines: requests -> signs of life -> **completions**. Lengths in brackets: T tokens."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np

from pangu_rl.records.prompts import Picture


class FinishReason(StrEnum):
    """Why a completion ended."""

    STOP = "stop"
    """The model wrote an end-of-sequence token, which is part of `token_ids` and is trained."""
    LENGTH = "length"
    """The token limit cut it; the declared overlong policy decides what becomes of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How completions are drawn. Log-probs are those of the distribution after temperature (and top-p, top-k)."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    """0 means no limit."""
    max_new_tokens: int = 1024
    stop: tuple[str, ...] = ()
    """Strings that end an answer; its text ends before them, its tokens hold what was drawn."""
    allowed_token_ids: tuple[int, ...] = ()
    """Nothing else is drawn; empty for all tokens. Greedy sampling only."""
    ignore_eos: bool = False
    """For benchmarks of exact length only."""

    def __post_init__(self) -> None:
        assert self.temperature == 0 or not self.allowed_token_ids, "log-probs would be of another distribution"


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """What an interrupted answer has so far; the engine that goes on from it computes the keys of these tokens anew."""

    token_ids: tuple[int, ...] = ()
    """[T]"""
    logprobs: tuple[float, ...] = ()
    """[T], each under the weights that drew the token."""
    weight_versions: tuple[int, ...] = ()
    """[T]"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A sign of life of an engine in mid-answer, at most once a second and only when tokens were made."""

    tokens: dict[str, int]
    """Uid -> tokens so far, of the answers that have begun and are not finished."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutRequest:
    """One completion to draw. A group of N completions is N requests of one `group`."""

    uid: str
    """`<group>/<index>`; the completion carries the same uid, also when another actor draws it after a crash."""
    group: str
    """`<epoch>:<prompt uid>`: identity of the GRPO group, never the prompt's text."""
    prompt_uid: str
    prompt_token_ids: tuple[int, ...]
    """[T], every picture's placeholder repeated once per token of it."""
    sampling: SamplingParams
    seed: int
    """Sampling seed of this request alone, a function of the run's seed, the step and `uid`."""
    pictures: tuple[Picture, ...] = ()
    """In the order of their placeholders; all requests of a group hold the same objects."""
    begun: Begun | None = None
    """Tokens that the answer goes on from; they count towards `max_new_tokens` and stand in the completion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scorable:
    """A token sequence whose log-probs an engine is asked for, with its pictures."""

    token_ids: tuple[int, ...]
    """[T], placeholders expanded."""
    pictures: tuple[Picture, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Completion:
    """One finished completion."""

    uid: str
    group: str
    prompt_uid: str
    token_ids: tuple[int, ...]
    """[T] sampled ids, with the end-of-sequence id if the model wrote it. Training uses these, never a re-encoding."""
    logprobs: tuple[float, ...]
    """[T] sampler log-probs of `token_ids`, after temperature, each under the weights that drew the token."""
    text: str
    finish_reason: FinishReason
    weight_versions: tuple[int, ...]
    """[T] version of the weights that drew each token; one version in synchronous mode, never falling otherwise."""
    seconds: float = 0.0

    @property
    def weight_version(self) -> int:
        """The oldest version that drew a token; -1, which no weights have, without tokens."""
        return min(self.weight_versions, default=-1)

    @cached_property
    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """int32 [T] and float32 [T] of `token_ids` and `logprobs`: what is stored and packed, made once.

        Raises:
            ValueError: they are not as many.
        """
        if len(self.logprobs) != len(self.token_ids):
            raise ValueError(
                f"completion {self.uid} has {len(self.token_ids)} tokens and {len(self.logprobs)} log-probs"
            )
        return np.array(self.token_ids, dtype=np.int32), np.array(self.logprobs, dtype=np.float32)
