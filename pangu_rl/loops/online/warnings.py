"""What makes a run of GRPO learn nothing or little, said in words **before it starts and while it goes on**."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pangu_rl.config.stages import GrpoConfig

HIGH_RATE = 1e-2
"""Of AdamW: no recipe of a language model trains above a hundredth of it."""
CUT, LAST = 0.95, 5
"""Share of answers that are cut, and over how many steps at the end, that no one can mean."""


def start_warnings(config: GrpoConfig, rows: int) -> Iterator[str]:
    """Settings that are allowed and most likely not meant; `rows` are the usable ones of `data.train`."""
    prompts, rate = config.trainer.prompts_per_step, config.learner.optimizer.lr
    if prompts > rows:
        yield (
            f"trainer.prompts_per_step is {prompts} and data.train has {rows} usable rows: a step draws some prompts "
            f"{-(-prompts // rows)} times"
        )
    if rate > HIGH_RATE:
        yield f"learner.optimizer.lr is {rate:g}: rates above {HIGH_RATE:g} destroy a language model within a few steps"


def step_warnings(step: int, metrics: Mapping[str, float]) -> Iterator[str]:
    """Why nothing was learned in a step whose groups all have no advantage, and tokens that are no tokens."""
    if unknown := metrics.get("response/unknown_tokens"):
        yield (
            f"step {step}: {unknown:.0f} drawn tokens are none of the tokenizer's (the model's vocabulary is padded): "
            "they are trained as drawn, and texts leave them out"
        )
    if metrics.get("groups/zero_variance") != 1.0:
        return
    outcomes = {name.removeprefix("outcome/"): share for name, share in metrics.items() if name.startswith("outcome/")}
    most = max(outcomes, key=outcomes.__getitem__)
    yield (
        f"step {step}: nothing to learn, all answers to each prompt have one reward ({outcomes[most]:.0%} {most}): "
        "look at rollouts/ and the rewards; dynamic sampling, a short start (start.sft_config) or easier prompts help"
    )


def end_warnings(rows: Sequence[Mapping[str, float | None]]) -> Iterator[str]:
    """What looks like a run that went well and was none, of the steps of its metrics.jsonl."""
    steps = [row for row in rows if row.get("groups/zero_variance") is not None]
    if not steps:
        return
    if all(row["groups/zero_variance"] == 1.0 for row in steps):
        yield (
            f"in none of the {len(steps)} steps was anything learned: all answers to each prompt had one reward; look "
            "at rollouts/, and try easier prompts, another reward, more completions, or a start by SFT"
        )
    if all(row.get("reward/mean") == 0.0 for row in steps):
        yield (
            f"the reward was 0 in all {len(steps)} steps: `pangu-rl check-plugin` tries the reward function, and "
            "rollouts/ has what it was given"
        )
    if all((row.get("response/truncated") or 0.0) >= CUT for row in steps[-LAST:]):
        yield (
            f"nearly all answers of the last steps were cut at rollout.max_new_tokens (in step {steps[-1]['step']} "
            f"{steps[-1]['response/truncated']:.0%}): raise it, or add the reward soft_overlong"
        )
