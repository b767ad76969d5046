"""IF-Eval's 25 instructions that a program can check (Zhou et al. 2023, arXiv 2311.07911): **followed or not**.

Strict accuracy by prompt: an answer is right where it follows all instructions of its prompt. Rules are the published
ones of `google-research/instruction_following_eval`; sentences are told apart by a rule of ours in place of NLTK's
trained one, and languages by py3langid in place of langdetect.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Check = Callable[..., bool]
"""The answer, and the arguments of the row by their names -> whether it follows the instruction."""

_ABBREVIATION = re.compile(
    r"\b(?:[A-Z]|Mr|Mrs|Ms|Dr|Prof|St|Sr|Jr|vs|etc|e\.g|i\.e|Inc|Ltd|Co|No|approx)\.$", re.IGNORECASE
)
_SENTENCE_END = re.compile(r"""[.!?]+["'”’)\]]*\s+(?=["'“‘(\[]*[A-Z0-9])|[。！？]+|\n\s*\n""")
_FENCE = re.compile(r"\A```(?:json)?\s*(.*?)\s*```\Z", re.DOTALL | re.IGNORECASE)
_CHOICES = ("My answer is yes.", "My answer is no.", "My answer is maybe.")


def unfollowed(answer: str, ids: Sequence[str], arguments: Sequence[Mapping[str, Any]]) -> list[str]:
    """Ids of the instructions that `answer` does not follow, in order; an empty answer follows none."""
    if not answer.strip():
        return list(ids)
    return [name for name, given in zip(ids, arguments, strict=True) if not INSTRUCTIONS[name](answer, **_named(given))]


def instructions_problem(ids: Sequence[str], arguments: Sequence[Mapping[str, Any]]) -> str | None:
    """Why a row's instructions cannot be checked, or None."""
    if not ids or len(ids) != len(arguments):
        return f"it has {len(ids)} instructions and arguments for {len(arguments)}"
    for name, given in zip(ids, arguments, strict=True):
        if name not in INSTRUCTIONS:
            return f"instruction {name!r} is none of IF-Eval's"
        try:
            inspect.signature(INSTRUCTIONS[name]).bind("", **_named(given))
        except TypeError as error:
            return f"instruction {name} with {_named(given)}: {error}"
        if (relation := given.get("relation") or given.get("let_relation")) not in (None, *_RELATIONS):
            return f"instruction {name}: relation {relation!r} is none of {', '.join(_RELATIONS)}"
    return None


def _named(given: Mapping[str, Any]) -> dict[str, Any]:
    """Files of one schema for all instructions hold null for what an instruction does not take."""
    return {name: value for name, value in given.items() if value is not None}


_RELATIONS = {"less than": lambda count, wanted: count < wanted, "at least": lambda count, wanted: count >= wanted}


def keywords(answer: str, *, keywords: Sequence[str]) -> bool:
    return all(word.lower() in answer.lower() for word in keywords)


def keyword_frequency(answer: str, *, keyword: str, frequency: int, relation: str) -> bool:
    return _RELATIONS[relation](answer.lower().count(keyword.lower()), frequency)


def forbidden_words(answer: str, *, forbidden_words: Sequence[str]) -> bool:
    return not any(re.search(rf"\b{re.escape(word)}\b", answer, re.IGNORECASE) for word in forbidden_words)


def letter_frequency(answer: str, *, letter: str, let_frequency: int, let_relation: str) -> bool:
    return _RELATIONS[let_relation](answer.lower().count(letter.lower()), let_frequency)


def response_language(answer: str, *, language: str) -> bool:
    return _language_of(answer) == language


def number_sentences(answer: str, *, num_sentences: int, relation: str) -> bool:
    return _RELATIONS[relation](len(sentences(answer)), num_sentences)


def number_paragraphs(answer: str, *, num_paragraphs: int) -> bool:
    """Between lines of three stars; an empty one counts against the answer, but at either end."""
    parts = [part.strip() for part in re.split(r"\s?\*\*\*\s?", answer)]
    inner = parts[bool(not parts[0]) : len(parts) - bool(not parts[-1])]
    return all(inner) and len(inner) == num_paragraphs


def number_words(answer: str, *, num_words: int, relation: str) -> bool:
    return _RELATIONS[relation](len(re.findall(r"\w+", answer)), num_words)


def nth_paragraph_first_word(answer: str, *, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    """Paragraphs stand between empty lines."""
    parts = answer.split("\n\n")
    count = sum(bool(part.strip()) for part in parts)
    if nth_paragraph > count or not (words := parts[nth_paragraph - 1].split()):
        return False
    word = re.split(r"""[.,?!'"]""", words[0].lstrip("'").lstrip('"'))[0]
    return count == num_paragraphs and word.lower() == first_word.lower()


def number_placeholders(answer: str, *, num_placeholders: int) -> bool:
    """`[address]`"""
    return len(re.findall(r"\[.*?\]", answer)) >= num_placeholders


def postscript(answer: str, *, postscript_marker: str) -> bool:
    spaced = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    return bool(re.search(spaced.get(postscript_marker, re.escape(postscript_marker.lower())), answer.lower()))


def number_bullet_lists(answer: str, *, num_bullets: int) -> bool:
    """Lines that begin with `*` (and no second star) or with `-`."""
    return len(re.findall(r"^\s*(?:\*[^*\n].*|-.*)$", answer, re.MULTILINE)) == num_bullets


def constrained_response(answer: str) -> bool:
    return any(choice in answer for choice in _CHOICES)


def number_highlighted_sections(answer: str, *, num_highlights: int) -> bool:
    """`*this*`, and `**this**`, which counts by its inner pair of stars alone as well, as published."""
    single = [one.strip("*").strip() for one in re.findall(r"\*[^\n*]*\*", answer)]
    double = [one[2:-2].strip() for one in re.findall(r"\*\*[^\n*]*\*\*", answer)]
    return sum(map(bool, [*single, *double])) >= num_highlights


def multiple_sections(answer: str, *, section_spliter: str, num_sections: int) -> bool:
    return len(re.findall(rf"\s?{re.escape(section_spliter)}\s?\d+\s?", answer)) >= num_sections


def json_format(answer: str) -> bool:
    text = answer.strip()
    fenced = _FENCE.match(text)
    try:
        json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return False
    return True


def title(answer: str) -> bool:
    """`<<a title>>`"""
    return any(found.lstrip("<").rstrip(">").strip() for found in re.findall(r"<<[^\n]+>>", answer))


def two_responses(answer: str) -> bool:
    """Two that differ, six stars between them."""
    parts = [part.strip() for part in answer.split("******")]
    inner = parts[bool(not parts[0]) : len(parts) - bool(not parts[-1])]
    return len(inner) == 2 and all(inner) and inner[0] != inner[1]


def repeat_prompt(answer: str, *, prompt_to_repeat: str) -> bool:
    return answer.strip().lower().startswith(prompt_to_repeat.strip().lower())


def end_checker(answer: str, *, end_phrase: str) -> bool:
    return answer.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def capital_word_frequency(answer: str, *, capital_frequency: int, capital_relation: str) -> bool:
    """Words in capitals; one with hyphens is one."""
    words = re.findall(r"\w+(?:[-'’]\w+)*", answer)
    return _RELATIONS[capital_relation](sum(word.isupper() for word in words), capital_frequency)


def english_capital(answer: str) -> bool:
    return answer.isupper() and _language_of(answer) == "en"


def english_lowercase(answer: str) -> bool:
    return answer.islower() and _language_of(answer) == "en"


def no_comma(answer: str) -> bool:
    return "," not in answer


def quotation(answer: str) -> bool:
    text = answer.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


def sentences(text: str) -> list[str]:
    """At full stops, exclamation and question marks before a capital, a digit or the end, and at empty lines; not after
    an abbreviation or a single letter."""
    found, start = [], 0
    for end in _SENTENCE_END.finditer(text):
        if not _ABBREVIATION.search(text[start : end.end()].rstrip()):
            found.append(text[start : end.end()].strip())
            start = end.end()
    return [sentence for sentence in [*found, text[start:].strip()] if sentence]


def _language_of(text: str) -> str:
    import py3langid  # its model is read at the first use, and few rows ask for a language

    return py3langid.classify(text.lower())[0]


INSTRUCTIONS: dict[str, Check] = {
    "keywords:existence": keywords,
    "keywords:frequency": keyword_frequency,
    "keywords:forbidden_words": forbidden_words,
    "keywords:letter_frequency": letter_frequency,
    "language:response_language": response_language,
    "length_constraints:number_sentences": number_sentences,
    "length_constraints:number_paragraphs": number_paragraphs,
    "length_constraints:number_words": number_words,
    "length_constraints:nth_paragraph_first_word": nth_paragraph_first_word,
    "detectable_content:number_placeholders": number_placeholders,
    "detectable_content:postscript": postscript,
    "detectable_format:number_bullet_lists": number_bullet_lists,
    "detectable_format:constrained_response": constrained_response,
    "detectable_format:number_highlighted_sections": number_highlighted_sections,
    "detectable_format:multiple_sections": multiple_sections,
    "detectable_format:json_format": json_format,
    "detectable_format:title": title,
    "combination:two_responses": two_responses,
    "combination:repeat_prompt": repeat_prompt,
    "startend:end_checker": end_checker,
    "startend:quotation": quotation,
    "change_case:capital_word_frequency": capital_word_frequency,
    "change_case:english_capital": english_capital,
    "change_case:english_lowercase": english_lowercase,
    "punctuation:no_comma": no_comma,
}
