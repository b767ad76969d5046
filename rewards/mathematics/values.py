"""What an answer can be, once read. Comparing two of them is `compare.py`; reading is `read_value.py`."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from rewards.mathematics.units import Unit


@dataclass(frozen=True, slots=True)
class Number:
    """An exact rational, perhaps with a unit."""

    value: Fraction
    unit: Unit | None = None
    percent: bool = False
    decimals: int | None = None


@dataclass(frozen=True, slots=True)
class Expr:
    """What only computer algebra can evaluate: roots, pi, variables. `text` is its plain LaTeX."""

    text: str
    unit: Unit | None = None


@dataclass(frozen=True, slots=True)
class Infinite:
    sign: int


@dataclass(frozen=True, slots=True)
class Text:
    """Words; `key` is their spelling for comparison."""

    key: str


@dataclass(frozen=True, slots=True)
class Nothing:
    """`no solution` and the empty set are one kind, `undefined` another."""

    kind: str


@dataclass(frozen=True, slots=True)
class Row:
    """Items between brackets: a tuple or open interval `()`, a list or closed interval `[]`, half-open `[)`,
    a set `{}`, a vector in angle brackets `<>`, or, with none, the bare list of several answers (a multiset)."""

    brackets: str
    items: tuple[Value, ...]
    variable: str = ""
    """Of the inequality that this interval was written as."""

    def is_point(self) -> bool:
        """Whether a tuple can be no open interval, whose brackets would be part of the answer."""
        low, high = self.items[0], self.items[-1]
        falling = isinstance(low, Number) and isinstance(high, Number) and low.value >= high.value
        return self.brackets == "()" and (len(self.items) > 2 or falling)

    def is_named(self) -> bool:
        """Whether every item is named, each differently: `x=1, y=2`."""
        names = self._names()
        return len(names) == len(self.items) and len(set(names)) == len(names) and all(names)

    def unknown(self) -> str:
        """The letter that every item is a value of, whatever its index: `x=1, x=2` and `x_1=1, x_2=2`; else empty."""
        names = self._names()
        return names[0] if len(names) == len(self.items) and len(set(names)) == 1 else ""

    def _names(self) -> list[str]:
        return [item.name.rstrip("0123456789_") for item in self.items if isinstance(item, Equation)]


@dataclass(frozen=True, slots=True)
class Union:
    """Intervals or sets, in any order."""

    parts: tuple[Value, ...]
    variable: str = ""


@dataclass(frozen=True, slots=True)
class Ratio:
    terms: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Range:
    """`1990-2000`, a score `3-1`: two numbers in order, never a subtraction."""

    low: Number
    high: Number


@dataclass(frozen=True, slots=True)
class Clock:
    seconds: int
    half: str = ""
    """`am`, `pm`, or empty where it is not said."""


@dataclass(frozen=True, slots=True)
class Day:
    """A calendar date; parts that are not given are 0, and `order` keeps an ambiguous `01/02/2024` as written."""

    year: int
    month: int
    day: int
    order: str = ""


@dataclass(frozen=True, slots=True)
class Based:
    """`101_2`: a numeral with its base, which is part of the answer."""

    value: int
    base: int


@dataclass(frozen=True, slots=True)
class Equation:
    """`name = value`, a chain of equal sides, or an equation in variables."""

    name: str
    """The left side if it only names something (`x`, `f(x)`, `Area`), else empty."""
    sides: tuple[Value, ...]
    """All sides but the name."""


@dataclass(frozen=True, slots=True)
class Inequality:
    """`left < right` that is no interval of one variable; `>` is read from the other end."""

    sign: str
    left: Value
    right: Value


@dataclass(frozen=True, slots=True)
class Family:
    """What the rows are for every integer that the parameter of their expressions can be: intervals, points, or single
    numbers without brackets."""

    members: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Matrix:
    rows: tuple[tuple[Value, ...], ...]


_Scalars = Number | Expr | Infinite | Text | Nothing | Clock | Day | Based
_Structures = Row | Union | Ratio | Range | Equation | Inequality | Family | Matrix
Value = _Scalars | _Structures
