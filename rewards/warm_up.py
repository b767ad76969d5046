"""What a nursery does before it forks children for the grader: import the algebra and run it once over its grammar."""

from __future__ import annotations

_PAIRS = (
    (r"1 + \sqrt{2}", r"\sqrt 2 + 1"),
    (r"\frac{\pi}{3}", r"\pi / 3"),
    (r"(x-1)(x+1)", r"x^2 - 1"),
    (r"e^{2x} \sin^2 y", r"\sin(y)^2 e^{2x}"),
    (r"\log_2 5 + \ln 3", r"\ln 3 + \log_2 5"),
    (r"\sqrt[3]{x}", r"x^{1/3}"),
    (r"2\sqrt{3} i", r"2i \sqrt 3"),
    (r"\frac{a+b}{c}", r"\frac{a}{c} + \frac{b}{c}"),
    (r"a_1 + x_2", r"x_2 + a_1"),
    (r"\tan^{-1}(2)", r"\arctan 2"),
    (r"|x - 1|", r"|1 - x|"),
    (r"\binom{n}{2}", r"\frac{n(n-1)}{2}"),
    (r"y = 3x - 2", r"3x - y = 2"),
    (r"0.5 \pi", r"90°"),
)


def warm_algebra() -> None:
    """Import sympy and the parser, and grade one pair of each kind.

    The first expression of a kind costs the parser up to 200 ms, the next one a tenth of it: the children inherit that.
    """
    from rewards.rules.dispatch import grade_by_algebra
    from rewards.rules.gold import Gold

    for answer, gold in _PAIRS:
        grade_by_algebra(answer, Gold(text=gold, answer_type="math"))
