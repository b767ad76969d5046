"""The gold audit: every gold answer must grade itself correct before a run starts, or its row is reported."""

from __future__ import annotations

from pangu_rl.errors import RewardError, RunError, UserError
from pangu_rl.records import THINKING, Completion, FinishReason, Outcome, Part, Prompt
from rewards.base import RewardFunction, call
from rewards.grounding.right_answers import right_answer
from rewards.recipe.accuracy import gold_of
from rewards.rubric import checked_part
from rewards.rules.gold import BadGold


def gold_problem(prompt: Prompt, function: RewardFunction) -> str | None:
    """Why `prompt` cannot be learned from (its boxed gold is not graded correct), or None.

    Raises:
        RewardError: the function itself failed, which is no fault of the row.
    """
    try:
        result = call(function, prompt, _gold_completion(prompt))
    except BadGold as error:
        return f"the gold {prompt.answer[:60]!r} cannot be graded: {error}"
    except TimeoutError as error:  # its way to say that it has no verdict
        return f"the gold {prompt.answer[:60]!r} cannot be graded: {type(error).__name__}: {error}"
    except (UserError, RunError):
        raise
    except Exception as error:  # whatever a plugin raises, the run must name the plugin and the sample
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise RewardError(
            f"reward function {_name(function)} raised {said} on the gold {prompt.answer[:60]!r} of {prompt.uid}: "
            "mend the function; of a row that it cannot judge it returns a Part without a value"
        ) from error
    part = checked_part(result, f"reward function {_name(function)} on the gold of {prompt.uid}")
    if part.outcome is Outcome.CORRECT:
        return None
    if part.outcome is Outcome.ERROR:
        return f"the gold {prompt.answer[:60]!r} cannot be graded: {part.detail}"
    grade = f"{part.outcome} {part.detail}".strip()
    return f"the gold {prompt.answer[:60]!r} does not grade itself correct as {prompt.answer_type}: {grade}"


def gold_part(prompt: Prompt, function: RewardFunction) -> Part:
    """What `function` says of the boxed gold; raises what it raises, and `RewardError` if that is no score."""
    result = call(function, prompt, _gold_completion(prompt))
    return checked_part(result, f"reward function {_name(function)} on the gold of {prompt.uid}")


def _name(function: RewardFunction) -> str:
    return getattr(getattr(function, "func", function), "__name__", type(function).__name__)


def _gold_completion(prompt: Prompt) -> Completion:
    answer = right_answer(gold_of(prompt))
    return Completion(
        uid=f"gold:{prompt.uid}",
        group=f"gold:{prompt.uid}",
        prompt_uid=prompt.uid,
        token_ids=(),
        logprobs=(),
        text=f"{THINKING.get(prompt.opened, '')}\\boxed{{{answer}}}",
        finish_reason=FinishReason.STOP,
        weight_versions=(),
    )
