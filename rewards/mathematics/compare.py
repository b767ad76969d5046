"""Whether two values are the same answer: True, False, or None where only computer algebra can tell.

The structure (lists, sets, intervals, matrices, equations) is compared here; `Leaves` decides two scalars that are not
both exact numbers. False beats None beats True: a list with one wrong number is wrong, whatever its roots are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Protocol

from rewards.mathematics.expressions import compact, has_variables
from rewards.mathematics.families import as_family
from rewards.mathematics.values import (
    Based,
    Clock,
    Equation,
    Expr,
    Family,
    Inequality,
    Matrix,
    Nothing,
    Number,
    Range,
    Ratio,
    Row,
    Union,
    Value,
)
from rewards.rules.matching import largest_matching

Scalar = Number | Expr

_FUNCTION_NAME = re.compile(r"y|[a-zA-Z]\([a-z]\)")
"""What a function of a variable is called is free: `y` or `f(x)`."""


class Leaves(Protocol):
    """Comparison of what may need computer algebra."""

    def equal(self, gold: Scalar, answer: Scalar) -> bool | None: ...

    def decimal(self, value: Scalar) -> Fraction | None: ...

    def same_family(self, gold: Family, answer: Family) -> bool | None: ...

    def same_relation(self, gold: Sequence[Scalar], answer: Sequence[Scalar], directed: bool) -> bool | None:
        """Two relations of two sides each; `directed` ones may only be scaled by positive numbers."""
        ...


class WithoutAlgebra:
    """`Leaves` that know nothing."""

    def equal(self, gold: Scalar, answer: Scalar) -> bool | None:
        return None

    def decimal(self, value: Scalar) -> Fraction | None:
        return None

    def same_family(self, gold: Family, answer: Family) -> bool | None:
        return None

    def same_relation(self, gold: Sequence[Scalar], answer: Sequence[Scalar], directed: bool) -> bool | None:
        return None


def same(gold: Value, answer: Value, leaves: Leaves) -> bool | None:
    """Whether `answer` is the answer `gold`."""
    if isinstance(gold, Family) or isinstance(answer, Family):
        wanted, found = as_family(gold), as_family(answer)
        return leaves.same_family(wanted, found) if wanted and found else False
    if isinstance(gold, Equation) or isinstance(answer, Equation):
        return _same_equation(gold, answer, leaves)
    gold, answer = alone(gold), alone(answer)
    if isinstance(gold, Scalar) and isinstance(answer, Scalar):
        return _same_scalar(gold, answer, leaves)
    if isinstance(gold, Matrix) or isinstance(answer, Matrix):
        return _same_matrix(gold, answer, leaves)
    if isinstance(gold, Row) and isinstance(answer, Row):
        return _same_row(gold, answer, leaves)
    if isinstance(gold, Union) and isinstance(answer, Union):
        if _clash(gold.variable, answer.variable):
            return False
        return _unordered(gold.parts, answer.parts, leaves)
    if isinstance(gold, Ratio):
        return _same_ratio(gold, answer, leaves)
    if isinstance(gold, Inequality) and isinstance(answer, Inequality):
        return _same_inequality(gold, answer, leaves)
    if isinstance(gold, Range) and isinstance(answer, Range):
        return _all([same(gold.low, answer.low, leaves), same(gold.high, answer.high, leaves)])
    if isinstance(gold, Number) and isinstance(answer, Based):
        return answer.base == 10 and gold.value == answer.value and gold.unit is None
    if isinstance(gold, Clock) and isinstance(answer, Clock):
        return gold == answer or (gold.seconds == answer.seconds >= 46800 and not (gold.half and answer.half))
    if isinstance(gold, Union | Ratio | Inequality | Range) or type(gold) is not type(answer):
        return False
    return gold == answer  # Text, Nothing, Infinite, Day, Based


def same_exact(gold: Number, answer: Number) -> bool:
    """Two exact numbers: whether one of the `readings` is the gold's value."""
    return gold.value in readings(gold, answer)


def readings(gold: Number, answer: Number) -> tuple[Fraction, ...]:
    """What `answer` may mean, as the gold counts. A missing unit is fine, a convertible one converts, a wrong one means
    nothing.

    Percent: `25%` is 0.25, and a gold with the sign also takes the bare 25 (its unit is missing). A gold without the
    sign takes `25%` for 25 only beyond 1, where nothing else can be meant; 0.5 is never `0.5%`, and 50 never 0.5.
    """
    if gold.unit and answer.unit:
        alike = gold.unit.dimensions == answer.unit.dimensions
        return (answer.value * answer.unit.factor / gold.unit.factor,) if alike else ()
    if (gold.percent and answer.unit) or (gold.unit and answer.percent):
        return ()
    if gold.percent and not answer.percent:
        return answer.value, answer.value / 100
    if answer.percent and not gold.percent and abs(gold.value) > 1:
        return answer.value, answer.value * 100
    return (answer.value,)


def _same_scalar(gold: Scalar, answer: Scalar, leaves: Leaves) -> bool | None:
    if isinstance(gold, Number) and isinstance(answer, Number):
        return same_exact(gold, answer)
    if gold.unit and answer.unit and gold.unit.dimensions != answer.unit.dimensions:
        return False
    one_scale = not (gold.unit and answer.unit) or gold.unit.factor == answer.unit.factor
    alike = isinstance(gold, Expr) and isinstance(answer, Expr) and compact(gold.text) == compact(answer.text)
    if one_scale and alike:
        return True
    return leaves.equal(gold, answer)


def _same_equation(gold: Value, answer: Value, leaves: Leaves) -> bool | None:
    if isinstance(gold, Equation) and isinstance(answer, Equation):
        if gold.name and answer.name:
            if gold.name != answer.name and (_constant(gold) or _constant(answer)):
                return False
            if gold.name == answer.name or all(_FUNCTION_NAME.fullmatch(name) for name in (gold.name, answer.name)):
                return _all([same(gold.sides[-1], side, leaves) for side in answer.sides])
        if gold.name and _constant(gold):
            return False  # `x = 5` is not answered by an equation that still has to be solved
        return _same_sides(gold, answer, leaves)
    if isinstance(gold, Equation):
        return same(gold.sides[-1], answer, leaves) if gold.name else False
    if not isinstance(answer, Equation) or (isinstance(gold, Row | Inequality | Union) and not answer.name):
        return False
    if answer.name and isinstance(gold, Expr) and answer.name in gold.text:
        return False
    return _all([same(gold, side, leaves) for side in answer.sides])


def _same_sides(gold: Equation, answer: Equation, leaves: Leaves) -> bool | None:
    wanted, found = _two_sides(gold), _two_sides(answer)
    if wanted is None or found is None:
        return False
    if all(_same_scalar(a, b, WithoutAlgebra()) is True for a, b in zip(wanted, found)):
        return True
    return leaves.same_relation(wanted, found, directed=False)


def _two_sides(equation: Equation) -> tuple[Scalar, Scalar] | None:
    sides: tuple[Value, ...] = equation.sides
    if equation.name:
        sides = (Expr(equation.name), *sides)
    if len(sides) != 2 or not all(isinstance(side, Scalar) for side in sides):
        return None
    return sides  # type: ignore[return-value]


def _constant(equation: Equation) -> bool:
    value = equation.sides[-1]
    return not isinstance(value, Expr) or not has_variables(value.text)


def alone(value: Value) -> Value:
    """A set or bare list of one is that one."""
    if isinstance(value, Row) and len(value.items) == 1 and value.brackets in ("", "{}"):
        return value if isinstance(value.items[0], Nothing) else value.items[0]
    return value


def _same_row(gold: Row, answer: Row, leaves: Leaves) -> bool | None:
    loose = ("", "{}")
    if "{}" in (gold.brackets, answer.brackets) and gold.brackets in loose and answer.brackets in loose:
        gold, answer = _distinct(gold), _distinct(answer)
    if len(gold.items) != len(answer.items) or _clash(gold.variable, answer.variable):
        return False
    if gold.brackets in loose and answer.brackets in loose:
        if gold.is_named() and not answer.is_named():
            return _ordered(gold.items, answer.items, leaves)
        return _unordered(*_without_indices(gold, answer), leaves)
    if gold.brackets in ("()", "<>") and answer.brackets in ("()", "<>"):
        return _ordered(gold.items, answer.items, leaves)
    if {gold.brackets, answer.brackets} == {"", "()"} and (gold.is_named() or answer.is_named() or gold.is_point()):
        return _ordered(gold.items, answer.items, leaves)  # (1, 2) as x = 1, y = 2; (2, 1) without its brackets
    return _ordered(gold.items, answer.items, leaves) if gold.brackets == answer.brackets else False


def _without_indices(gold: Row, answer: Row) -> tuple[Sequence[Value], Sequence[Value]]:
    """Roots have no first and second: two of x, or of a letter whose indices only one side has."""
    letter = gold.unknown()
    bare = any(isinstance(item, Equation) and item.name == letter for row in (gold, answer) for item in row.items)
    if not letter or letter != answer.unknown() or not (bare or (letter == "x" and len(gold.items) == 2)):
        return gold.items, answer.items
    return tuple([Equation(letter, item.sides) for item in row.items] for row in (gold, answer))  # type: ignore


def _distinct(row: Row) -> Row:
    """A set has an item once, however often it is written."""
    items: list[Value] = []
    for item in row.items:
        if not any(same(kept, item, WithoutAlgebra()) is True for kept in items):
            items.append(item)
    return Row(row.brackets, tuple(items), row.variable)


def _clash(one: str, other: str) -> bool:
    return bool(one and other and one != other)


def _ordered(gold: Sequence[Value], answer: Sequence[Value], leaves: Leaves) -> bool | None:
    return _all([same(a, b, leaves) for a, b in zip(gold, answer)]) if len(gold) == len(answer) else False


def _unordered(gold: Sequence[Value], answer: Sequence[Value], leaves: Leaves) -> bool | None:
    """Each gold item with an answer of its own: as a multiset."""
    if len(gold) != len(answer):
        return False
    known = [[same(a, b, WithoutAlgebra()) for b in answer] for a in gold]
    if largest_matching([[edge is True for edge in row] for row in known]) == len(gold):
        return True
    if largest_matching([[edge is not False for edge in row] for row in known]) < len(gold):
        return False
    told = [[same(a, b, leaves) if e is None else e for b, e in zip(answer, row)] for a, row in zip(gold, known)]
    if any(edge is None for row in told for edge in row):
        return None
    return largest_matching([[bool(edge) for edge in row] for row in told]) == len(gold)


def _same_ratio(gold: Ratio, answer: Value, leaves: Leaves) -> bool | None:
    if isinstance(answer, Number) and len(gold.terms) == 2 and answer.unit is None:
        top, bottom = gold.terms
        if not isinstance(top, Number) or not isinstance(bottom, Number) or bottom.value == 0:
            return False
        return top.value / bottom.value == answer.value
    if not isinstance(answer, Ratio) or len(gold.terms) != len(answer.terms):
        return False
    if not all(isinstance(term, Number) for term in (*gold.terms, *answer.terms)):
        return _ordered(gold.terms, answer.terms, leaves)
    wanted, found = ([term.value for term in ratio.terms] for ratio in (gold, answer))
    if not any(wanted) or not any(found):
        return False
    first = next(index for index, value in enumerate(wanted) if value)
    return (
        all(a * found[first] == b * wanted[first] for a, b in zip(wanted, found)) and found[first] * wanted[first] > 0
    )


def _same_inequality(gold: Inequality, answer: Inequality, leaves: Leaves) -> bool | None:
    sides = (gold.left, gold.right, answer.left, answer.right)
    if gold.sign != answer.sign or not all(isinstance(side, Scalar) for side in sides):
        return False
    directed = gold.sign != "!="
    return leaves.same_relation(sides[:2], sides[2:], directed)  # type: ignore[arg-type]


def _same_matrix(gold: Value, answer: Value, leaves: Leaves) -> bool | None:
    """Matrices by cell. A list of rows is a matrix; a tuple is a column."""
    wanted, found = _matrix(gold), _matrix(answer)
    if wanted is None or found is None:
        return False
    if [len(row) for row in wanted] != [len(row) for row in found]:
        return False
    return _all([same(a, b, leaves) for rows in zip(wanted, found) for a, b in zip(*rows)])


def _matrix(value: Value) -> tuple[tuple[Value, ...], ...] | None:
    if isinstance(value, Matrix):
        return value.rows
    if not isinstance(value, Row) or value.brackets not in ("()", "<>", "[]"):
        return None
    rows = [item.items for item in value.items if isinstance(item, Row) and item.brackets in ("[]", "()")]
    if len(rows) == len(value.items):
        return tuple(rows)
    return tuple((item,) for item in value.items) if not rows and value.brackets != "[]" else None


def _all(verdicts: Sequence[bool | None]) -> bool | None:
    if False in verdicts:
        return False
    return None if None in verdicts else True
