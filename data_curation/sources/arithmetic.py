"""Sums, products, larger-of and one-step stories: easy enough that a small model answers some of them right.

Every generator yields the items of one task in a fixed order; the builder draws from them with its own seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations_with_replacement, permutations
from random import Random

from data_curation.sources.items import Item, Question, pair_key

SUM_FORMS = ("What is {a} + {b}?", "Compute {a} + {b}.", "Add {a} and {b}.", "{a} + {b} = ?")
PRODUCT_FORMS = ("What is {a} * {b}?", "Compute {a} * {b}.", "Multiply {a} by {b}.", "What is {a} times {b}?")
LARGEST_FORMS = (
    "Which number is larger: {numbers}?",
    "Which is the largest of {numbers}?",
    "Give the biggest of {numbers}.",
)
GAIN_STORIES = (
    "{name} has {a} {things} and buys {b} more. How many {things} does {name} have now?",
    "{name} picks {a} {things} on Monday and {b} on Tuesday. How many {things} is that?",
    "There are {a} {things} in a box. {name} puts in {b} more. How many {things} are in the box?",
)
LOSS_STORIES = (
    "{name} has {a} {things} and gives away {b}. How many {things} are left?",
    "There are {a} {things} on a table. {name} takes {b}. How many {things} remain?",
    "{name} had {a} {things} and lost {b} of them. How many {things} does {name} still have?",
)
NAMES = ("Tom", "Mia", "Ali", "Anna", "Ben", "Lin", "Sara", "Omar", "Eva", "Raj")
THINGS = ("apples", "books", "coins", "pens", "stamps", "shells", "cards", "eggs")


def sums() -> Iterator[Item]:
    """a + b over one- and two-digit operands, both orders."""
    for a, b in combinations_with_replacement(range(1, 100), 2):
        questions = [_calculation(form, x, y, "+", x + y) for x, y in _orders(a, b) for form in SUM_FORMS]
        yield Item("sum", pair_key(a, b), tuple(questions))


def products() -> Iterator[Item]:
    """The table up to 12 x 12, both orders."""
    for a, b in combinations_with_replacement(range(1, 13), 2):
        questions = [_calculation(form, x, y, "*", x * y) for x, y in _orders(a, b) for form in PRODUCT_FORMS]
        yield Item("product", pair_key(a, b), tuple(questions))


def largest(rng: Random, count: int = 3000) -> Iterator[Item]:
    """The larger of two, or the largest of three, distinct numbers of two to four digits."""
    seen: set[tuple[int, ...]] = set()
    while len(seen) < count:
        top = rng.choice((100, 1000, 10000))
        numbers = tuple(sorted(rng.sample(range(top // 10, top), rng.choice((2, 3)))))
        if numbers in seen:
            continue
        seen.add(numbers)
        forms = LARGEST_FORMS if len(numbers) == 2 else LARGEST_FORMS[1:]
        questions = [_largest_question(form, order) for order in permutations(numbers) for form in forms]
        yield Item("largest", f"largest:{numbers}", tuple(questions))


def stories(rng: Random, count: int = 3000) -> Iterator[Item]:
    """One-step word problems: a + b, or a - b with a > b, each under one drawn name and thing."""
    pairs = list(combinations_with_replacement(range(2, 60), 2))
    for a, b in rng.sample(pairs, min(count, len(pairs))):
        words = {"name": rng.choice(NAMES), "things": rng.choice(THINGS)}
        questions = [_calculation(form, *rng.sample((a, b), 2), "+", a + b, **words) for form in GAIN_STORIES]
        if a != b:
            questions += [_calculation(form, b, a, "-", b - a, **words) for form in LOSS_STORIES]
        yield Item("story", pair_key(a, b), tuple(questions))


def _orders(a: int, b: int) -> tuple[tuple[int, int], ...]:
    return ((a, b),) if a == b else ((a, b), (b, a))


def _calculation(form: str, a: int, b: int, sign: str, result: int, **words: str) -> Question:
    return Question(form.format(a=a, b=b, **words), str(result), f"{a} {sign} {b} = \\boxed{{{result}}}")


def _largest_question(form: str, numbers: tuple[int, ...]) -> Question:
    *head, last = map(str, numbers)
    joined = f"{', '.join(head)} or {last}" if form.startswith("Which number") else f"{', '.join(head)} and {last}"
    answer = str(max(numbers))
    return Question(form.format(numbers=joined), answer, f"The largest is \\boxed{{{answer}}}")
