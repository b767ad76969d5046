"""Rule accuracy: the boxed answer against the prompt's typed gold. The grader does the work; this is its reward."""

from __future__ import annotations

from collections.abc import Sequence

from pangu_rl.records import Completion, Outcome, Part, Prompt
from rewards.base import whole_answer
from rewards.grader import default_grader
from rewards.rules.gold import BadGold, Gold


async def boxed_accuracy(prompt: Prompt, completion: Completion, *, deadline_s: float = 2.0) -> Part:
    """1.0 if the completion's last box answers the prompt, else 0.0 with the reason; None where there is no verdict.

    The prompt's columns `choices`, `metric`, `coordinates` and `image_size` count where its answer type needs them.
    `deadline_s` bounds one check by algebra, from its hand-over to a child. A gold that cannot be graded against is
    `error`; the audit at load finds it first.
    """
    try:
        gold = gold_of(prompt)
    except BadGold as error:
        return Part.no_verdict(Outcome.ERROR, str(error))
    return await default_grader().agrade(whole_answer(prompt, completion), gold, deadline_s=deadline_s)


# For the rubric: `deadline_s` leaves out the wait for a free child, behind which hostile rows may queue for long.
boxed_accuracy.keeps_own_deadline = True


def gold_of(prompt: Prompt) -> Gold:
    """The typed gold of a prompt, from its answer and its further columns; raises `BadGold` for one that is malformed.

    A column that is absent or null takes the default of `Gold`.
    """
    extra = {key: value for key, value in prompt.extra.items() if value is not None}
    return Gold(
        text=prompt.answer,
        answer_type=prompt.answer_type,
        choices=_choices(extra.get("choices", ())),
        metric=_text("metric", extra["metric"]) if "metric" in extra else None,
        coordinates=_text("coordinates", extra.get("coordinates", "pixel")),
        image_size=_size(extra["image_size"]) if "image_size" in extra else None,
    )


def _choices(value: object) -> tuple[str, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise BadGold(f"choices is {value!r:.60}: give a list of option texts")
    return tuple(str(choice) for choice in value)


def _text(column: str, value: object) -> str:
    if not isinstance(value, str):
        raise BadGold(f"{column} is {value!r:.60}: give a text")
    return value


def _size(value: object) -> tuple[int, int]:
    if isinstance(value, Sequence) and [type(side) for side in value] == [int, int] and min(value) > 0:
        return value[0], value[1]
    raise BadGold(f"image_size is {value!r:.60}: give [width, height] in pixels")
