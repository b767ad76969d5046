"""IF-Eval's checks: worked by hand, and on made-up answers equal to the authors' own code as lm-eval carries it."""

from __future__ import annotations

import asyncio
import importlib.util
import random
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pangu_rl.records import Outcome, Part, Prompt
from rewards.metrics.benchmark import benchmark
from rewards.metrics.gold_check import benchmark_problem
from rewards.metrics.instructions import INSTRUCTIONS, instructions_problem, sentences, unfollowed
from tests.unit.rewards.builders import completion

AT_LEAST = {"relation": "at least"}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "keywords:existence": {"keywords": ["sun", "Moon"]},
    "keywords:frequency": {"keyword": "sun", "frequency": 2, **AT_LEAST},
    "keywords:forbidden_words": {"forbidden_words": ["moon"]},
    "keywords:letter_frequency": {"letter": "s", "let_frequency": 4, "let_relation": "less than"},
    "length_constraints:number_paragraphs": {"num_paragraphs": 2},
    "length_constraints:number_words": {"num_words": 8, "relation": "less than"},
    "length_constraints:nth_paragraph_first_word": {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "sun"},
    "detectable_content:number_placeholders": {"num_placeholders": 2},
    "detectable_content:postscript": {"postscript_marker": "P.S."},
    "detectable_format:number_bullet_lists": {"num_bullets": 2},
    "detectable_format:constrained_response": {},
    "detectable_format:number_highlighted_sections": {"num_highlights": 2},
    "detectable_format:multiple_sections": {"section_spliter": "SECTION", "num_sections": 2},
    "detectable_format:json_format": {},
    "detectable_format:title": {},
    "combination:two_responses": {},
    "combination:repeat_prompt": {"prompt_to_repeat": "sun and"},
    "startend:end_checker": {"end_phrase": "the end."},
    "startend:quotation": {},
    "punctuation:no_comma": {},
}
"""Of the instructions that the authors' code checks with nothing but Python."""
PIECES = (
    *("sun", "Sun and moon", "MOON", "Moonlight,", "the end.", "My answer is yes.", "[name]", "[a] [b]", "P.S. bye"),
    *("p. s. x", "\n* one", "\n- two", "\n** three", "*high*", "**light**", "* *", "SECTION 1", "SECTION 2\n"),
    *("<<title>>", "<<>>", "\n\n", "\n\nsun, x", "***", " *** ", "******", '"', "{}", "```json\n[1]\n```", "'sun'"),
    "s s s s",
)  # fmt: skip


@pytest.fixture(scope="module")
def published() -> ModuleType:
    """`lm_eval.tasks.ifeval.instructions` without the libraries that it tells sentences and languages by."""
    spec = importlib.util.find_spec("lm_eval")
    if spec is None or spec.origin is None:
        pytest.skip("lm-eval is not installed")
    file = Path(spec.origin).parent / "tasks" / "ifeval" / "instructions.py"
    helpers = ModuleType("lm_eval.tasks.ifeval.instructions_util")
    helpers.LANGUAGE_CODES = {}
    helpers.count_words = lambda text: len(re.findall(r"\w+", text))
    stubs = {"langdetect": ModuleType("langdetect"), helpers.__name__: helpers}
    for name in ("lm_eval", "lm_eval.tasks", "lm_eval.tasks.ifeval"):
        stubs[name] = ModuleType(name)
    stubs["lm_eval.tasks.ifeval"].instructions_util = helpers
    with pytest.MonkeyPatch.context() as patched:
        for name, module in stubs.items():
            patched.setitem(sys.modules, name, module)
        spec = importlib.util.spec_from_file_location("published_instructions", file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


NAMES = {
    "keywords:existence": "KeywordChecker",
    "keywords:frequency": "KeywordFrequencyChecker",
    "keywords:forbidden_words": "ForbiddenWords",
    "keywords:letter_frequency": "LetterFrequencyChecker",
    "length_constraints:number_paragraphs": "ParagraphChecker",
    "length_constraints:number_words": "NumberOfWords",
    "length_constraints:nth_paragraph_first_word": "ParagraphFirstWordCheck",
    "detectable_content:number_placeholders": "PlaceholderChecker",
    "detectable_content:postscript": "PostscriptChecker",
    "detectable_format:number_bullet_lists": "BulletListChecker",
    "detectable_format:constrained_response": "ConstrainedResponseChecker",
    "detectable_format:number_highlighted_sections": "HighlightSectionChecker",
    "detectable_format:multiple_sections": "SectionChecker",
    "detectable_format:json_format": "JsonFormat",
    "detectable_format:title": "TitleChecker",
    "combination:two_responses": "TwoResponsesChecker",
    "combination:repeat_prompt": "RepeatPromptThenAnswer",
    "startend:end_checker": "EndChecker",
    "startend:quotation": "QuotationChecker",
    "punctuation:no_comma": "CommaChecker",
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_equals_the_authors_code(published: ModuleType, name: str) -> None:
    theirs = getattr(published, NAMES[name])(name)
    theirs.build_description(**ARGUMENTS[name])
    drawn = random.Random(name)
    verdicts = []
    for _ in range(3000):
        said = " ".join(drawn.choices(PIECES, k=drawn.randint(1, 7)))
        verdicts.append(INSTRUCTIONS[name](said, **ARGUMENTS[name]))
        assert verdicts[-1] == bool(theirs.check_following(said)), said
    assert set(verdicts) == {True, False}


@pytest.mark.parametrize(
    ("name", "given", "followed", "broken"),
    [
        ("length_constraints:number_sentences", {"num_sentences": 3, **AT_LEAST}, "Dr. Lee came. Who? He!", "1. Two"),
        ("language:response_language", {"language": "de"}, "Das ist ein kurzer Satz.", "This is English."),
        ("language:response_language", {"language": "hi"}, "यह हिंदी में एक वाक्य है।", "This is English."),
        ("change_case:english_capital", {}, "THIS IS ALL IN CAPITAL LETTERS.", "THIS IS NOt."),
        ("change_case:english_lowercase", {}, "this is all in small letters.", "This is not."),
        (
            "change_case:capital_word_frequency",
            {"capital_frequency": 2, "capital_relation": "less than"},
            "ONE-TWO and three", "ONE and TWO",
        ),
    ],
)  # fmt: skip
def test_worked(name: str, given: dict[str, Any], followed: str, broken: str) -> None:
    assert unfollowed(followed, [name], [given]) == []
    assert unfollowed(broken, [name], [given]) == [name]


def test_every_instruction_has_a_test() -> None:
    assert set(INSTRUCTIONS) - set(ARGUMENTS) == {
        "length_constraints:number_sentences", "language:response_language", "change_case:english_capital",
        "change_case:english_lowercase", "change_case:capital_word_frequency",
    }  # fmt: skip
    assert len(INSTRUCTIONS) == 25


def test_sentences() -> None:
    text = 'Mr. Lee (e.g. A. Lee) paid 3.50 euros. "Really?" He did!\n\nA title\n\nIt ends here'
    assert sentences(text) == [
        "Mr. Lee (e.g. A. Lee) paid 3.50 euros.",
        '"Really?"',
        "He did!",
        "A title",
        "It ends here",
    ]
    assert sentences("第一句。第二句！") == ["第一句。", "第二句！"]


def row(ids: list[str], arguments: list[dict[str, Any]]) -> Prompt:
    extra = {"scored_by": "instructions", "instructions": ids, "arguments": arguments}
    return Prompt(uid="p", messages=(), answer="", extra=extra, opened="<think>\n")


def scored(prompt: Prompt, text: str) -> Part:
    return asyncio.run(benchmark(prompt, completion(text)))


def test_a_prompt_is_right_where_all_is_followed_after_the_thinking() -> None:
    nulls = {"num_words": None, "relation": None}
    prompt = row(["punctuation:no_comma", "startend:quotation"], [nulls, nulls])
    assert scored(prompt, 'well, well</think>"so it is"').value == 1.0
    half = scored(prompt, '</think>"so, it is"')
    assert (half.value, half.outcome, half.detail) == (
        0.0, Outcome.INCORRECT, "1 of 2 followed, not punctuation:no_comma",
    )  # fmt: skip
    assert scored(prompt, "no comma, still thinking").outcome is Outcome.NO_BOX
    boxed = row(["startend:end_checker"], [{"end_phrase": "}"}])
    assert scored(boxed, "</think>as \\boxed{7}").value == 1.0, "the whole answer counts, not its box"


@pytest.mark.parametrize(
    ("ids", "arguments", "says"),
    [
        ([], [], "has 0 instructions"),
        (["punctuation:no_comma"], [], "arguments for 0"),
        (["punctuation:no_dot"], [{}], "none of IF-Eval's"),
        (["startend:end_checker"], [{}], "end_phrase"),
        (["punctuation:no_comma"], [{"x": 1}], "unexpected"),
        (["length_constraints:number_words"], [{"num_words": 3, "relation": "about"}], "'about' is none of"),
    ],
)
def test_rows_that_cannot_be_checked(ids: list[str], arguments: list[dict[str, Any]], says: str) -> None:
    assert says in (instructions_problem(ids, arguments) or "")
    assert benchmark_problem(row(ids, arguments)) == instructions_problem(ids, arguments)
