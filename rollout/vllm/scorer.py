"""A vLLM engine that replies to chats under a JSON schema: what an LLM scorer asks. Chats -> **vLLM** -> replies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from vllm import LLM, RequestOutput
from vllm import SamplingParams as VllmSamplingParams
from vllm.sampling_params import StructuredOutputsParams

from rollout.engine import EngineSpec
from rollout.vllm.engine_args import common_args
from rollout.vllm.refusal import REFUSED

Chat = dict[str, Any]
"""`messages` in the OpenAI form (pictures as data URLs), `schema`, `temperature`, `seed`, `max_tokens`."""
ChatReply = dict[str, Any]
"""`text`, `tokens` (read and written) and `problem` (why it is no whole reply, or empty); or `error` alone."""


class VllmScorer:
    """One engine; its weights are those of its folder for good."""

    def __init__(self, spec: EngineSpec) -> None:
        if spec.rollout.eager:
            # As in `VllmEngine`: a few sampler functions would be compiled even so.
            torch.compiler.set_stance("force_eager")
        self._llm = LLM(**_engine_args(spec))

    def chat(self, chats: Sequence[Chat]) -> list[ChatReply]:
        """A reply to each, in order. One that is not admitted (too long, a bad picture) has an `error`; the others of
        its batch are drawn in halves of halves around it, some log2 of the batch's size one after the other."""
        try:
            return self._chat(chats)
        except REFUSED as error:
            if len(chats) == 1:
                return [{"error": f"{type(error).__name__}: {error}"}]
            middle = len(chats) // 2
            return [*self.chat(chats[:middle]), *self.chat(chats[middle:])]

    def _chat(self, chats: Sequence[Chat]) -> list[ChatReply]:
        outputs = self._llm.chat([chat["messages"] for chat in chats], [_sampling(c) for c in chats], use_tqdm=False)
        return [_reply(output) for output in outputs]


def _engine_args(spec: EngineSpec) -> dict[str, Any]:
    return common_args(spec, spec.rollout.kv_cache_gib) | {
        # Between the tokens of JSON, a small model fills its whole reply with whitespace if it may.
        "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
    }


def _sampling(chat: Chat) -> VllmSamplingParams:
    return VllmSamplingParams(
        temperature=chat["temperature"] or 0.0,
        seed=chat["seed"],
        max_tokens=chat["max_tokens"],
        structured_outputs=StructuredOutputsParams(json=chat["schema"]),
    )


def _reply(output: RequestOutput) -> ChatReply:
    drawn = output.outputs[0]
    return {
        "text": drawn.text,
        "tokens": len(output.prompt_token_ids) + len(drawn.token_ids),
        "problem": "" if drawn.finish_reason == "stop" else f"cut: finish reason {drawn.finish_reason}",
    }
