"""What the contract test shows a plugin: a right answer, a wrong one, nothing, hostile text, and a megabyte."""

from __future__ import annotations

from collections.abc import Sequence

from pangu_rl.records import Completion, FinishReason, Prompt

SAMPLES = {
    "correct": "the gold in a box",
    "incorrect": "another answer",
    "empty": "no text at all",
    "hostile": "braces, control and format characters, half a surrogate pair, code, a false end of thinking",
    "very long": "a megabyte in 24576 tokens",
}
"""Kind of a completion -> what it is."""

_HOSTILE = (
    "\\boxed{" * 200,
    "}" * 500 + "\\boxed{\\boxed{}",
    "\x00\x1b[2J\u202e\u200b\\boxed{\ud800}",
    "\\boxed{__import__('os').system('false')} {{7*7}} ${x} <script>alert(1)</script>",
    "<think><think></think>\\boxed{9**9**9**9}",
    " \n\t\r ",
)
_LONG = "so 7 and \\boxed{ " * (2**20 // 17)
_TOKENS = 24576
_SUM = Prompt(
    uid="sum",
    messages=({"role": "user", "content": "What is 3 + 4? Put the final answer in \\boxed{}."},),
    answer="7",
    source="sum",
)


def samples_of(prompts: Sequence[Prompt]) -> dict[str, list[tuple[Prompt, Completion]]]:
    """Kind -> pairs to call a plugin with; each kind once per prompt, hostile ones with the first."""
    rows = list(prompts) or [_SUM]
    return {
        "correct": [(row, _completion(row, f"I get \\boxed{{{row.answer}}}.")) for row in rows],
        "incorrect": [(row, _completion(row, "It is \\boxed{quite another thing}.")) for row in rows],
        "empty": [(row, _completion(row, "", tokens=1)) for row in rows],
        "hostile": [(rows[0], _completion(rows[0], text)) for text in _HOSTILE],
        "very long": [(rows[0], _completion(rows[0], _LONG, tokens=_TOKENS, finish=FinishReason.LENGTH))],
    }


def _completion(
    prompt: Prompt, text: str, tokens: int | None = None, finish: FinishReason = FinishReason.STOP
) -> Completion:
    count = tokens or len(text.split()) + 1
    return Completion(
        uid=f"0:{prompt.uid}/0",
        group=f"0:{prompt.uid}",
        prompt_uid=prompt.uid,
        token_ids=tuple(range(count)),
        logprobs=(-0.5,) * count,
        text=text,
        finish_reason=finish,
        weight_versions=(0,) * count,
    )
