"""What must hold of any gold: it matches itself, no mutation of it, whatever the prose; and no text raises."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pangu_rl.records import Outcome
from rewards.rules.boxed_answer import extract_boxed
from rewards.rules.dispatch import grade_directly
from rewards.rules.gold import ANSWER_TYPES, BadGold, Gold
from rewards.rules.text import NON_ANSWERS

fixed = settings(max_examples=150)

integers = st.integers(-(10**12), 10**12)
decimals = st.builds(lambda n, d: f"{n}.{d:03d}", st.integers(-9999, 9999), st.integers(0, 999))
fractions = st.builds(lambda a, b: f"\\frac{{{a}}}{{{b}}}", st.integers(-99, 99), st.integers(1, 99))
numbers = st.one_of(integers.map(str), decimals, fractions)
UNITS = ("cm", "m", "km", "kg", "g", "s", "h", "cm^2", "m^3", "km/h", "m/s", "mL", "J", "V")
tuples = st.lists(numbers, min_size=2, max_size=4).map(lambda items: "(" + ", ".join(items) + ")")
sets = st.lists(numbers, min_size=1, max_size=4).map(lambda items: "\\{" + ", ".join(items) + "\\}")
words = st.text("abcdefghijklmnopqrstuvwxyz", min_size=3, max_size=9)
texts = st.lists(words, min_size=1, max_size=3).map(" ".join).filter(lambda text: not NON_ANSWERS.fullmatch(text))
dates = st.dates().map(str)
boxes = st.builds(
    lambda x, y, w, h: [x, y, x + w, y + h], *[st.integers(0, 400)] * 2, *[st.integers(1, 400)] * 2
)  # fmt: skip
math_golds = st.one_of(
    numbers,
    tuples,
    sets,
    dates,
    st.builds(lambda number, unit: f"{number}\\text{{ {unit}}}", numbers, st.sampled_from(UNITS)),
    st.builds(lambda a, b: f"{a}:{b}", st.integers(1, 9), st.integers(1, 9)),
    st.builds(lambda a, b: f"{a}-{b}", st.integers(1, 99), st.integers(1, 99)),
    st.builds(lambda name, number: f"{name}={number}", st.sampled_from("xyzabn"), numbers),
    st.builds(lambda number: f"{number}\\%", decimals),
    st.builds(lambda number: f"x>{number}", numbers),
)
golds = st.one_of(
    st.builds(Gold, math_golds, st.sampled_from(("auto", "math"))),
    st.builds(Gold, integers.map(str), st.just("integer")),
    st.builds(Gold, decimals, st.sampled_from(("float1", "float2"))),
    st.builds(Gold, st.lists(st.one_of(integers, words)).map(str), st.just("list")),
    st.builds(Gold, st.sampled_from("ABCD"), st.just("choice"), st.just(("one", "two", "three", "four"))),
    st.builds(Gold, texts, st.just("text")),
    st.builds(Gold, dates, st.just("date")),
    st.builds(Gold, boxes.map(str), st.just("bbox")),
    st.builds(Gold, st.lists(boxes, max_size=4).map(str), st.just("bboxes")),
)


def outcome(answer: str, gold: Gold) -> Outcome:
    part = grade_directly(answer, gold)
    assert part is not None, f"{answer!r} against {gold.text!r} asks for algebra"
    return part.outcome


@fixed
@given(golds)
def test_a_gold_matches_itself(gold: Gold) -> None:
    assert outcome(gold.text, gold) is Outcome.CORRECT


@fixed
@given(numbers, st.data())
def test_another_digit_is_another_number(number: str, data: st.DataObject) -> None:
    place = data.draw(st.sampled_from([i for i, c in enumerate(number) if c.isdigit()]))
    digit = data.draw(st.sampled_from([d for d in "0123456789" if d != number[place]]))
    changed = number[:place] + digit + number[place + 1 :]
    assume(_value(changed) != _value(number))
    assert outcome(changed, Gold(number)) is not Outcome.CORRECT


@fixed
@given(numbers)
def test_the_other_sign_is_another_number(number: str) -> None:
    assume(_value(number) != 0)
    assert outcome(f"-({number})", Gold(number)) is not Outcome.CORRECT


@fixed
@given(st.lists(numbers, min_size=2, max_size=4, unique_by=lambda n: _value(n)), st.data())
def test_another_order_is_another_tuple_and_list(items: list[str], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(items))
    assume(shuffled != items)
    assert outcome("(" + ",".join(shuffled) + ")", Gold("(" + ",".join(items) + ")")) is Outcome.INCORRECT
    assert outcome(f"[{', '.join(shuffled)}]", Gold(f"[{', '.join(items)}]", "list")) is Outcome.INCORRECT
    assert outcome("\\{" + ",".join(shuffled) + "\\}", Gold("\\{" + ",".join(items) + "\\}")) is Outcome.CORRECT


@fixed
@given(st.text("ABCDEFGH", min_size=3, max_size=8), st.data())
def test_another_order_of_letters_is_another_word(letters: str, data: st.DataObject) -> None:
    shuffled = "".join(data.draw(st.permutations(letters)))
    assume(shuffled != letters)
    assert outcome(shuffled, Gold(letters)) is Outcome.INCORRECT


@fixed
@given(st.integers(1, 10**6), st.permutations(UNITS))
def test_another_unit_is_another_quantity(number: int, units: list[str]) -> None:
    gold = Gold(f"{number}\\text{{ {units[0]}}}")
    assert outcome(f"{number}\\text{{ {units[1]}}}", gold) is Outcome.INCORRECT
    assert outcome(str(number), gold) is Outcome.CORRECT


@fixed
@given(golds, st.text(alphabet=st.characters(blacklist_characters="\\{}<>"), max_size=60))
def test_the_prose_around_the_box_changes_nothing(gold: Gold, prose: str) -> None:
    answer = extract_boxed(f"<think>\\boxed{{no}} {prose}</think>{prose} \\boxed{{{gold.text}}} {prose}")
    assert answer is not None
    assert outcome(answer, gold) is Outcome.CORRECT


@fixed
@given(numbers, st.sampled_from(("{}", "${}$", "\\text{{{}}}", "\\mathbf{{{}}}", " {} ", "{}.", "x={}", "**{}**")))
def test_wrappers_change_nothing(number: str, wrapper: str) -> None:
    assert outcome(wrapper.format(number), Gold(number)) is Outcome.CORRECT


PIECES = st.sampled_from(
    ["\\frac{", "\\sqrt", "\\text{", "\\{", "}", "(", ")", "[", "]", "^", "_", "=", "<", "\\cup ", ",", " or ", "\\pm ",
     "1", "23", "0.5", "x", "cm", "%", "$", "\\begin{pmatrix}", "\\end{pmatrix}", "&", "\\\\", "!", "万", "分之",
     "no solution", "\x00", "\ud800", "²", "½", "\u200b", "'", '"', "null", ":", "-",
     "<|point_start|>", "(1,2)", "<|point_end|>"]
)  # fmt: skip
anything = st.one_of(st.text(max_size=80), st.lists(PIECES, max_size=24).map("".join))


@settings(max_examples=400)
@given(anything, st.sampled_from(ANSWER_TYPES))
def test_no_text_raises_but_a_bad_gold(text: str, answer_type: str) -> None:
    samples = {"choice": "A", "list": "[1]", "date": "2024-01-02", "quads": "[0,0,1,0,1,1,0,1]", "depths": "(1,1) 2 m"}
    samples |= dict.fromkeys(("bbox", "bboxes", "point", "points", "point_count"), "[0,0,1,1]")
    samples |= {"objects": "<|object_ref_start|>cat<|object_ref_end|>"}
    grade_directly(text, Gold(samples.get(answer_type, "7"), answer_type))
    extract_boxed(f"\\boxed{{{text}")
    try:
        part = grade_directly(text, Gold(text, answer_type))
    except BadGold as error:
        assert "\n" not in str(error)
    else:
        assert part is None or part.outcome is Outcome.CORRECT or answer_type == "point"


@pytest.mark.parametrize("answer", ["", "1, 2, 3", "A, B, C, D", "\\text{}", "?", "7" * 65, "(" * 40])
def test_degenerate_answers_match_nothing(answer: str) -> None:
    for gold in (Gold("7"), Gold("A", "choice", ("1", "2", "3", "4")), Gold("cat", "text"), Gold("[1]", "list")):
        assert outcome(answer, gold) in (Outcome.INCORRECT, Outcome.UNPARSABLE)


def _value(number: str) -> Fraction | None:
    """The value of one of `numbers`, by Python's own parser; None for a zero denominator."""
    top, _, bottom = number.replace("\\frac{", "").replace("}{", "/").rstrip("}").partition("/")
    if bottom and not int(bottom):
        return None
    return Fraction(top) / Fraction(bottom or 1)
