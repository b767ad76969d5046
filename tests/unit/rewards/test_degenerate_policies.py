"""A policy that does not answer never beats an honest wrong answer: under every reward of ours and the default sum."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from pangu_rl.config.sections.rewards import RewardFunctionConfig, RewardsConfig
from pangu_rl.records import Completion, Prompt
from rewards.registry import BUILT_IN
from rewards.rubric import Rubric
from tests.unit.rewards.builders import completion, prompt

QUESTION = (
    "There are 3 boxes with 14 pens each in the picture. Where is the dog, what does the sign say, and how many pens "
    "are there? Choose among A, B, C and D, and put the answer into \\boxed{}."
)
MEGABYTE = 1_000_000
NEEDS_SERVICE = {"llm_score", "benchmark", "judged_benchmark"}
"""Scorers are models: their guards are tested with them. Benchmarks measure, and are rewards of no run."""


@dataclass(frozen=True)
class Task:
    """A prompt with an honest wrong answer, and the candidates that a shotgun would list."""

    name: str
    gold: str
    answer_type: str
    wrong: str
    candidates: tuple[str, ...]
    extra: dict[str, Any] = field(default_factory=dict)
    right: str = ""
    """Where the gold is not an answer itself."""

    def prompt(self) -> Prompt:
        asked = prompt(self.gold, self.answer_type)
        return replace(asked, messages=({"role": "user", "content": QUESTION},), extra=self.extra)


CHOICES = {"choices": ["12", "15", "18", "20"]}
PIXELS = {"image_size": [640, 480]}
GRID = [[x, y, x + 64, y + 48] for x in range(0, 640, 64) for y in range(0, 480, 48)]
WHOLE = [0, 0, 640, 480]
TASKS = [
    Task("integer", "42", "integer", "41", ("40", "42", "43"), {}),
    Task("auto", r"\frac{3}{4}", "auto", r"\frac{4}{3}", (r"\frac{3}{4}", "1"), {}),
    Task("math", "x^2-1", "math", "x^2+1", ("x^2-1", "x^2"), {}),
    Task("float2", "2.67", "float2", "1.99", ("2.67", "2.68"), {}),
    Task("list", "[2007, 2008]", "list", "[2001, 2002]", ("[2007, 2008]", "[2007]"), {}),
    Task("span", "[3, 7]", "list", "[40, 50]", ("[3, 7]", "[0, 60]"), {}),
    Task("order", '["pen", "dog", "cup"]', "list", '["cup", "dog", "pen"]', ("[pen, dog]", "[dog, cup]"), {}),
    Task("choice", "B", "choice", "C", ("A", "B", "C", "D"), CHOICES),
    Task("choices", "AB", "choice", "CD", ("A", "AB", "D"), CHOICES),
    Task("text", "no parking", "text", "one way", ("no parking", "stop"), {}),
    Task("date", "2024-01-02", "date", "1999-12-31", ("2024-01-02", "2024-02-01"), {}),
    Task("bbox", "[64, 48, 128, 96]", "bbox", "[300, 300, 360, 350]", tuple(map(str, GRID[:20])), PIXELS),
    Task("bboxes", str([GRID[11], GRID[55]]), "bboxes", "[[1, 1, 9, 9]]", tuple(map(str, GRID)), PIXELS),
    Task("absent", "null", "bbox", "[300, 300, 360, 350]", ("[1, 1, 9, 9]",), PIXELS),
    Task("point", "[64, 48, 128, 96]", "point", "(300, 300)", ("(70, 70)", "(1, 1)"), PIXELS, "(70, 70)"),
]  # fmt: skip


def boxed(answer: str) -> str:
    return f"\\boxed{{{answer}}}"


def degenerate(task: Task) -> dict[str, str]:
    shotgun = [*(candidate for candidate in task.candidates if candidate != task.wrong), task.wrong]
    return {
        "nothing": "",
        "empty box": boxed(""),
        "blank box": boxed("  \\text{ } "),
        "repeated box": boxed(task.wrong) * 500,
        "repeated empty box": boxed("") * 500,
        "a box for each candidate": " or ".join(map(boxed, shotgun)),
        "each candidate in one box": boxed(" or ".join(shotgun)),
        "each candidate in one list": boxed(f"[{', '.join(shotgun)}]"),
        "all letters": boxed("ABCD"),
        "all letters, listed": boxed("A, B, C, D"),
        "copied prompt": QUESTION,
        "copied prompt in the box": boxed(QUESTION.replace("{}", "")),
        "unclosed thinking": f"<think> it must be {boxed(task.gold)}",
        "answer in thought alone": f"<think> it is {boxed(task.gold)}</think>",
        "answer without its box": f"The answer is {task.gold}.",
        "unterminated box": f"\\boxed{{{task.gold}",
        "a megabyte without a box": "so " * (MEGABYTE // 3),
        "a megabyte of digits": boxed("4" * MEGABYTE),
        "a megabyte of words": boxed("no parking " * (MEGABYTE // 11)),
        "a megabyte of openings": "\\boxed{" * (MEGABYTE // 7),
        "the whole picture": boxed(str(WHOLE)),
        "nearly the whole picture": boxed(str([1, 1, 638, 478])),
        "the whole picture twice": boxed(str([WHOLE, WHOLE])),
        "the middle of the picture": boxed(str([160, 120, 480, 360])),
        "a box for each place": boxed(str(GRID)),
        "not a number": boxed("[nan, nan, nan, nan]"),
        "without end": boxed("[-inf, -inf, inf, inf]"),
        "everywhere": boxed("[[64, 48, 128, 96], " * 200 + "]"),
    }


def rubric_of(*names: str) -> Rubric:
    return Rubric.from_config(RewardsConfig(functions=tuple(RewardFunctionConfig(name=name) for name in names)))


ANY = frozenset(task.answer_type for task in TASKS)
MEANT_FOR = {
    "counting": frozenset({"integer"}),
    "grounding": frozenset({"bbox", "bboxes", "point"}),
    "multiple_choice": frozenset({"choice"}),
    "ocr_edit_distance": frozenset({"text"}),
    "ordering": frozenset({"order"}),
    "temporal_iou": frozenset({"span"}),
}
"""Answer types, or tasks, of the rewards that are not for all of them."""
PENALTIES = {"soft_overlong"}
"""Of the length alone: no answer earns anything by them."""
SUMS = {name: rubric_of(name) for name in sorted(BUILT_IN.keys() - NEEDS_SERVICE - PENALTIES)}
SUMS["default"] = Rubric.from_config(RewardsConfig())
PAIRS = [(task, name) for task in TASKS for name in SUMS if {task.answer_type, task.name} & MEANT_FOR.get(name, ANY)]


def reward(rubric: Rubric, asked: Prompt, text: str) -> float | None:
    written: Completion = completion(text)
    return asyncio.run(rubric.score(asked, written)).reward


@pytest.mark.parametrize(("task", "name"), PAIRS, ids=lambda value: getattr(value, "name", value))
def test_degenerate_policies_never_beat_an_honest_wrong_answer(task: Task, name: str) -> None:
    rubric, asked = SUMS[name], task.prompt()
    honest = reward(rubric, asked, f"I think it is {boxed(task.wrong)}.")
    assert honest is not None
    for policy, text in degenerate(task).items():
        earned = reward(rubric, asked, text)
        assert earned is None or earned <= honest, f"{policy}: {earned} > {honest}"


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_an_honest_right_answer_beats_them_all(task: Task) -> None:
    asked, rubric = task.prompt(), SUMS["default"]
    right = reward(rubric, asked, f"It is {boxed(task.right or task.gold)}.")
    assert right == pytest.approx(1.1)
    assert all((reward(rubric, asked, text) or 0.0) < right for text in degenerate(task).values())
