"""Rows for the grader's benchmark: groups of eight completions of one prompt, as a policy in training writes them.

Half of a group gives the plain answer under different prose, the rest other forms and near misses. Golds are drawn
(sums, fractions, roots, polynomials, lines, sets, areas), where the verdict is known from how the answer was made, and
taken from the verifier cases that are in math-verify's scope.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CASES = Path(__file__).parents[2] / "tests" / "data" / "verifier_cases.jsonl"
GROUP = 8


@dataclass(frozen=True, slots=True)
class Row:
    prediction: str
    gold: str
    right: bool
    kind: str
    """`drawn`, `case` or `hostile`."""


@dataclass(frozen=True, slots=True)
class Question:
    """A gold with other ways to write it, and answers that are near it and wrong."""

    gold: str
    right: tuple[str, ...]
    wrong: tuple[str, ...]


def drawn_rows(groups: int, seed: int = 0) -> list[Row]:
    draw = random.Random(seed)
    rows = []
    for index in range(groups):
        question = QUESTIONS[index % len(QUESTIONS)](draw)
        answers = [(question.gold, True)] * (GROUP // 2)
        answers += [(form, True) for form in draw.choices(question.right, k=2)]
        answers += [(form, False) for form in draw.choices(question.wrong, k=2)]
        rows += [Row(_response(answer, draw), question.gold, right, "drawn") for answer, right in answers]
    return rows


def case_rows(seed: int = 1) -> list[Row]:
    """Each case four times under prose, beside its own gold four times."""
    draw = random.Random(seed)
    rows = []
    for case in _cases(hostile=False):
        rows += [Row(_prose(draw) + case["prediction"], case["gold"], case["expected"], "case")] * (GROUP // 2)
        rows += [Row(_response(case["gold"], draw), case["gold"], True, "case") for _ in range(GROUP // 2)]
    return rows


def hostile_rows() -> list[Row]:
    return [Row(case["prediction"], case["gold"], case["expected"], "hostile") for case in _cases(hostile=True)]


def _cases(hostile: bool) -> list[dict]:
    cases = [json.loads(line) for line in CASES.read_text(encoding="utf-8").splitlines()]
    return [
        case | {"prediction": _expanded(case["prediction"])}
        for case in cases
        if case["answer_type"] in ("auto", "math") and (case["category"] == "hostile") == hostile
    ]


def _expanded(text: str) -> str:
    """`<<REP|s|n>>` stands for `s` repeated n times."""
    while "<<REP|" in text:
        head, _, rest = text.partition("<<REP|")
        body, _, tail = rest.partition(">>")
        piece, _, count = body.rpartition("|")
        text = head + piece * int(count) + tail
    return text


def _response(answer: str, draw: random.Random) -> str:
    return f"{_prose(draw)}So the answer is $\\boxed{{{answer}}}$."


def _prose(draw: random.Random) -> str:
    lines = []
    for step in range(1, draw.randint(3, 7)):
        a, b = draw.randint(2, 99), draw.randint(2, 99)
        lines.append(
            f"Step {step}: we have $x_{{{step}}} = {a}$ and $y = {b}$, so their product is ${a} \\cdot {b} = {a * b}$ "
            f"and the ratio is $\\frac{{{a}}}{{{b}}}$. This leaves {a + b} of them."
        )
    return "\n".join([*lines, ""])


def _sum(draw: random.Random) -> Question:
    n = draw.randint(1000, 99999)
    return Question(str(n), (f"{n:,}", f"{n}.0", f"\\${n}", f"\\text{{{n}}}"), (str(n + 1), str(-n), f"{n}0", f"{n}.5"))


def _fraction(draw: random.Random) -> Question:
    bottom = draw.choice((3, 7, 9, 11, 13))
    top = draw.choice([number for number in range(1, 40) if number % bottom])
    return Question(
        f"\\frac{{{top}}}{{{bottom}}}",
        (f"{top}/{bottom}", f"\\dfrac{{{2 * top}}}{{{2 * bottom}}}", f"\\tfrac{{{top}}}{{{bottom}}}"),
        (f"\\frac{{{bottom}}}{{{top}}}", f"\\frac{{{top + 1}}}{{{bottom}}}", f"{top / bottom:.2f}"),
    )


def _decimal(draw: random.Random) -> Question:
    cents = draw.randint(101, 9999)
    if cents % 10 == 0:
        cents += 1
    gold = f"{cents / 100:.2f}"
    return Question(
        gold,
        (f"\\frac{{{cents}}}{{100}}", f"{gold}0", f"\\${gold}"),
        (f"{cents / 1000:.3f}", f"{(cents + 1) / 100:.2f}", str(cents)),
    )


def _root(draw: random.Random) -> Question:
    a, b = draw.randint(2, 9), draw.choice((2, 3, 5, 7, 11))
    return Question(
        f"{a}\\sqrt{{{b}}}",
        (f"\\sqrt{{{a * a * b}}}", f"\\sqrt{{{b}}} \\cdot {a}", f"\\frac{{{a * b}}}{{\\sqrt{{{b}}}}}"),
        (f"{a + 1}\\sqrt{{{b}}}", f"\\sqrt{{{a * b}}}", f"{a}\\sqrt{{{b + 1}}}"),
    )


def _polynomial(draw: random.Random) -> Question:
    a, b = draw.randint(1, 9), draw.randint(1, 9)
    return Question(
        f"x^2 + {a + b}x + {a * b}",
        (f"(x + {a})(x + {b})", f"{a * b} + {a + b}x + x^2", f"x(x + {a + b}) + {a * b}"),
        (f"x^2 - {a + b}x + {a * b}", f"(x + {a})(x - {b})", f"x^2 + {a + b}x + {a * b + 1}"),
    )


def _line(draw: random.Random) -> Question:
    m, c = draw.randint(2, 9), draw.randint(1, 9)
    return Question(
        f"y = {m}x + {c}",
        (f"{m}x - y + {c} = 0", f"y - {c} = {m}x", f"y={c}+{m}x"),
        (f"y = {m}x - {c}", f"y = {m + 1}x + {c}", f"x = {m}y + {c}"),
    )


def _set(draw: random.Random) -> Question:
    a, b, c = sorted(draw.sample(range(-20, 40), 3))
    return Question(
        f"\\{{{a}, {b}, {c}\\}}",
        (f"\\{{{c}, {b}, {a}\\}}", f"\\left\\{{{b},{a},{c}\\right\\}}"),
        (f"\\{{{a}, {b}\\}}", f"\\{{{a}, {b}, {c + 1}\\}}", f"\\{{{-a - 1}, {b}, {c}\\}}"),
    )


def _interval(draw: random.Random) -> Question:
    a = draw.randint(-9, 8)
    b = draw.randint(a + 1, 20)
    return Question(
        f"({a}, {b}]",
        (f"\\left({a}, {b}\\right]", f"({a},{b}]"),
        (f"[{a}, {b}]", f"({a}, {b})", f"({a - 1}, {b}]"),
    )


def _point(draw: random.Random) -> Question:
    a, b = draw.sample(range(-9, 20), 2)
    return Question(f"({a}, {b})", (f"({a},{b})", f"\\left({a}, {b}\\right)"), (f"({b}, {a})", f"({a}, {b + 1})"))


def _area(draw: random.Random) -> Question:
    r = draw.randint(3, 15)
    return Question(
        f"{r * r}\\pi",
        (f"\\pi \\cdot {r}^2", f"{r * r} \\pi", f"\\frac{{{2 * r * r}\\pi}}{{2}}"),
        (f"{2 * r}\\pi", f"{r * r}", f"{r * r * 3.14:.2f}"),
    )


def _angle(draw: random.Random) -> Question:
    n = draw.randint(10, 170)
    return Question(f"{n}^\\circ", (f"{n}", f"{n}^{{\\circ}}"), (f"{180 - n + (n == 90)}^\\circ", f"{n + 1}"))


QUESTIONS: tuple[Callable[[random.Random], Question], ...] = (
    _sum, _fraction, _sum, _decimal, _root, _polynomial, _line, _set, _interval, _point, _area, _angle,
)  # fmt: skip
