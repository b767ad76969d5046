"""Multiple choice: a letter, several letters, or an option's text. Letter and text must agree."""

from __future__ import annotations

import re
from string import ascii_uppercase

from pangu_rl.records import Part
from rewards.mathematics.compare import WithoutAlgebra, same
from rewards.mathematics.guard import Refused
from rewards.mathematics.normalise import MAX_ANSWER_CHARS, plain
from rewards.mathematics.read_value import read_answer
from rewards.mathematics.values import Text
from rewards.rules.gold import Gold
from rewards.rules.text import gold_text, text_key
from rewards.rules.verdict import bad_gold, unparsable, verdict

_PREFIX = re.compile(
    r"(?:the )?(?:correct |right |final |best )*+(?:answers?|options?|choices?)(?: is| are|:)* (?:option |choice )?|"
    r"(?:option|choice|answer)(?=\()|(?:正确)?(?:答案|选项)(?:是|为|:)* ?|(?:应)?选 ?",
    re.IGNORECASE,
)
# Atomic, since " and " is a separator and also three letters: n of them would be read in 2^n ways.
_LETTERS = re.compile(r"[(\[]?[A-Za-z][)\]]?(?>(?: ?[,;/&+和与及] ?| and | )?[(\[]?[A-Za-z][)\]]?)*+[.:]?|[A-Z]{2,26}")
_LETTER_AND_TEXT = re.compile(
    r"[(\[]? ?([A-Za-z]) ?(?:[)\]][.:]?(?: ?[-—] )?|[.:,]) ?(.+)"
    r"|([A-Z])(?: ?- | ?— ?| |(?=[(\[].*[)\]]$))(.+)",
    re.DOTALL,
)
_TEXT_AND_LETTER = re.compile(r"(.+?) ?[(\[] ?(?:[Oo]ption |[Cc]hoice |选项 ?)?([A-Z]) ?[)\]][.:]?", re.DOTALL)
_IN_BRACKETS = re.compile(r"\((.+)\)|\[(.+)\]", re.DOTALL)
_DASHED = re.compile(r"[(\[]?[A-Za-z] ?[)\]]?[.:]? ?- ")
_MORE_LETTERS = re.compile(r"\b(?:or|and)\b|[或和]|\b[B-HJ-Z]\b|\([A-Za-z]\)")
_SUFFIX = re.compile(r"(?<=[A-Za-z)]) ?选?项$")
_SET = re.compile(r"\\\{(.*)\\\}", re.DOTALL)
_CHINESE_LABEL = re.compile(r"\s*[(（]?([A-Z])[)）]? ?、(?!\s*[A-Z](?![A-Za-z])) *(.+)", re.DOTALL)
_OPTION_LABEL = re.compile(r"[(\[]?([A-Z])[)\].:]+ ?(.+)", re.DOTALL)


def grade_choice(answer: str, gold: Gold) -> Part:
    """The `choice` type: the set of chosen letters, in any order, equals the gold's.

    Raises:
        BadGold: the gold is neither letters within the choices nor one choice's text.
    """
    options = tuple(_without_label(choice, letter) for choice, letter in zip(gold.choices, ascii_uppercase))
    if len(gold.choices) > len(ascii_uppercase):
        raise bad_gold(gold, f"has {len(gold.choices)} choices: letters end at 26")
    wanted = _chosen(gold_text(gold), options)
    if wanted is None:
        raise bad_gold(
            gold, "is no choice letter" + (" or text of the choices" if options else ", and there are no choices")
        )
    if len(answer) > MAX_ANSWER_CHARS:
        return unparsable(answer, f"is longer than {MAX_ANSWER_CHARS} characters")
    found = _chosen(plain(answer), options)
    if found is None:
        return unparsable(answer, "chooses nothing")
    return verdict(found == wanted, answer, gold)


def _chosen(text: str, options: tuple[str, ...]) -> frozenset[str] | None:
    """The letters that `text` chooses; empty if letter and text disagree, None if it chooses nothing."""
    prefix = _PREFIX.match(text)
    if prefix and prefix.end() < len(text):
        text = text[prefix.end() :].strip()
    by_text = _letter_of(text, options) if len(text.strip("()[]. ")) > 1 else None
    if by_text is not None:
        return frozenset(by_text)
    text = _SUFFIX.sub("", text)
    inside = _SET.fullmatch(text)
    letters = _letters(inside[1].strip() if inside else text, len(options) or 26)
    if letters is not None:
        return letters
    if exact := [letter for letter, option in zip(ascii_uppercase, options) if option == text]:
        return frozenset(exact) if len(exact) == 1 else None
    return _letter_with_text(text, options)


def _letter_with_text(text: str, options: tuple[str, ...]) -> frozenset[str] | None:
    """A letter before its option's text, or behind it in brackets; empty if they disagree, or both readings agree."""
    before, behind = _LETTER_AND_TEXT.fullmatch(text), _TEXT_AND_LETTER.fullmatch(text)
    if not options:
        return frozenset(before[1].upper()) if before and before[1] and not _MORE_LETTERS.search(before[2]) else None
    letters = ascii_uppercase[: len(options)]
    first = before and (before[1] or before[3]).upper()
    said = [(first, before[2] or before[4])] if before and first in letters else []
    if behind and behind[2] in letters and _letter_of(behind[1], options):  # else it may be a sentence with a letter
        said.append((behind[2], behind[1]))
    agreeing = {letter for letter, rest in said if _agree(rest, options[letters.index(letter)], text, options)}
    return (frozenset(agreeing) if len(agreeing) == 1 else frozenset()) if said else None


def _agree(rest: str, option: str, text: str, options: tuple[str, ...]) -> bool:
    negative = _DASHED.match(text) and _same_text(f"-{rest}", option)  # `B - 15` is written for 15 and for -15
    if negative or _same_text(rest, option):
        return True
    inside = _IN_BRACKETS.fullmatch(rest)
    return bool(inside and _letter_of(rest, options) is None and _same_text((inside[1] or inside[2]).strip(), option))


def _letters(text: str, count: int) -> frozenset[str] | None:
    if not _LETTERS.fullmatch(text):
        return None
    text = text.replace(" and ", " ")
    letters = re.findall(r"[A-Za-z]", text)
    joined = re.search(r"[A-Za-z]{2}", text)
    if joined and not text.isupper():
        return None  # a word
    letters = [letter.upper() for letter in letters]
    if len(set(letters)) < len(letters) or any(ascii_uppercase.index(letter) >= count for letter in letters):
        return None
    return frozenset(letters)


def _letter_of(text: str, options: tuple[str, ...]) -> str | None:
    """The letter of the one option with this text; None if there is none, or more than one."""
    found = [letter for letter, option in zip(ascii_uppercase, options) if _same_text(text, option)]
    return found[0] if len(found) == 1 else None


def _same_text(text: str, option: str) -> bool:
    if text_key(text) == text_key(option):
        return True
    try:
        one, other = read_answer(option), read_answer(text)
        return not isinstance(one, Text) and same(one, other, WithoutAlgebra()) is True
    except Refused:
        return False


def _without_label(choice: str, letter: str) -> str:
    chinese = _CHINESE_LABEL.fullmatch(choice)
    if chinese and chinese[1] == letter:
        return plain(chinese[2])
    text = plain(choice)
    label = _OPTION_LABEL.fullmatch(text)
    return label[2].strip() if label and label[1] == letter else text
