"""The answers that a vLLM engine is drawing: how far each is, and what it has when it is broken off.

vLLM hands out an answer when it is finished. What it has before then lies in the states of its output processor, and
is read there: to be handed every token would cost each step an object for each sequence.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from vllm import LLMEngine

from pangu_rl.records import Begun, RolloutRequest
from rollout.engine import Interrupted


class Running:
    """Requests between their admission and their end, with the time of the former (monotonic, seconds)."""

    def __init__(self, llm: LLMEngine) -> None:
        self._llm = llm
        self._requests: dict[str, tuple[RolloutRequest, float]] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._requests)

    def __len__(self) -> int:
        return len(self._requests)

    def add(self, request: RolloutRequest) -> None:
        self._requests[request.uid] = request, time.monotonic()

    def pop(self, uid: str) -> tuple[RolloutRequest, float]:
        return self._requests.pop(uid)

    def tokens(self) -> dict[str, int]:
        """Uid -> tokens so far, of the answers that have any."""
        drawn = {uid: state.detokenizer.num_output_tokens() for uid, state in self._states().items()}
        begun = {uid: len(r.begun.token_ids) if r.begun else 0 for uid, (r, _) in self._requests.items()}
        return {uid: count for uid in begun if (count := begun[uid] + drawn.get(uid, 0))}

    def break_off(self, version: int) -> list[Interrupted]:
        """Take all requests out of the engine, with what each has so far, drawn by weights of `version`."""
        states = self._states()
        found = []
        for uid, (request, _) in self._requests.items():
            state = states[uid]
            ids = list(state.detokenizer.output_token_ids)
            begun = gone_on(request, ids, state.logprobs_processor.logprobs, version)
            found.append(Interrupted(uid=uid, begun=begun if begun.token_ids else None))
        self._llm.abort_request(list(self._requests))
        self._requests = {}
        return found

    def _states(self) -> dict[str, Any]:
        return {state.external_req_id: state for state in self._llm.output_processor.request_states.values()}


def gone_on(request: RolloutRequest, ids: Sequence[int], logprobs: Any, version: int) -> Begun:
    """What `request` came with, and the `ids` [T] that weights of `version` drew, with vLLM's log-probs of them."""
    begun = request.begun or Begun()
    drawn = (position[token].logprob for position, token in zip(logprobs, ids, strict=True))
    return Begun(
        token_ids=(*begun.token_ids, *ids),
        logprobs=(*begun.logprobs, *drawn),
        weight_versions=begun.weight_versions + (version,) * len(ids),
    )
