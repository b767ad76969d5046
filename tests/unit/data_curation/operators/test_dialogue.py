"""SFT and RL operators: instructions, answers that agree, prompts whose answer can be checked."""

from __future__ import annotations

from typing import Any

import pytest

from data_curation.operators.dialogue.agreeing_answers import agreeing_answers
from data_curation.operators.dialogue.followed_instructions import followed_instructions
from data_curation.operators.dialogue.verifiable_prompts import short_answer, verifiable_prompts
from data_curation.pipeline.record import Drop, Edit, Record
from pangu_rl.data.fields.bad_row import BadRow


def exchange(asked: str, answered: str | None, **more: Any) -> Record:
    messages = [{"role": "user", "content": asked}]
    messages += [] if answered is None else [{"role": "assistant", "content": answered}]
    return Record({"id": "x", "messages": messages, **more}, "x", "file, row 1")


@pytest.mark.parametrize(
    ("asked", "good", "bad", "reason"),
    [
        ("Describe it in at most 5 words.", "A cat on a mat", "There is a cat on a mat", "too long"),
        ("不超过5个字。", "一只猫。", "这里有一只黑色的猫。", "too long"),
        ("Write at least 4 words.", "one two three four", "one two three", "too short"),
        ("Write a 10-word story.", "w " * 12, "w " * 13, "another length"),
        ("Who wrote it? Short answer only.", "Goethe", "w " * 13, "not short"),
        ("Answer in one word.", "Paris", "In Paris", "not one word"),
        ("Return JSON with the keys.", '```json\n{"a": 1}\n```', "a: 1", "no JSON"),
        ("List 2 bullet points.", "- a\n- b", "- a\n- b\n- c", "other bullet points"),
        ("Explain in 2 sentences.", "It is 3.5 m. It fell.", "It fell.", "other sentences"),
        ("Write with 2 paragraphs.", "one\n\ntwo", "one\ntwo", "other paragraphs"),
        ("Use only lowercase letters.", "quiet", "Loud", "not in lowercase"),
        ("Write it in all caps.", "LOUD", "Loud", "not in capitals"),
        ("Use no commas.", "a b", "a, b", "with commas"),
        (
            "Please answer in Chinese.",
            "一只黑色的猫坐在垫子上。",
            "A black cat sits on the mat here.",
            "not in Chinese",
        ),
        ("Please answer in English.", "A cat.", "一只黑色的猫坐在垫子上面睡觉。", "not in English"),
        ('End with "Amen".', "So be it. Amen", "So be it.", "another end"),
        ('Start your reply with "Well".', "Well, yes", "Yes", "another beginning"),
        ("Put it in \\boxed{}.", "\\boxed{3}", "3", "no box"),
    ],
)
def test_what_is_asked_explicitly_is_checked(asked: str, good: str, bad: str, reason: str) -> None:
    assert followed_instructions(exchange(asked, good)) is None
    verdict = followed_instructions(exchange(asked, bad))
    assert isinstance(verdict, Drop) and verdict.reason == reason and "was asked" in verdict.detail


@pytest.mark.parametrize(
    ("asked", "obeys", "ignores", "reason"),
    [
        ("Use no more than 5 words.", 5, 6, "too long"),
        ("Not more than 5 words, please.", 5, 6, "too long"),
        ("Do not use more than 5 words.", 5, 6, "too long"),
        ("It mustn't be longer than 5 words.", 5, 6, "too long"),
        ("Write fewer than 5 words.", 4, 6, "too long"),
        ("In 5 words or fewer.", 5, 6, "too long"),
        ("In about 5 words or less.", 2, 6, "too long"),
        ("Use no fewer than 5 words.", 5, 4, "too short"),
        ("Not less than 5 words, please.", 5, 4, "too short"),
        ("Don't write less than 5 words.", 5, 4, "too short"),
        ("More than 5 words, please.", 6, 4, "too short"),
        ("Write 5 words or more.", 6, 4, "too short"),
    ],
)
def test_bounds_on_words_are_read_the_right_way(asked: str, obeys: int, ignores: int, reason: str) -> None:
    assert followed_instructions(exchange(asked, "word " * obeys)) is None
    assert followed_instructions(exchange(asked, "word " * ignores)).reason == reason


def test_words_are_counted_where_their_ends_are_written() -> None:
    """Four words of Hindi, whose marks are parts of them; Thai has no spaces, so no length of it is called wrong."""
    hindi = exchange("Use at most 3 words.", "बिल्ली चटाई पर है")
    assert "it has 4 words" in followed_instructions(hindi).detail
    assert followed_instructions(exchange("Use at most 4 words.", "बिल्ली चटाई पर है")) is None
    for asked in ("Use at most 3 words.", "Write at least 99 words.", "Write about 50 words."):
        assert followed_instructions(exchange(asked, "ท่าเรือเงียบสงบเมื่อเรือลำแรกกลับมา")) is None


def test_both_of_two_bounds_count() -> None:
    asked = "Write at least 3 words, but no more than 5 words."
    assert [bool(followed_instructions(exchange(asked, "word " * n))) for n in range(2, 7)] == [1, 0, 0, 0, 1]


@pytest.mark.parametrize(
    "asked",
    [
        "Explain in 3 sentences or fewer.",
        "Explain with 3 sentences at most.",
        "Write in 2 paragraphs or more.",
        "Give me 3 bullet points or less.",
        "List 5-10 bullet points.",
        "Do not use bullet points.",
        "What do the bullet points say?",
        "How can I store a date in JSON?",
        "How do I return JSON from Flask?",
        "Write a script that reads what is saved as JSON.",
        "Please do not answer in JSON.",
        "Don't answer in Chinese.",
        "How do you write cat in Chinese?",
        "Is the sign in all caps?",
        "Answer in English or in Chinese.",
        "Answer in Chinese or in English.",
        "不要用中文。",
        "如何以JSON存储日期？",
    ],
)
def test_what_is_no_such_instruction_is_not_checked(asked: str) -> None:
    assert followed_instructions(exchange(asked, "You can see it, as always, in Python.")) is None


@pytest.mark.parametrize(
    "asked",
    [
        "Answer in JSON.",
        "List them and reply with valid JSON.",
        "Format your answer as a JSON object.",
        "请以 JSON 格式返回。",
    ],
)
def test_json_is_asked_for_in_many_ways(asked: str) -> None:
    assert followed_instructions(exchange(asked, "[1, 2]")) is None
    assert followed_instructions(exchange(asked, "1 and 2")).reason == "no JSON"


def test_only_the_last_question_counts_and_only_what_is_asked() -> None:
    turns = [
        {"role": "user", "content": "Answer in one word."},
        {"role": "assistant", "content": "Yes"},
        {"role": "user", "content": "Now tell me more about a 12-word limit for JSON files."},
        {"role": "assistant", "content": "It is, as you may know, a rule of old."},
    ]
    assert followed_instructions(Record({"messages": turns}, "x", "")) is None
    assert followed_instructions(exchange("Answer in one word.", None)) is None


def test_answers_that_agree_with_the_gold_are_kept() -> None:
    gold = {"answer": "1/2", "answer_type": "math"}
    for said in ("So \\boxed{0.5}", "0.5", "Half of it, so the answer is 1/2."):
        assert agreeing_answers(exchange("How much?", said, **gold)) is None
    wrong = agreeing_answers(exchange("How much?", "So \\boxed{0.4}", **gold))
    assert wrong.reason == "wrong answer" and "'0.4' and the answer is '1/2'" in wrong.detail
    lost = agreeing_answers(exchange("How much?", "It depends on many things, as everybody here knows.", **gold))
    assert lost.reason == "no answer"
    assert agreeing_answers(exchange("Describe it.", "A cat.")) is None


def test_short_answers_are_found() -> None:
    assert short_answer("Let me see. \\boxed{7}", 3) == "7"
    assert short_answer("First, we add.\nThe answer is **B**.", 3) == "B"
    assert short_answer("所以答案是 12。", 3) == "12"
    assert short_answer("A black cat.", 3) == "A black cat"
    assert short_answer("A black cat on a mat", 3) is None


def test_dialogues_become_prompts_and_open_ones_do_not() -> None:
    made = verifiable_prompts(exchange("2 + 3?", "2 + 3 is 5, so \\boxed{5}", source="sums"))
    assert isinstance(made, Edit)
    assert made.row["answer"] == "5" and made.row["messages"] == [{"role": "user", "content": "2 + 3?"}]
    assert made.row["source"] == "sums"
    open_one = verifiable_prompts(exchange("Describe it.", "A long red train crosses the old bridge at noon."))
    assert open_one.reason == "no short answer"
    broken = verifiable_prompts(exchange("Where?", "\\boxed{[5, 5, 1, 1]}", answer="[5, 5, 1, 1]", answer_type="bbox"))
    assert broken.reason == "answer cannot be checked" and "without area" in broken.detail
    prompt = exchange("2 + 3?", None, answer="5", answer_type="integer")
    verdict = verifiable_prompts(prompt)
    assert verdict is None or verdict.row["answer"] == "5"
    with pytest.raises(BadRow):
        verifiable_prompts(exchange("2 + 3?", None))
