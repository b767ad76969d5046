"""Rule accuracy: the boxed answer against the gold, by exact typed comparison. No `eval`, no symbolic algebra."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from fractions import Fraction

from pangu_rl.records import Completion, Outcome, Part, Prompt
from rewards.rules.boxed_answer import extract_boxed

MAX_ANSWER_CHARS = 512
MAX_DIGITS = 64
"""Longer numbers are unparsable: no grade-school answer has them, and they make arithmetic slow."""

_SPACE = re.compile(r"\s+")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)", re.ASCII)
_FRACTION = re.compile(r"(?P<top>[+-]?\d+)\s*/\s*(?P<bottom>\d+)", re.ASCII)
_LATEX_FRACTION = re.compile(r"(?P<sign>[+-]?)\\[dt]?frac\{(?P<top>[+-]?\d+)\}\{(?P<bottom>\d+)\}", re.ASCII)
_CHOICE = re.compile(r"[(\[]?([A-Za-z])[)\].:]?")
_TEXT_COMMAND = re.compile(r"\\(?:text|mathrm|textbf|mathbf)\{([^{}]*)\}")


def boxed_accuracy(prompt: Prompt, completion: Completion) -> Part:
    """1.0 if the completion's last box equals the gold under the prompt's answer type, else 0.0 with the reason.

    Types: `integer` and `number` (exact rationals), `choice` (a letter), `text`, and `auto`, which reads the type off
    the gold. The gold's own failure to parse is `unparsable` too; the audit at load finds it first.

    Raises:
        ValueError: the prompt's answer type is not one of these.
    """
    answer = extract_boxed(completion.text)
    if answer is None:
        return Part(value=0.0, outcome=Outcome.NO_BOX, detail="no complete \\boxed{} after the thinking block")
    return grade(answer, prompt.answer, prompt.answer_type)


def grade(answer: str, gold: str, answer_type: str = "auto") -> Part:
    """Compare two answers, each without its box."""
    if answer_type == "auto":
        answer_type = infer_type(gold)
    if answer_type not in PARSERS:
        raise ValueError(f"answer_type {answer_type!r} is not supported: use {', '.join(PARSERS)} or auto")
    parse = PARSERS[answer_type]
    found, wanted = parse(normalise(answer)), parse(normalise(gold))
    if found is None or wanted is None:
        side, text = ("answer", answer) if found is None else ("gold", gold)
        return Part(value=0.0, outcome=Outcome.UNPARSABLE, detail=f"{side} {_short(text)} is no {answer_type}")
    outcome = Outcome.CORRECT if found == wanted else Outcome.INCORRECT
    return Part(
        value=float(outcome is Outcome.CORRECT), outcome=outcome, detail=f"{_short(answer)} against {_short(gold)}"
    )


def infer_type(gold: str) -> str:
    """`number` if the gold reads as one, `choice` for a capital A to J (in brackets or not), else `text`."""
    text = normalise(gold)
    if parse_number(text) is not None:
        return "number"
    return "choice" if re.fullmatch(r"\(?[A-J]\)?", text) else "text"


def normalise(answer: str) -> str:
    """NFKC, without control and format characters, LaTeX text commands, math dollars, and outer space."""
    if len(answer) > MAX_ANSWER_CHARS:
        return ""
    text = unicodedata.normalize("NFKC", answer).replace("\u2212", "-")
    text = _SPACE.sub(" ", text)
    text = "".join(character for character in text if unicodedata.category(character) not in ("Cc", "Cf"))
    return _TEXT_COMMAND.sub(r"\1", text).strip()


def parse_number(text: str) -> Fraction | None:
    """An integer, decimal, fraction or percentage as an exact rational: `-1,234.50`, `3/4`, `\\frac{3}{4}`, `$12`.

    A percent sign is a unit (50% = 50), since golds write it either way.
    """
    text = text.removesuffix(".").replace("\\$", "$").replace("\\%", "%").replace("\\,", "").replace("\\!", "")
    text = text.strip("$ ").removesuffix("%").strip()
    if sum(c.isdigit() for c in text) > MAX_DIGITS:
        return None
    if _THOUSANDS.fullmatch(text):
        text = text.replace(",", "")
    if _NUMBER.fullmatch(text):
        return Fraction(text)
    fraction = _FRACTION.fullmatch(text) or _LATEX_FRACTION.fullmatch(text)
    if fraction is None or int(fraction["bottom"]) == 0:
        return None
    sign = -1 if fraction.groupdict().get("sign") == "-" else 1
    return sign * Fraction(int(fraction["top"]), int(fraction["bottom"]))


def parse_integer(text: str) -> Fraction | None:
    """A number that is whole: `42`, `42.0`, `84/2`."""
    number = parse_number(text)
    return number if number is not None and number.denominator == 1 else None


def parse_choice(text: str) -> str | None:
    """One letter: `B`, `b`, `(B)`, `B.`"""
    match = _CHOICE.fullmatch(text)
    return match[1].upper() if match else None


def parse_text(text: str) -> str | None:
    """Words, without regard to case, to runs of space, and to a final period."""
    return " ".join(text.casefold().removesuffix(".").split()) or None


PARSERS: dict[str, Callable[[str], Fraction | str | None]] = {
    "integer": parse_integer,
    "number": parse_number,
    "choice": parse_choice,
    "text": parse_text,
}


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
