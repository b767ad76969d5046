"""Answers that do not do what their question asks for in so many words: length, form, language (as IFEval checks it).

Only what is asked explicitly is checked, and only in the last question and its answer. Each check knows how English and
Chinese ask for it.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Callable, Iterator

from data_curation.operators._unspaced import Unspaced
from data_curation.pipeline.operator import row_operator
from data_curation.pipeline.record import Drop, Record, Verdict
from rewards.rules.boxed_answer import answer_part, extract_boxed

_WORD = re.compile(rf"[{Unspaced.CJK}]|[^\W{Unspaced.CJK}]+(?:['’-]\w+)*")
_UNCOUNTED = re.compile(f"[{Unspaced.OTHERS}]")
_HAN = re.compile(r"[\u3400-\u9fff]")
_LATIN = re.compile(r"[A-Za-z]")
NEAR = 0.2
"""How far a length may be from `about 800 words`, and from `an 800-word essay`."""
SHORT = 12
"""Words of what is called a short answer."""

Check = Callable[[re.Match[str], str], str | None]
"""What was asked, and the answer -> what is wrong with it, or None."""


@row_operator(cost="cpu")
def followed_instructions(record: Record) -> Verdict:
    asked, answered = _last_exchange(record)
    if not asked or not answered:
        return None
    for reason, problem in violations(asked, answer_part(answered) or answered):
        return Drop(reason, problem)
    return None


def violations(asked: str, answered: str) -> Iterator[tuple[str, str]]:
    """Reason and detail of each instruction that was not followed."""
    for reason, pattern, check in _CHECKS:
        for found in pattern.finditer(asked):
            if not _NEGATED.search(asked, 0, found.start()) and (problem := check(found, answered)):
                yield reason, f"{found[0].strip()!r} was asked: {problem}"


def _last_exchange(record: Record) -> tuple[str, str]:
    asked = answered = ""
    for side, text in record.texts():
        if side == "asked":
            asked, answered = text, ""
        else:
            answered = text
    return asked, answered


def _words(text: str) -> float:
    """Marks are no ends of words; not a number where ends are not written, so that no length is wrong."""
    if _UNCOUNTED.search(text):
        return math.nan
    return len(_WORD.findall("".join(one for one in text if unicodedata.category(one)[0] != "M")))


def _at_most(found: re.Match[str], text: str) -> str | None:
    return f"it has {_words(text)} words" if _words(text) > int(found["n"]) else None


def _at_least(found: re.Match[str], text: str) -> str | None:
    return f"it has {_words(text)} words" if _words(text) < int(found["n"]) else None


def _about(found: re.Match[str], text: str) -> str | None:
    wanted = int(found["n"])
    return f"it has {_words(text)} words" if abs(_words(text) - wanted) > NEAR * wanted else None


def _short(_: re.Match[str], text: str) -> str | None:
    return f"it has {_words(text)} words, a short answer has at most {SHORT}" if _words(text) > SHORT else None


def _one_word(_: re.Match[str], text: str) -> str | None:
    plain = extract_boxed(text) or text
    return None if len(plain.split()) <= 1 else f"it is {plain[:60]!r}"


def _json(_: re.Match[str], text: str) -> str | None:
    plain = text.strip().removeprefix("```json").removeprefix("```").removesuffix("```")
    try:
        json.loads(plain)
    except (ValueError, RecursionError) as error:
        return f"it does not parse: {error}"
    return None


def _bullets(found: re.Match[str], text: str) -> str | None:
    count = sum(bool(re.match(r"\s*(?:[-*•]|\d+[.)])\s", line)) for line in text.splitlines())
    wanted = int(found["n"]) if found["n"] else None
    if wanted is None:
        return None if count else "it has none"
    return None if count == wanted else f"it has {count}"


def _sentences(found: re.Match[str], text: str) -> str | None:
    count = len(re.findall(r"[^.!?。！？]+[.!?。！？]+(?=\s|$|[^\d])|[^.!?。！？]+$", text.strip()))
    return None if count == int(found["n"]) else f"it has {count}"


def _paragraphs(found: re.Match[str], text: str) -> str | None:
    count = len([part for part in re.split(r"\n\s*\n", text) if part.strip()])
    return None if count == int(found["n"]) else f"it has {count}"


def _lowercase(_: re.Match[str], text: str) -> str | None:
    return None if text == text.lower() else "it has capitals"


def _uppercase(_: re.Match[str], text: str) -> str | None:
    return None if text == text.upper() else "it has small letters"


def _no_commas(_: re.Match[str], text: str) -> str | None:
    return "it has commas" if "," in text or "，" in text else None


def _chinese(_: re.Match[str], text: str) -> str | None:
    han, latin = len(_HAN.findall(text)), len(_LATIN.findall(text))
    return "it is not" if latin > 20 and han < latin / 10 else None


def _english(_: re.Match[str], text: str) -> str | None:
    han, latin = len(_HAN.findall(text)), len(_LATIN.findall(text))
    return "it is not" if han > 10 and latin < han else None


def _ends(found: re.Match[str], text: str) -> str | None:
    return None if text.rstrip().endswith(found["said"]) else f"it ends with {text.rstrip()[-40:]!r}"


def _begins(found: re.Match[str], text: str) -> str | None:
    return None if text.lstrip().startswith(found["said"]) else f"it begins with {text.lstrip()[:40]!r}"


def _boxed(_: re.Match[str], text: str) -> str | None:
    return None if extract_boxed(text) is not None else "it has no box"


_NOT = r"(?:\b(?:no|not|never|without|cannot)|n['’]t) (?:\w+ ){0,2}?"
_NEGATED = re.compile(rf"(?:{_NOT}|不要?|请勿)$", re.IGNORECASE)
"""Before an instruction: `do not answer in Chinese`, and the `less than` of `no less than` asks for no short answer."""
_MORE, _LESS = "(?:more|longer) than", "(?:(?:fewer|less|shorter) than|under)"
_EXACT = r"(?! (?:or (?:fewer|less|more|so)|at (?:most|least)|max|min))"
_TOLD = r"(?:^|[.!?:;,。！？；，\n]\s*|\b(?:please|and|then|must|should|only|always) )"
"""Before a verb that tells somebody to do it: `how can I return JSON` tells nobody."""
_NO_QUESTION = r"(?=[^.?!。？！\n]*(?:[.!。！\n]|$))"
"""`Is the sign in all caps?` asks for no capitals."""
_ASKED: list[tuple[str, Check, str]] = [
    ("too long", _at_most, rf"(?:at most|{_NOT}{_MORE}|{_LESS}|within|up to) (?P<n>\d+) words"),
    ("too long", _at_most, r"\b(?P<n>\d+) words (?:or (?:fewer|less)|at most|max)"),
    ("too long", _at_most, r"(?:不超过|不多于)\s*(?P<n>\d+)\s*个?字"),
    ("too short", _at_least, rf"(?:at least|{_NOT}{_LESS}|{_MORE}) (?P<n>\d+) words"),
    ("too short", _at_least, r"\b(?P<n>\d+) words (?:or more|at least|min)"),
    ("too short", _at_least, r"(?:不少于|至少)\s*(?P<n>\d+)\s*个?字"),
    ("another length", _about, rf"(?:about|around|approximately|roughly|exactly) (?P<n>\d+) words{_EXACT}"),
    ("another length", _about, r"\b(?P<n>\d+)-word (?:essay|story|text|summary|article|letter|description|paragraph)"),
    ("another length", _about, r"(?P<n>\d+)\s*字左右"),
    ("not short", _short, r"short answers? only|(?:give|answer with|only) (?:only )?a short (?:answer|phrase)"),
    ("not short", _short, r"answer briefly|only the final answer|简短回答|只给出(?:最终)?答案"),
    ("not one word", _one_word, r"(?:in|with|using) (?:only )?(?:one|a single) word(?! or)|one[- ]word answer"),
    (
        "no JSON",
        _json,
        rf"{_TOLD}(?:answer|reply|respond|return|output|format)(?:[^.?!\n]{{0,40}} (?:in|as|with))?"
        rf"(?: only| valid| an?| the)* json\b(?! file){_NO_QUESTION}",
    ),
    ("no JSON", _json, r"以\s*JSON\s*(?:格式|形式)?\s*(?:来|进行)?(?:回答|回复|返回|输出|给出)"),
    (
        "other bullet points",
        _bullets,
        rf"\b(?:in|as|into|use|using|list|give|write|exactly) (?:me )?(?:(?P<n>\d+) )?bullet points"
        rf"{_EXACT}{_NO_QUESTION}",
    ),
    ("other sentences", _sentences, rf"(?:in|with|exactly) (?P<n>\d+) sentences{_EXACT}"),
    ("other paragraphs", _paragraphs, rf"(?:in|with|exactly) (?P<n>\d+) paragraphs{_EXACT}"),
    ("not in lowercase", _lowercase, rf"(?:all|only|entirely in) lower-?case(?: letters)?{_NO_QUESTION}"),
    (
        "not in capitals",
        _uppercase,
        rf"(?:(?:all|only|entirely in) (?:upper-?case|capital)(?: letters)?|in all caps){_NO_QUESTION}",
    ),
    ("with commas", _no_commas, rf"(?:no|without(?: using)?(?: any)?|do not use(?: any)?) commas{_NO_QUESTION}"),
    (
        "not in Chinese",
        _chinese,
        rf"{_TOLD}(?:answer|reply|respond|write)(?:(?! or )[^.?!\n]){{0,40}} in chinese(?! or)",
    ),
    ("not in Chinese", _chinese, r"用中文(?!怎|如何|说)"),
    (
        "not in English",
        _english,
        rf"{_TOLD}(?:answer|reply|respond|write)(?:(?! or )[^.?!\n]){{0,40}} in english(?! or)",
    ),
    ("not in English", _english, r"用英[文语](?!怎|如何|说)"),
    ("another end", _ends, r"end (?:your \w+ )?with (?:the \w+ )?[\"“](?P<said>[^\"”]+)[\"”]"),
    ("another beginning", _begins, r"(?:begin|start) (?:your \w+ )?with (?:the \w+ )?[\"“](?P<said>[^\"”]+)[\"”]"),
    ("no box", _boxed, r"\\boxed"),
]
_CHECKS = [(reason, re.compile(asked, re.IGNORECASE), check) for reason, check, asked in _ASKED]
