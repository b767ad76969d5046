"""The reward function of evaluations with a judge: rules read the answer, and **a model reads what they cannot**.

    answer --rules read it--> score by the row's metric
           --they cannot--> judge --its answer--> the same metric

Of the answers that rules read, the judge reads a share too, so that every table says how far it is to be trusted.
"""

from __future__ import annotations

from dataclasses import replace
from string import ascii_uppercase
from typing import TYPE_CHECKING

from pangu_rl.records import Completion, Extraction, Outcome, Part, Prompt
from rewards.base import whole_answer
from rewards.metrics.benchmark import UNREAD, benchmark
from rewards.rules.boxed_answer import answer_part
from rewards.scorers.llm_score import conversation
from rewards.scorers.own_thread import in_scorers_thread, running_engines
from rewards.scorers.records import NoVote

if TYPE_CHECKING:
    from rewards.scorers.judge import Judge


async def judged_benchmark(prompt: Prompt, completion: Completion, *, config: str) -> Part:
    """As `benchmark`; what that cannot read of a benchmark that is `judged`, the judge of the file `config` (a
    `JudgeConfig` in YAML) reads. No reply of the judge is no verdict.

    Raises:
        ConfigError: the file, or the judge that it describes, cannot be used.
        RunError: its token budget is spent.
    """
    part = await benchmark(prompt, completion)
    response = (answer_part(whole_answer(prompt, completion)) or "").strip()
    if not prompt.extra.get("judged") or not response or not part.outcome.is_verdict:
        return part
    return await in_scorers_thread(config, _make_judge, lambda judge: _read(judge, part, prompt, completion, response))


async def _read(judge: Judge, part: Part, prompt: Prompt, completion: Completion, response: str) -> Part:
    from rewards.scorers.judge import Said

    unread = part.outcome in UNREAD
    if not unread and not judge.audits(completion.uid):
        return part
    said = Said(uid=completion.uid, question=conversation(prompt), response=response, choices=_choices(prompt))
    try:
        answer = await judge.read(said)
    except NoVote as reason:
        return Part.no_verdict(Outcome.ERROR, str(reason)) if unread else part
    extraction = Extraction(judge=judge.name, answer=answer)
    if answer is None:
        return replace(part, extraction=replace(extraction, agrees=None if unread else False))
    boxed = replace(completion, text=f"\\boxed{{{answer}}}")
    again = await benchmark(replace(prompt, opened=""), boxed)
    if unread:
        return replace(again, extraction=extraction)
    return replace(part, extraction=replace(extraction, agrees=again.outcome is part.outcome))


def _choices(prompt: Prompt) -> tuple[str, ...]:
    match prompt.extra["scored_by"]:
        case "choice":
            return tuple(ascii_uppercase[: len(prompt.extra["choices"])])
        case "yes_no":
            return ("yes", "no")
    return ()


async def _make_judge(config: str) -> Judge:
    # Imported late: the endpoints' client is heavy, and whoever scores by rules never needs it.
    from pangu_rl.config.load import load_config
    from pangu_rl.config.sections.scorers import JudgeConfig
    from rewards.scorers.judge import Judge
    from rewards.scorers.openai_endpoint import OpenAIEndpoint

    settings = load_config(JudgeConfig, config)
    engines = await running_engines(settings.scorers)
    return Judge(settings, engines.get(settings.scorer.name) or OpenAIEndpoint(settings.scorer))
