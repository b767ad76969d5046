"""What a nursery does before it forks children: import the algebra, run it over its grammar, and see that it works."""

from __future__ import annotations

_PAIRS = (
    (r"1 + \sqrt{2}", r"\sqrt 2 + 1", True),
    (r"\frac{\pi}{3}", r"\pi / 3", True),
    (r"(x-1)(x+1)", r"x^2 - 1", True),
    (r"e^{2x} \sin^2 y", r"\sin(y)^2 e^{2x}", True),
    (r"\log_2 5 + \ln 3", r"\ln 3 + \log_2 5", True),
    (r"\sqrt[3]{x}", r"x^{1/3}", True),
    (r"2\sqrt{3} i", r"2i \sqrt 3", True),
    (r"\frac{a+b}{c}", r"\frac{a}{c} + \frac{b}{c}", True),
    (r"a_1 + x_2", r"x_2 + a_1", True),
    (r"\tan^{-1}(2)", r"\arctan 2", True),
    (r"|x - 1|", r"|1 - x|", True),
    (r"\binom{n}{2}", r"\frac{n(n-1)}{2}", True),
    (r"y = 3x - 2", r"3x - y = 2", True),
    (r"0.5 \pi", r"90°", True),
    (r"\sqrt{2} + x", r"\sqrt{3} + x", False),
    (r"y = 3x - 2", r"3x - y = 3", False),
)
"""Answer, gold, and whether they are equal."""


def warm_algebra() -> None:
    """Import sympy and the parser, and grade one pair of each kind.

    The first expression of a kind costs the parser up to 200 ms, the next one a tenth of it: the children inherit that.

    Raises:
        RuntimeError: a pair has not the verdict that it must have. The parser turns its own faults into "not read", so
            a broken installation would cost every answer its reward, and there would be no error to see.
    """
    from rewards.rules.dispatch import grade_by_algebra
    from rewards.rules.gold import BadGold, Gold

    for answer, gold, equal in _PAIRS:
        try:
            part = grade_by_algebra(answer, Gold(text=gold, answer_type="math"))
            found = f"{part.outcome}: {part.detail}"
        except BadGold as error:
            found = f"error: {error}"
        expected = "correct" if equal else "incorrect"
        if not found.startswith(f"{expected}:"):
            raise RuntimeError(f"computer algebra does not work here: {answer!r} against {gold!r} is {found}")
