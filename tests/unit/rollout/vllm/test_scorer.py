"""One refused chat in a batch: found by halves, so that the others are not drawn one by one."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("vllm")

pytestmark = pytest.mark.slow  # the import alone takes longer than a quick test may


@dataclass
class Engine:
    """Refuses whole batches, as vLLM does, and echoes the others."""

    refused: set[int]
    drawn: list[int] = field(default_factory=list)
    """Sizes of the batches that it drew."""

    def chat(self, messages: list[int], sampling: list[Any], use_tqdm: bool) -> list[Any]:
        if bad := self.refused.intersection(messages):
            raise ValueError(f"{min(bad)} is too long")
        self.drawn.append(len(messages))
        return [
            SimpleNamespace(
                prompt_token_ids=(), outputs=[SimpleNamespace(text=str(m), token_ids=(), finish_reason="stop")]
            )
            for m in messages
        ]


@pytest.mark.parametrize("refused", [set(), {0}, {37}, {63}, {5, 6, 50}, set(range(64))])
def test_a_refused_chat_is_found_by_halves(refused: set[int]) -> None:
    from rollout.vllm.scorer import VllmScorer

    scorer = VllmScorer.__new__(VllmScorer)
    scorer._llm = engine = Engine(refused)
    chats = [{"messages": i, "schema": {}, "temperature": 0.0, "seed": 0, "max_tokens": 8} for i in range(64)]
    expected = [f"ValueError: {i} is too long" if i in refused else str(i) for i in range(64)]
    assert [reply.get("error", reply.get("text")) for reply in scorer.chat(chats)] == expected
    assert sum(engine.drawn) == 64 - len(refused)
    assert len(engine.drawn) <= max(1, 6 * len(refused)), "one refusal halves the batch of 64 six times"
