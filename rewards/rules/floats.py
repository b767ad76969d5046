"""Numbers to one or two decimal places: both sides rounded half up on the exact value, never in binary."""

from __future__ import annotations

from pangu_rl.records import Part
from rewards.mathematics.compare import Leaves, readings
from rewards.mathematics.expressions import has_variables
from rewards.mathematics.guard import Refused
from rewards.mathematics.numbers import round_half_up
from rewards.mathematics.read_value import read_answer
from rewards.mathematics.values import Equation, Expr, Number, Value
from rewards.rules.gold import Gold
from rewards.rules.integer import scalar_of
from rewards.rules.math import gold_value
from rewards.rules.verdict import bad_gold, unparsable, verdict


def grade_float(answer: str, gold: Gold, decimals: int, leaves: Leaves | None = None) -> Part | None:
    """The types `float1` and `float2`; None of an answer with roots or pi where `leaves` has no algebra.

    Raises:
        BadGold: the gold is no number.
    """
    wanted = scalar_of(gold_value(gold))
    if wanted is None:
        raise bad_gold(gold, "is no number")
    try:
        value = read_answer(answer)
        found, exact = scalar_of(value), _irrational(value)
        if found is None and exact is not None:
            if leaves is None:
                return None
            decimal = leaves.decimal(exact)
            found = Number(decimal, exact.unit) if decimal is not None else None
    except Refused as refused:
        return unparsable(answer, str(refused))
    if found is None:
        return unparsable(answer, "is no number")
    scale = 100 if wanted.percent else 1
    target = round_half_up(wanted.value * scale, decimals)
    equal = any(round_half_up(value * scale, decimals) == target for value in readings(wanted, found))
    return verdict(equal, answer, gold)


def _irrational(value: Value) -> Expr | None:
    """What algebra can give a decimal of: an expression without variables, or the last side of what is called one."""
    if isinstance(value, Equation):
        value = value.sides[-1]
    return value if isinstance(value, Expr) and not has_variables(value.text) else None
